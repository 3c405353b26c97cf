// Faults of a zone's polygon: the same checks, in the same order, as crates/config/src/polygon.rs. Keep the two alike; the tests of both use
// the same polygons.

import { type Point, area } from "../lib/geometry";

/** Smallest area as a fraction of the picture, as in polygon.rs. */
export const MIN_AREA = 1e-4;

export type PolygonFault =
  | { readonly code: "few"; readonly points: number }
  | { readonly code: "outside"; readonly point: number }
  | { readonly code: "identical"; readonly first: number; readonly second: number }
  /** Edge `first` runs from corner `first` to the next one. */
  | { readonly code: "cross"; readonly first: number; readonly second: number }
  | { readonly code: "area"; readonly area: number };

export function polygonFaults(corners: readonly Point[]): PolygonFault[] {
  const n = corners.length;
  const found: PolygonFault[] = [];
  corners.forEach((corner, point) => {
    if (!corner.every((value) => value >= 0 && value <= 1)) found.push({ code: "outside", point });
  });
  if (n < 3) found.push({ code: "few", points: n });
  if (found.length > 0) return found;
  for (let first = 0; first < n; first += 1) {
    const second = (first + 1) % n;
    if (isSame(corners[first]!, corners[second]!)) found.push({ code: "identical", first, second });
  }
  if (found.length > 0) return found;
  for (let first = 0; first < n; first += 1) {
    for (let second = first + 1; second < n; second += 1) {
      // Neighbouring edges share a corner. They overlap only if one folds back, which leaves no area or crosses another edge.
      const neighbours = second === first + 1 || (first === 0 && second === n - 1);
      const [a, b, c, d] = [corners[first]!, corners[(first + 1) % n]!, corners[second]!, corners[(second + 1) % n]!];
      if (!neighbours && cross(a, b, c, d)) found.push({ code: "cross", first, second });
    }
  }
  const size = area(corners);
  if (found.length === 0 && size < MIN_AREA) found.push({ code: "area", area: size });
  return found;
}

function isSame(a: Point, b: Point): boolean {
  return a[0] === b[0] && a[1] === b[1];
}

/** Whether the closed segments `ab` and `cd` share a point. */
function cross(a: Point, b: Point, c: Point, d: Point): boolean {
  const [cAb, dAb, aCd, bCd] = [side(a, b, c), side(a, b, d), side(c, d, a), side(c, d, b)];
  return (
    (cAb * dAb < 0 && aCd * bCd < 0) ||
    (cAb === 0 && within(a, b, c)) ||
    (dAb === 0 && within(a, b, d)) ||
    (aCd === 0 && within(c, d, a)) ||
    (bCd === 0 && within(c, d, b))
  );
}

function side(p: Point, q: Point, r: Point): number {
  return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0]);
}

function within(p: Point, q: Point, r: Point): boolean {
  return [0, 1].every((axis) => {
    const [low, high] = [Math.min(p[axis]!, q[axis]!), Math.max(p[axis]!, q[axis]!)];
    return low <= r[axis]! && r[axis]! <= high;
  });
}
