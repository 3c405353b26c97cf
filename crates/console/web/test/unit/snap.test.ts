import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { type Point, distance } from "../../src/lib/geometry";
import { snap } from "../../src/zones/snap";

/** A picture 1000 × 500 pixels on the screen. */
const SCALE = { x: 1000, y: 500 };
const REACH = 9;
const SQUARE: Point[] = [
  [0.3, 0.3],
  [0.6, 0.3],
  [0.6, 0.6],
  [0.3, 0.6],
];

describe("snapping", () => {
  it("takes a corner before an edge, and takes it exactly", () => {
    const odd: Point[] = [
      [1 / 3, 1 / 3],
      [0.6, 0.3],
      [0.6, 0.6],
    ];
    assert.deepEqual(snap([1 / 3 + 0.004, 1 / 3], [odd], SCALE, REACH), { point: [1 / 3, 1 / 3], to: "corner" });
  });

  it("measures in pixels, not in fractions", () => {
    // 0.012 is 12 pixels across and 6 pixels down.
    assert.equal(snap([0.45, 0.312], [SQUARE], SCALE, REACH).to, "edge");
    assert.equal(snap([0.312, 0.45], [SQUARE], SCALE, REACH).to, null);
    assert.equal(snap([0.5, 0.012], [], SCALE, REACH).to, "border");
    assert.equal(snap([0.012, 0.5], [], SCALE, REACH).to, null);
  });

  it("projects to an edge at a right angle on the screen", () => {
    assert.deepEqual(snap([0.45, 0.29], [SQUARE], SCALE, REACH), { point: [0.45, 0.3], to: "edge" });
  });

  it("goes to the border and to the picture's corners, from outside as well", () => {
    assert.deepEqual(snap([0.005, 0.4], [], SCALE, REACH), { point: [0, 0.4], to: "border" });
    assert.deepEqual(snap([0.996, 0.99], [], SCALE, REACH), { point: [1, 1], to: "border" });
    assert.deepEqual(snap([-0.3, 0.4], [], SCALE, REACH), { point: [0, 0.4], to: "border" });
  });

  it("meets the point where another zone's edge reaches the border", () => {
    const band: Point[] = [
      [0, 0.5],
      [1, 0.7],
      [1, 1],
      [0, 1],
    ];
    assert.deepEqual(snap([0.995, 0.71], [band], SCALE, REACH), { point: [1, 0.7], to: "corner" });
    const slanted: Point[] = [
      [-0.5, 0.2],
      [0.5, 0.6],
      [0.5, 0.9],
    ];
    assert.deepEqual(snap([0.004, 0.405], [slanted], SCALE, REACH), { point: [0, 0.4], to: "edge" });
  });

  it("never moves a point inside the picture further than its reach, and always ends inside", () => {
    const coordinate = fc.double({ min: -0.2, max: 1.2, noNaN: true });
    const point = fc.tuple(coordinate, coordinate) as fc.Arbitrary<Point>;
    fc.assert(
      fc.property(point, fc.array(fc.array(point, { minLength: 3, maxLength: 6 }), { maxLength: 4 }), (at, others) => {
        const { point: to } = snap(at, others, SCALE, REACH);
        assert.ok(to.every((c) => c >= 0 && c <= 1));
        const inside = at.every((c) => c >= 0 && c <= 1);
        // Half a pixel for the rounding of coordinates, √2 for a corner reached from both sides.
        if (inside) assert.ok(distance(at, to, SCALE) <= REACH * Math.SQRT2 + 0.1);
      }),
    );
  });
});
