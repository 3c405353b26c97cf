// Point pairs of a calibration: a point of the picture and the same point of the ground. The fit itself is the server's.

import { type Point, isPoint } from "../lib/geometry";
import { property, textProperty } from "../lib/request";

/** The server refuses fewer (crates/engine/src/geometry/calibration.rs). */
export const MIN_PAIRS = 4;
/** Bounds on what is accepted from a page or a reply. */
const MAX_PAIRS = 200;
const MAX_LINES = 2000;
const MAX_LINE_POINTS = 2000;

/** `[longitude, latitude]` in degrees, or metres on a local plane. */
export type Ground = readonly [number, number];

export interface Pair {
  /** Identifies the pair in this page. */
  readonly key: number;
  readonly picture: Point;
  /** `null`: not entered yet. */
  readonly ground: Ground | null;
}

let lastKey = 0;

export function newPair(picture: Point, ground: Ground | null = null): Pair {
  lastKey += 1;
  return { key: lastKey, picture, ground };
}

/** Reads `points` of a calibration. What is not a pair is an error that names its place. */
export function parsePairs(value: unknown): Pair[] {
  if (!Array.isArray(value) || value.length > MAX_PAIRS) throw new Error(`points: not a list of at most ${MAX_PAIRS}`);
  return value.map((item: unknown, index) => {
    const [picture, ground] = [property(item, "picture"), property(item, "ground")];
    if (!isPoint(picture)) throw new Error(`points[${index}].picture: not [x, y]`);
    if (!isPoint(ground)) throw new Error(`points[${index}].ground: not [x, y]`);
    return newPair(picture, ground);
  });
}

/** Pairs that have both halves, in the shape of `calibration.points`. */
export function pairsToJson(pairs: readonly Pair[]): { picture: Point; ground: Ground }[] {
  return pairs.flatMap(({ picture, ground }) => (ground ? [{ picture, ground }] : []));
}

/** Degrees of longitude and latitude, or metres on a plane (`local:…`). */
export function isLocal(crs: string | null): boolean {
  return crs !== null && crs.startsWith("local:");
}

/** A number as people type it: a decimal point, spaces around, perhaps a degree sign. `null` if it is none. */
export function parseNumber(text: string): number | null {
  const trimmed = text.trim().replace(/°$/, "");
  if (!/^[+-]?(\d+\.?\d*|\.\d+)$/.test(trimmed)) return null;
  return Number(trimmed);
}

/** Two numbers in one text, as maps copy them: `113.6253,34.7466`, `113.6253 34.7466`, with full-width commas too. */
export function parseGround(text: string): Ground | null {
  const parts = text
    .trim()
    .replace(/^[[(]|[\])]$/g, "")
    .split(/\s*[,，;；]\s*|\s+/);
  const [x, y] = parts.map(parseNumber);
  return parts.length === 2 && x !== undefined && y !== undefined && x !== null && y !== null ? [x, y] : null;
}

/** Whether a ground point may be sent: degrees within their ranges. */
export function isGroundInRange([x, y]: Ground, crs: string | null): boolean {
  return isLocal(crs) || (Math.abs(x) <= 180 && Math.abs(y) <= 90);
}

export type Line = readonly Point[];

/** What the server found. Lines are in fractions of the picture, and may leave it. */
export interface Fit {
  /** Metres, in the order of the pairs that were sent. */
  readonly residuals: readonly number[];
  readonly rms: number;
  readonly gridStep: number;
  readonly grid: readonly Line[];
  readonly cells: readonly { readonly code: string; readonly lines: readonly Line[] }[];
  /** Where the position's uncertainty reaches `max_uncertainty_m`. */
  readonly limit: readonly Line[];
}

/** Reads a reply; `null` if it is none. */
export function parseFit(body: unknown, pairs: number): Fit | null {
  const [residuals, rms] = [property(body, "residuals_m"), property(body, "rms_m")];
  if (!Array.isArray(residuals) || residuals.length !== pairs || !residuals.every(isFiniteNumber) || !isFiniteNumber(rms)) return null;
  const grid = property(body, "grid");
  const step = property(grid, "step_m");
  const cells = property(body, "cells");
  return {
    residuals: residuals as number[],
    rms,
    gridStep: isFiniteNumber(step) ? step : 0,
    grid: linesOf(property(grid, "lines")),
    cells: (Array.isArray(cells) ? cells.slice(0, MAX_LINES) : []).map((cell: unknown) => ({
      code: textProperty(cell, "code") ?? "",
      lines: linesOf(property(cell, "lines")),
    })),
    limit: linesOf(property(body, "limit")),
  };
}

function isFiniteNumber(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value);
}

function linesOf(value: unknown): Line[] {
  if (!Array.isArray(value)) return [];
  return value.slice(0, MAX_LINES).flatMap((line: unknown) => {
    const points = Array.isArray(line) ? line.slice(0, MAX_LINE_POINTS).filter(isPoint) : [];
    return points.length >= 2 ? [points] : [];
  });
}
