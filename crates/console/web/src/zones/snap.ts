// Snapping of a corner to what is near it: corners of other zones first, then where an edge meets the border, edges, the picture's border.

import { type Point, type Scale, distance, nearestOnSegment, settle } from "../lib/geometry";

export type SnapKind = "corner" | "edge" | "border";

export interface Snapped {
  readonly point: Point;
  /** What it was snapped to; `null`: nothing was near. */
  readonly to: SnapKind | null;
}

const PICTURE_CORNERS: readonly Point[] = [
  [0, 0],
  [1, 0],
  [1, 1],
  [0, 1],
];

/**
 * The point that `point` snaps to. `others` are the polygons that it may snap to, without its own. `reach` is in the pixels of `scale`. The
 * result lies in the picture and has the precision of coordinates; a corner of another zone is taken as it is.
 */
export function snap(point: Point, others: readonly (readonly Point[])[], scale: Scale, reach: number): Snapped {
  const free = settle(point);
  const corners = others.flat().filter(isInside);
  const corner = nearest(point, [...corners, ...PICTURE_CORNERS], scale, reach);
  if (corner) return { point: corner, to: corners.includes(corner) ? "corner" : "border" };

  const onBorder = borderOf(point, scale, reach);
  const edges = others.flatMap((polygon) => polygon.map((a, i): [Point, Point] => [a, polygon[(i + 1) % polygon.length]!]));
  if (onBorder) {
    const crossings = edges.flatMap(([a, b]) => crossingsWithBorder(a, b));
    const meeting = nearest(point, crossings.map(settle), scale, reach);
    return { point: meeting ?? settle(onBorder), to: meeting ? "edge" : "border" };
  }
  const onEdge = nearest(point, edges.map(([a, b]) => nearestOnSegment(point, a, b, scale)).filter(isInside), scale, reach);
  return onEdge ? { point: settle(onEdge), to: "edge" } : { point: free, to: null };
}

function isInside([x, y]: Point): boolean {
  return x >= 0 && x <= 1 && y >= 0 && y <= 1;
}

function nearest(point: Point, candidates: readonly Point[], scale: Scale, reach: number): Point | null {
  let best: Point | null = null;
  let least = reach;
  for (const candidate of candidates) {
    const away = distance(point, candidate, scale);
    if (away <= least && (best === null || away < least)) [best, least] = [candidate, away];
  }
  return best;
}

/** The point on the picture's border if one is within reach, or if `point` lies outside. */
function borderOf([x, y]: Point, scale: Scale, reach: number): Point | null {
  const [sx, sy] = [toBorder(x, reach / scale.x), toBorder(y, reach / scale.y)];
  if (sx === null && sy === null) return null;
  return [sx ?? x, sy ?? y];
}

function toBorder(value: number, reach: number): number | null {
  if (value <= reach) return 0;
  if (value >= 1 - reach) return 1;
  return null;
}

function crossingsWithBorder(a: Point, b: Point): Point[] {
  return [0, 1].flatMap((axis) =>
    [0, 1].flatMap((border) => {
      const [from, to] = [a[axis]!, b[axis]!];
      if (from === to || Math.min(from, to) > border || Math.max(from, to) < border) return [];
      const share = (border - from) / (to - from);
      const other = a[1 - axis]! + (b[1 - axis]! - a[1 - axis]!) * share;
      const point: Point = axis === 0 ? [border, other] : [other, border];
      return isInside(point) ? [point] : [];
    }),
  );
}
