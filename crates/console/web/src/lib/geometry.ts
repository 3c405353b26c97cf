// Points and segments in fractions of a picture (origin top left, both axes 0..1). Distances are in pixels: fractions are not square.

/** `[x, y]` as fractions of the picture's width and height. */
export type Point = readonly [number, number];

/** Whether a value from outside is a point; it may lie outside the picture. */
export function isPoint(value: unknown): value is Point {
  return Array.isArray(value) && value.length === 2 && value.every((c) => typeof c === "number" && Number.isFinite(c));
}

/** Pixels per whole picture on each axis. */
export interface Scale {
  readonly x: number;
  readonly y: number;
}

/**
 * Decimals of a coordinate set by hand: 0.0001 is 0.2 pixels at 1080p, a tenth of what a hand can aim at, and short in the file.
 */
const DECIMALS = 1e4;

/** Points that a label's place is chosen from, along each side of the polygon's bounding box. */
const RASTER = 9;

export function clamp(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high);
}

/** Rounded to the precision of coordinates and moved into the picture. */
export function settle([x, y]: Point): Point {
  return [settleValue(x), settleValue(y)];
}

function settleValue(value: number): number {
  return Math.round(clamp(value, 0, 1) * DECIMALS) / DECIMALS;
}

export function distance(a: Point, b: Point, scale: Scale): number {
  return Math.hypot((a[0] - b[0]) * scale.x, (a[1] - b[1]) * scale.y);
}

/** The point of the segment `ab` nearest to `p`, by distance in pixels. */
export function nearestOnSegment(p: Point, a: Point, b: Point, scale: Scale): Point {
  const along: Point = [(b[0] - a[0]) * scale.x, (b[1] - a[1]) * scale.y];
  const to: Point = [(p[0] - a[0]) * scale.x, (p[1] - a[1]) * scale.y];
  const length2 = along[0] * along[0] + along[1] * along[1];
  const share = length2 === 0 ? 0 : clamp((to[0] * along[0] + to[1] * along[1]) / length2, 0, 1);
  return [a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share];
}

export function middle(a: Point, b: Point): Point {
  return settle([(a[0] + b[0]) / 2, (a[1] + b[1]) / 2]);
}

/** Whether `p` is inside the polygon, by the even-odd rule. */
export function contains(polygon: readonly Point[], [x, y]: Point): boolean {
  let inside = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i, i += 1) {
    const [xi, yi] = polygon[i]!;
    const [xj, yj] = polygon[j]!;
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
  }
  return inside;
}

/** Area by the shoelace formula, as a fraction of the picture. */
export function area(polygon: readonly Point[]): number {
  let twice = 0;
  polygon.forEach((a, i) => {
    const b = polygon[(i + 1) % polygon.length]!;
    twice += a[0] * b[1] - b[0] * a[1];
  });
  return Math.abs(twice) / 2;
}

/** A point inside the polygon for its label: the centroid, or else the middle of the widest span at the centroid's height. */
export function labelPoint(polygon: readonly Point[]): Point {
  const n = polygon.length;
  if (n === 0) return [0.5, 0.5];
  let [twice, cx, cy] = [0, 0, 0];
  polygon.forEach((a, i) => {
    const b = polygon[(i + 1) % n]!;
    const cross = a[0] * b[1] - b[0] * a[1];
    twice += cross;
    cx += (a[0] + b[0]) * cross;
    cy += (a[1] + b[1]) * cross;
  });
  const mean: Point = [polygon.reduce((sum, p) => sum + p[0], 0) / n, polygon.reduce((sum, p) => sum + p[1], 0) / n];
  const centroid: Point = Math.abs(twice) < 1e-9 ? mean : [cx / (3 * twice), cy / (3 * twice)];
  if (contains(polygon, centroid)) return centroid;
  const crossings = polygon
    .flatMap((a, i) => {
      const b = polygon[(i + 1) % n]!;
      return a[1] > centroid[1] === b[1] > centroid[1] ? [] : [a[0] + ((b[0] - a[0]) * (centroid[1] - a[1])) / (b[1] - a[1])];
    })
    .sort((a, b) => a - b);
  let best: readonly [number, Point] = [0, mean];
  for (let i = 0; i + 1 < crossings.length; i += 2) {
    const width = crossings[i + 1]! - crossings[i]!;
    if (width > best[0]) best = [width, [(crossings[i]! + crossings[i + 1]!) / 2, centroid[1]]];
  }
  return best[1];
}

/**
 * The point of `polygon` for its label that keeps clear of the polygons `above` it: of points on a raster, the one nearest to where the label
 * would be without them. `half` is half of the label's width and height. Where there is no room, the label is where it would be anyway.
 */
export function clearLabelPoint(polygon: readonly Point[], above: readonly (readonly Point[])[], half: Point): Point {
  const wanted = labelPoint(polygon);
  const corners = ([x, y]: Point): Point[] => [-1, 0, 1].flatMap((i) => [-1, 1].map((j): Point => [x + i * half[0], y + j * half[1]]));
  const isClear = (point: Point) => !corners(point).some((corner) => above.some((other) => contains(other, corner)));
  if (isClear(wanted)) return wanted;
  const [xs, ys] = [polygon.map(([x]) => x), polygon.map(([, y]) => y)];
  const [left, top, width, height] = [
    Math.min(...xs),
    Math.min(...ys),
    Math.max(...xs) - Math.min(...xs),
    Math.max(...ys) - Math.min(...ys),
  ];
  const steps = Array.from({ length: RASTER }, (_, i) => (i + 0.5) / RASTER);
  const raster = steps.flatMap((x) => steps.map((y): Point => [left + x * width, top + y * height]));
  const unit: Scale = { x: 1, y: 1 };
  const clear = raster.filter((point) => corners(point).every((corner) => contains(polygon, corner)) && isClear(point));
  return (
    clear.reduce<Point | null>((best, p) => (best && distance(best, wanted, unit) <= distance(p, wanted, unit) ? best : p), null) ?? wanted
  );
}
