// Approved signs of one view: boxes with who may hang them there. Pure.

import { type Point, clamp, settle } from "../lib/geometry";

/** As crates/config/src/edit/signs.rs. */
export const MAX_SIGNS = 500;
/** Narrower or lower boxes cannot be taken hold of. */
export const MIN_SIDE = 0.004;

/** Left, top, right, bottom as fractions of the picture. */
export type Box = readonly [number, number, number, number];

export interface Sign {
  /** Identifies the sign in this page. */
  readonly key: number;
  /** Its place in the file; `null`: new. */
  readonly index: number | null;
  readonly box: Box;
  readonly label: string;
  readonly note: string;
  readonly permit: string;
  /** `2027-06-30`; empty: without end. */
  readonly validUntil: string;
}

/** What the newest look found. */
export interface Found {
  readonly key: number;
  readonly box: Box;
  readonly label: string;
  readonly score: number;
  /** One of the signs that are saved. */
  readonly approved: boolean;
}

export interface Label {
  readonly id: string;
  readonly label: string;
}

let lastKey = 0;

function nextKey(): number {
  lastKey += 1;
  return lastKey;
}

function objects(value: unknown, name: string): Record<string, unknown>[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value) || value.length > MAX_SIGNS) throw new Error(`${name}: not a list of at most ${MAX_SIGNS}`);
  return value.map((item: unknown, index) => {
    if (typeof item !== "object" || item === null) throw new Error(`${name}[${index}]: not an object`);
    return item as Record<string, unknown>;
  });
}

function boxOf(value: unknown, at: string): Box {
  if (!Array.isArray(value) || value.length !== 4 || !value.every((side) => typeof side === "number" && Number.isFinite(side))) {
    throw new Error(`${at}.box: not four numbers`);
  }
  return value as unknown as Box;
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** Reads signs from JSON. What is none is an error that names its place, as nothing may be lost by saving. */
export function parseSigns(value: unknown): Sign[] {
  return objects(value, "signs").map((sign, index) => {
    if (typeof sign["label"] !== "string") throw new Error(`signs[${index}].label: not a string`);
    return {
      key: nextKey(),
      index: typeof sign["index"] === "number" ? sign["index"] : null,
      box: boxOf(sign["box"], `signs[${index}]`),
      label: sign["label"],
      note: text(sign["note"]),
      permit: text(sign["permit"]),
      validUntil: text(sign["valid_until"]),
    };
  });
}

export function parseFound(value: unknown): Found[] {
  return objects(value, "found").map((found, index) => ({
    key: nextKey(),
    box: boxOf(found["box"], `found[${index}]`),
    label: text(found["label"]),
    score: typeof found["score"] === "number" ? found["score"] : 0,
    approved: found["approved"] === true,
  }));
}

export function parseLabels(value: unknown): Label[] {
  return objects(value, "labels").map((label) => ({ id: text(label["id"]), label: text(label["label"]) || text(label["id"]) }));
}

/** The form value: empty fields are left out. */
export function signsToJson(signs: readonly Sign[]): unknown[] {
  return signs.map(({ index, box, label, note, permit, validUntil }) => ({
    ...(index === null ? {} : { index }),
    box,
    label,
    ...(note.trim() ? { note: note.trim() } : {}),
    ...(permit.trim() ? { permit: permit.trim() } : {}),
    ...(validUntil ? { valid_until: validUntil } : {}),
  }));
}

export function newSign(box: Box, label: string): Sign {
  return { key: nextKey(), index: null, box, label, note: "", permit: "", validUntil: "" };
}

/** A box between two corners, inside the picture and large enough to be taken hold of. */
export function boxBetween(a: Point, b: Point): Box {
  const [[ax, ay], [bx, by]] = [settle(a), settle(b)];
  const span = (from: number, to: number): readonly [number, number] => {
    const [low, high] = [Math.min(from, to), Math.max(from, to)];
    if (high - low >= MIN_SIDE) return [low, high];
    const start = clamp(low, 0, 1 - MIN_SIDE);
    return [start, settle([start + MIN_SIDE, 0])[0]];
  };
  const [left, right] = span(ax, bx);
  const [top, bottom] = span(ay, by);
  return [left, top, right, bottom];
}

/** The corner of a box: 0 is the upper left, 1 the lower right one. */
export function cornerOf(box: Box, corner: 0 | 1): Point {
  return corner === 0 ? [box[0], box[1]] : [box[2], box[3]];
}

export function withCorner(box: Box, corner: 0 | 1, to: Point): Box {
  return corner === 0 ? boxBetween(to, cornerOf(box, 1)) : boxBetween(cornerOf(box, 0), to);
}

/** The box moved as far as it stays inside the picture. */
export function movedBox(box: Box, [dx, dy]: Point): Box {
  const x = clamp(dx, -box[0], 1 - box[2]);
  const y = clamp(dy, -box[1], 1 - box[3]);
  const [left, top] = settle([box[0] + x, box[1] + y]);
  const [right, bottom] = settle([box[2] + x, box[3] + y]);
  return [left, top, right, bottom];
}

/** Share of two boxes that both cover, 0 to 1. */
export function overlap(a: Box, b: Box): number {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  if (width <= 0 || height <= 0) return 0;
  const both = width * height;
  const area = (box: Box) => (box[2] - box[0]) * (box[3] - box[1]);
  return both / (area(a) + area(b) - both);
}

/** What was found and is none of the signs: at the same place with half of the same size it is one of them, as the engine compares. */
export function unapproved(found: readonly Found[], signs: readonly Sign[]): Found[] {
  return found.filter(({ box, label }) => !signs.some((sign) => sign.label === label && overlap(sign.box, box) >= 0.5));
}

export function isExpired(sign: Sign, today: string): boolean {
  return sign.validUntil !== "" && today !== "" && sign.validUntil < today;
}
