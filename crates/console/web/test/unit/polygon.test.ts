// The polygons of crates/config/src/polygon.rs, and properties against slow oracles.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { type Point, area, clearLabelPoint, contains, labelPoint, settle } from "../../src/lib/geometry";
import { type PolygonFault, polygonFaults } from "../../src/zones/polygon";

/** The server's words for a fault, to compare with the tests of polygon.rs. */
function words(fault: PolygonFault, corners: readonly Point[]): string {
  const n = corners.length;
  switch (fault.code) {
    case "few":
      return `${fault.points} points`;
    case "outside":
      return `point ${fault.point} [${corners[fault.point]!.join(", ")}] is outside the image`;
    case "identical":
      return `points ${fault.first} and ${fault.second} are identical`;
    case "cross":
      return `edges ${fault.first}-${(fault.first + 1) % n} and ${fault.second}-${(fault.second + 1) % n} cross`;
    case "area":
      return `area is ${(fault.area * 100).toFixed(4)} % of the image, too small to contain anything`;
  }
}

const faults = (corners: Point[]) => polygonFaults(corners).map((fault) => words(fault, corners));

describe("faults of a polygon, as polygon.rs has them", () => {
  const cases: [string, Point[], string[]][] = [
    [
      "a triangle",
      [
        [0.1, 0.1],
        [0.9, 0.1],
        [0.5, 0.9],
      ],
      [],
    ],
    [
      "a concave one",
      [
        [0, 0],
        [0.5, 0.4],
        [1, 0],
        [0.5, 1],
      ],
      [],
    ],
    [
      "outside",
      [
        [0.1, 0.1],
        [1.2, 0.1],
        [0.5, -0.1],
      ],
      ["point 1 [1.2, 0.1] is outside the image", "point 2 [0.5, -0.1] is outside the image"],
    ],
    [
      "crossing",
      [
        [0.1, 0.1],
        [0.9, 0.9],
        [0.9, 0.1],
        [0.1, 0.9],
      ],
      ["edges 0-1 and 2-3 cross"],
    ],
    [
      "a repeated corner",
      [
        [0.1, 0.1],
        [0.1, 0.1],
        [0.9, 0.1],
        [0.5, 0.9],
      ],
      ["points 0 and 1 are identical"],
    ],
    [
      "no area",
      [
        [0.1, 0.1],
        [0.5, 0.5],
        [0.9, 0.9],
      ],
      ["area is 0.0000 % of the image, too small to contain anything"],
    ],
    [
      "the first corner repeated at the end",
      [
        [0.1, 0.1],
        [0.9, 0.1],
        [0.5, 0.9],
        [0.1, 0.1],
      ],
      ["points 3 and 0 are identical"],
    ],
    [
      "two corners",
      [
        [0.1, 0.1],
        [0.9, 0.1],
      ],
      ["2 points"],
    ],
    [
      "not a number",
      [
        [Number.NaN, 0.1],
        [0.9, 0.1],
        [0.5, 0.9],
      ],
      ["point 0 [NaN, 0.1] is outside the image"],
    ],
  ];
  for (const [name, corners, expected] of cases) it(name, () => assert.deepEqual(faults(corners), expected));
});

/** Multiples of 1/1024, with which every product is exact: the order of the arithmetic cannot decide whether three points are on a line. */
const coordinate = fc.integer({ min: 0, max: 1024 }).map((n) => n / 1024);
const point = fc.tuple(coordinate, coordinate) as fc.Arbitrary<Point>;

describe("geometry", () => {
  it("a star around a centre never crosses itself", () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0.1, max: 0.45, noNaN: true }), { minLength: 3, maxLength: 12 }), (radii) => {
        const star = radii.map((radius, i): Point => {
          const angle = (2 * Math.PI * i) / radii.length;
          return [0.5 + radius * Math.cos(angle), 0.5 + radius * Math.sin(angle)];
        });
        assert.deepEqual(polygonFaults(star), []);
      }),
    );
  });

  it("faults do not depend on the direction or the first corner", () => {
    fc.assert(
      fc.property(fc.array(point, { minLength: 3, maxLength: 8 }), fc.nat(7), (corners, by) => {
        const count = (p: readonly Point[]) =>
          polygonFaults(p)
            .map(({ code }) => code)
            .sort();
        assert.deepEqual(count([...corners].reverse()), count(corners));
        const turned = corners.map((_, i) => corners[(i + by) % corners.length]!);
        assert.deepEqual(count(turned), count(corners));
      }),
    );
  });

  it("the area is the share of random points inside", () => {
    const corners: Point[] = [
      [0.1, 0.2],
      [0.8, 0.1],
      [0.6, 0.5],
      [0.9, 0.9],
      [0.2, 0.8],
    ];
    let inside = 0;
    for (let i = 0; i < 200; i += 1)
      for (let j = 0; j < 200; j += 1) if (contains(corners, [(i + 0.5) / 200, (j + 0.5) / 200])) inside += 1;
    assert.ok(Math.abs(inside / 40_000 - area(corners)) < 0.003);
  });

  it("a label lies in its polygon, and clear of smaller ones where there is room", () => {
    const around: Point[] = [
      [0, 0],
      [1, 0],
      [1, 1],
      [0, 1],
    ];
    const horseshoe: Point[] = [
      [0, 0],
      [1, 0],
      [1, 1],
      [0.7, 1],
      [0.7, 0.3],
      [0.3, 0.3],
      [0.3, 1],
      [0, 1],
    ];
    assert.ok(contains(horseshoe, labelPoint(horseshoe)));
    const centre: Point[] = [
      [0.3, 0.3],
      [0.7, 0.3],
      [0.7, 0.7],
      [0.3, 0.7],
    ];
    const clear = clearLabelPoint(around, [centre], [0.1, 0.02]);
    for (const dx of [-0.1, 0, 0.1]) {
      const at: Point = [clear[0] + dx, clear[1]];
      assert.ok(contains(around, at) && !contains(centre, at));
    }
    assert.deepEqual(clearLabelPoint(around, [around], [0.1, 0.02]), labelPoint(around));
  });

  it("coordinates settle in the picture with four decimals", () => {
    assert.deepEqual(settle([0.123456, -3]), [0.1235, 0]);
    assert.deepEqual(settle([1.00001, 0.99996]), [1, 1]);
  });
});
