// Foot points of past looks, drawn as dots in the picture: few paths whatever their number.

import { isPoint } from "../lib/geometry";

/** Columns of the raster that foot points are counted in; rows follow from the picture's shape. A dot is then about 1 % of the width. */
const COLUMNS = 120;
/** Steps of intensity; each is one path. */
export const LEVELS = 5;
/** Foot points read at most: a busy camera has a few thousand a week. */
const MAX_POINTS = 200_000;

/** Path data per level, in units of the raster, lowest level first. */
export interface Heat {
  readonly columns: number;
  readonly rows: number;
  readonly paths: readonly string[];
  readonly total: number;
}

/** Counts points, `[x, y]` or `[x, y, count]`, and sorts the raster's cells into levels by the logarithm of their count. */
export function heatOf(points: unknown, aspect: number): Heat {
  const rows = Math.max(1, Math.round(COLUMNS / aspect));
  const counts = new Map<number, number>();
  let total = 0;
  for (const value of Array.isArray(points) ? points.slice(0, MAX_POINTS) : []) {
    const [x, y, weight] = Array.isArray(value) ? (value as unknown[]) : [];
    const point: unknown = [x, y];
    if (!isPoint(point) || point.some((c) => c < 0 || c > 1)) continue;
    const count = typeof weight === "number" && weight > 0 && Number.isFinite(weight) ? weight : 1;
    const cell = Math.min(rows - 1, Math.floor(point[1] * rows)) * COLUMNS + Math.min(COLUMNS - 1, Math.floor(point[0] * COLUMNS));
    counts.set(cell, (counts.get(cell) ?? 0) + count);
    total += count;
  }
  const most = Math.max(1, ...counts.values());
  const paths = Array.from({ length: LEVELS }, () => "");
  for (const [cell, count] of counts) {
    const level = Math.min(LEVELS - 1, Math.floor((Math.log1p(count) / Math.log1p(most)) * LEVELS));
    // A segment of no length with round caps is a dot.
    paths[level] += `M${(cell % COLUMNS) + 0.5} ${Math.floor(cell / COLUMNS) + 0.5}h0`;
  }
  return { columns: COLUMNS, rows, paths, total };
}
