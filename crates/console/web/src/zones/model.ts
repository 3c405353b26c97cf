// Zones of one view as the configuration has them, the edits of a list of zones, and every fault that can be known without the server.

import { type Point, isPoint, settle } from "../lib/geometry";
import { type PolygonFault, polygonFaults } from "./polygon";

/** In the order of the list that the kinds are chosen from. */
export const KINDS = ["watch", "exclude", "permitted", "container", "shop", "privacy"] as const;
export type ZoneKind = (typeof KINDS)[number];

/** As crates/config/src/raw.rs, `ID_PATTERN`. */
export const ID_PATTERN = /^[A-Za-z0-9_-]{1,64}$/;

/** Bounds on what is accepted from a page or a reply; far above any real view. */
const MAX_ZONES = 500;
const MAX_CORNERS = 1000;

/** One zone, in the shape of `[[cameras.zones]]`. */
export interface Zone {
  /** Identifies the zone in this page while its id is edited. Not part of the configuration. */
  readonly key: number;
  readonly id: string;
  readonly kind: ZoneKind;
  readonly polygon: readonly Point[];
  /** Ids of the rules that it applies to; empty: all. */
  readonly rules: readonly string[];
  readonly schedule: string | null;
  /** Fields that this editor does not know; written back as they were read. */
  readonly other: Readonly<Record<string, unknown>>;
}

/** A rule or a schedule that a zone may name. */
export interface Choice {
  readonly id: string;
  /** How the page names it; by default its id. */
  readonly label: string;
}

export interface Context {
  readonly rules: readonly Choice[];
  readonly schedules: readonly Choice[];
}

export type ZoneFault =
  | PolygonFault
  | { readonly code: "id" }
  | { readonly code: "duplicate"; readonly id: string }
  | { readonly code: "no_schedule" }
  | { readonly code: "unknown_schedule"; readonly id: string }
  | { readonly code: "unknown_rule"; readonly id: string };

/** What works and was probably not intended. */
export type ZoneWarning = "permitted_all_rules" | "privacy_rules" | "permitted_schedule_only";

let lastKey = 0;

function nextKey(): number {
  lastKey += 1;
  return lastKey;
}

/** Reads zones from JSON. What is not a zone is an error that names its place, as nothing may be lost by saving. */
export function parseZones(value: unknown): Zone[] {
  if (!Array.isArray(value)) throw new Error("zones: not a list");
  if (value.length > MAX_ZONES) throw new Error(`zones: ${value.length}, at most ${MAX_ZONES} are supported`);
  return value.map(parseZone);
}

function parseZone(value: unknown, index: number): Zone {
  const at = `zones[${index}]`;
  if (typeof value !== "object" || value === null) throw new Error(`${at}: not an object`);
  const { id, kind, polygon, rules, schedule, ...other } = value as Record<string, unknown>;
  if (typeof id !== "string") throw new Error(`${at}.id: not a string`);
  const known = KINDS.find((name) => name === kind);
  if (!known) throw new Error(`${at}.kind: unknown kind ${JSON.stringify(kind)}`);
  if (!Array.isArray(polygon) || polygon.length > MAX_CORNERS || !polygon.every(isPoint)) {
    throw new Error(`${at}.polygon: not a list of at most ${MAX_CORNERS} points [x, y]`);
  }
  const ids: unknown = rules ?? [];
  if (!Array.isArray(ids) || !ids.every((rule) => typeof rule === "string")) throw new Error(`${at}.rules: not a list of strings`);
  if (schedule !== undefined && schedule !== null && typeof schedule !== "string") throw new Error(`${at}.schedule: not a string`);
  return { key: nextKey(), id, kind: known, polygon, rules: ids as string[], schedule: schedule ?? null, other };
}

/** The form value: fields that hold their default are left out, as in a hand-written file. */
export function zonesToJson(zones: readonly Zone[]): unknown[] {
  return zones.map(({ id, kind, polygon, rules, schedule, other }) => ({
    id,
    kind,
    polygon,
    ...(rules.length > 0 ? { rules } : {}),
    ...(schedule !== null ? { schedule } : {}),
    ...other,
  }));
}

/** Faults of each zone, in the zones' order. */
export function zoneFaults(zones: readonly Zone[], context: Context): ZoneFault[][] {
  return zones.map((zone) => {
    const faults: ZoneFault[] = [];
    if (!ID_PATTERN.test(zone.id)) faults.push({ code: "id" });
    else if (zones.some((other) => other !== zone && other.id === zone.id)) faults.push({ code: "duplicate", id: zone.id });
    if (zone.kind === "permitted" && zone.schedule === null) faults.push({ code: "no_schedule" });
    if (zone.schedule !== null && !context.schedules.some(({ id }) => id === zone.schedule)) {
      faults.push({ code: "unknown_schedule", id: zone.schedule });
    }
    for (const id of zone.rules) {
      if (!context.rules.some((rule) => rule.id === id)) faults.push({ code: "unknown_rule", id });
    }
    return [...faults, ...shapeFaults(zone.polygon)];
  });
}

/** Faults by polygon: while one corner is dragged, the other zones are not checked again. */
const known = new WeakMap<readonly Point[], PolygonFault[]>();

function shapeFaults(polygon: readonly Point[]): PolygonFault[] {
  let faults = known.get(polygon);
  if (!faults) {
    faults = polygonFaults(polygon);
    known.set(polygon, faults);
  }
  return faults;
}

/** The corners that a fault is shown at; none for one of the whole zone. */
export function cornersOf(fault: ZoneFault, count: number): number[] {
  switch (fault.code) {
    case "outside":
      return [fault.point];
    case "identical":
      return [fault.first, fault.second];
    case "cross":
      return [fault.first, (fault.first + 1) % count, fault.second, (fault.second + 1) % count];
    default:
      return [];
  }
}

export function zoneWarnings(zone: Zone, context: Context): ZoneWarning[] {
  const found: ZoneWarning[] = [];
  if (zone.kind === "permitted" && zone.rules.length === 0 && context.rules.length > 1) found.push("permitted_all_rules");
  if (zone.kind === "privacy" && zone.rules.length > 0) found.push("privacy_rules");
  if (zone.kind !== "permitted" && zone.schedule !== null) found.push("permitted_schedule_only");
  return found;
}

/** An id that no zone has: `watch-1`, `watch-2`, … */
export function freeId(zones: readonly Zone[], stem: string): string {
  for (let number = 1; ; number += 1) {
    const id = `${stem}-${number}`;
    if (!zones.some((zone) => zone.id === id)) return id;
  }
}

export function newZone(zones: readonly Zone[], kind: ZoneKind, polygon: readonly Point[]): Zone {
  return { key: nextKey(), id: freeId(zones, kind), kind, polygon, rules: [], schedule: null, other: {} };
}

/** A copy beside the original, inside the picture. */
export function duplicateOf(zones: readonly Zone[], zone: Zone): Zone {
  const stem = zone.id.replace(/-\d+$/, "").slice(0, 60) || zone.kind;
  const polygon = translated(zone.polygon, [0.02, 0.02]);
  return { ...zone, key: nextKey(), id: freeId(zones, stem), polygon };
}

export function replaceZone(zones: readonly Zone[], key: number, change: (zone: Zone) => Zone): readonly Zone[] {
  return zones.map((zone) => (zone.key === key ? change(zone) : zone));
}

export function moveCorner(zone: Zone, corner: number, to: Point): Zone {
  return { ...zone, polygon: zone.polygon.map((point, index) => (index === corner ? to : point)) };
}

/** Inserts a corner after corner `after`. */
export function insertCorner(zone: Zone, after: number, at: Point): Zone {
  return { ...zone, polygon: [...zone.polygon.slice(0, after + 1), at, ...zone.polygon.slice(after + 1)] };
}

export function removeCorner(zone: Zone, corner: number): Zone {
  return { ...zone, polygon: zone.polygon.filter((_, index) => index !== corner) };
}

/** The polygon moved by `by`, as far as it stays inside the picture. Corners that were outside stay so. */
export function translated(polygon: readonly Point[], by: Point): readonly Point[] {
  const [dx, dy] = [0, 1].map((axis) => {
    const values = polygon.map((point) => point[axis]!);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    if (low < 0 || high > 1) return 0;
    return Math.min(Math.max(by[axis]!, -low), 1 - high);
  }) as [number, number];
  if (dx === 0 && dy === 0) return polygon;
  return polygon.map(([x, y]) => settle([x + dx, y + dy]));
}

/** Whether two zones say the same in the configuration. */
export function isSameZone(a: Zone, b: Zone): boolean {
  return JSON.stringify(zonesToJson([a])) === JSON.stringify(zonesToJson([b]));
}
