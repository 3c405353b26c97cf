import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { Point } from "../../src/lib/geometry";
import { differences, merged } from "../../src/zones/diff";
import { heatOf } from "../../src/zones/heat";
import { type Zone, duplicateOf, newZone, parseZones, translated, zoneFaults, zoneWarnings, zonesToJson } from "../../src/zones/model";
import { ZoneStore } from "../../src/zones/store";

const CONTEXT = {
  rules: [
    { id: "garbage", label: "garbage" },
    { id: "vendor", label: "vendor" },
  ],
  schedules: [{ id: "market", label: "market" }],
};
const SQUARE: Point[] = [
  [0.1, 0.1],
  [0.4, 0.1],
  [0.4, 0.4],
  [0.1, 0.4],
];
const zone = (id: string, more: object = {}) => ({ id, kind: "watch", polygon: SQUARE, ...more });

describe("zones as JSON", () => {
  it("come back as they were read, with fields that are not known here", () => {
    const zones = [
      zone("a"),
      zone("b", { rules: ["garbage"] }),
      zone("c", { kind: "permitted", schedule: "market", color: "red", note: { by: "x" } }),
      zone("precise", {
        polygon: [
          [1 / 3, 0.123456789],
          [0.9, 0.1],
          [0.5, 0.9],
        ],
      }),
    ];
    assert.deepEqual(zonesToJson(parseZones(zones)), zones);
  });

  it("that are not understood are refused with their place, as saving would lose them", () => {
    const wrong: [unknown, RegExp][] = [
      [{}, /zones: not a list/],
      [[3], /zones\[0\]: not an object/],
      [[zone("a"), zone("b", { kind: "watched" })], /zones\[1\]\.kind: unknown kind "watched"/],
      [
        [
          zone("a", {
            polygon: [
              [0, 0],
              [1, "1"],
              [0, 1],
            ],
          }),
        ],
        /zones\[0\]\.polygon/,
      ],
      [
        [
          zone("a", {
            polygon: [
              [0, 0],
              [1, Number.NaN],
              [0, 1],
            ],
          }),
        ],
        /zones\[0\]\.polygon/,
      ],
      [[zone("a", { rules: "garbage" })], /zones\[0\]\.rules/],
      [[zone("a", { schedule: 3 })], /zones\[0\]\.schedule/],
      [Array.from({ length: 501 }, (_, i) => zone(`z${i}`)), /at most 500/],
      [[zone("a", { polygon: Array.from({ length: 1001 }, () => [0, 0]) })], /polygon/],
    ];
    for (const [value, message] of wrong) assert.throws(() => parseZones(value), message);
  });
});

describe("faults of zones", () => {
  const codes = (value: unknown) => zoneFaults(parseZones(value), CONTEXT).map((faults) => faults.map(({ code }) => code));

  it("are those that the server finds", () => {
    assert.deepEqual(codes([zone("a"), zone("b", { kind: "permitted", schedule: "market" })]), [[], []]);
    assert.deepEqual(codes([zone("a"), zone("a")]), [["duplicate"], ["duplicate"]]);
    assert.deepEqual(codes([zone(""), zone("门前"), zone("x".repeat(65)), zone("a b")]), [["id"], ["id"], ["id"], ["id"]]);
    assert.deepEqual(codes([zone("a", { kind: "permitted" })]), [["no_schedule"]]);
    assert.deepEqual(codes([zone("a", { kind: "permitted", schedule: "fair" })]), [["unknown_schedule"]]);
    assert.deepEqual(codes([zone("a", { rules: ["garbage", "nothing"] })]), [["unknown_rule"]]);
    assert.deepEqual(
      codes([
        zone("a b", {
          polygon: [
            [0, 0],
            [1, 1],
          ],
        }),
      ]),
      [["id", "few"]],
    );
  });

  it("and warnings of what has no effect", () => {
    const warnings = (more: object) => zoneWarnings(parseZones([zone("a", more)])[0]!, CONTEXT);
    assert.deepEqual(warnings({ kind: "permitted", schedule: "market" }), ["permitted_all_rules"]);
    assert.deepEqual(warnings({ kind: "privacy", rules: ["garbage"] }), ["privacy_rules"]);
    assert.deepEqual(warnings({ schedule: "market" }), ["permitted_schedule_only"]);
    assert.deepEqual(warnings({ rules: ["garbage"] }), []);
  });
});

describe("edits", () => {
  const coordinate = fc.integer({ min: 0, max: 1000 }).map((n) => n / 1000);
  const point = fc.tuple(coordinate, coordinate) as fc.Arbitrary<Point>;

  it("moving a zone keeps its shape and stays in the picture", () => {
    fc.assert(
      fc.property(
        fc.array(point, { minLength: 3, maxLength: 6 }),
        fc.double({ min: -2, max: 2, noNaN: true }),
        fc.double({ min: -2, max: 2, noNaN: true }),
        (polygon, dx, dy) => {
          const moved = translated(polygon, [dx, dy]);
          assert.ok(moved.flat().every((c) => c >= 0 && c <= 1));
          for (const axis of [0, 1] as const) {
            const widths = [polygon, moved].map((p) => Math.max(...p.map((q) => q[axis])) - Math.min(...p.map((q) => q[axis])));
            assert.ok(Math.abs(widths[0]! - widths[1]!) <= 1.1e-4);
          }
        },
      ),
    );
  });

  it("a copy has an id of its own", () => {
    const zones: Zone[] = [newZone([], "watch", SQUARE)];
    assert.equal(zones[0]!.id, "watch-1");
    zones.push(duplicateOf(zones, zones[0]!));
    assert.equal(zones[1]!.id, "watch-2");
    assert.equal(duplicateOf(zones, parseZones([zone("x".repeat(64))])[0]!).id.length, 62);
  });

  it("undo and redo go over shapes and properties alike", () => {
    const store = new ZoneStore(parseZones([zone("a"), zone("b")]), CONTEXT, false);
    const [a, b] = store.zones as [Zone, Zone];
    const before = store.committed;
    store.moveCorner(a.key, 0, [0.2, 0.2]);
    store.change(a.key, (z) => ({ ...z, id: "f" }), `id:${a.key}`);
    store.change(a.key, (z) => ({ ...z, id: "front" }), `id:${a.key}`);
    store.change(a.key, (z) => ({ ...z, kind: "permitted", schedule: "market" }));
    store.removeZone(b.key);
    const after = zonesToJson(store.committed);
    for (let i = 0; i < 4; i += 1) store.undo();
    assert.equal(store.committed, before);
    assert.ok(!store.isDirty && !store.canUndo);
    for (let i = 0; i < 4; i += 1) store.redo();
    assert.deepEqual(zonesToJson(store.committed), after);
    assert.equal(store.zones[0]!.id, "front");
  });

  it("a zone of three corners keeps them", () => {
    const store = new ZoneStore(parseZones([zone("a", { polygon: SQUARE })]), CONTEXT, false);
    const key = store.zones[0]!.key;
    assert.ok(store.removeCorner(key, 1));
    assert.ok(!store.removeCorner(key, 1));
    assert.equal(store.zones[0]!.polygon.length, 3);
  });

  it("a drag is no step until it ends, and none if it is cancelled", () => {
    const store = new ZoneStore(parseZones([zone("a")]), CONTEXT, false);
    const moved = store.committed.map((z) => ({ ...z, polygon: translated(z.polygon, [0.1, 0]) }));
    store.preview(moved);
    assert.deepEqual(store.zones, moved);
    store.preview(null);
    assert.ok(!store.canUndo && !store.isDirty);
  });

  it("a viewer changes nothing", () => {
    const store = new ZoneStore(parseZones([zone("a")]), CONTEXT, true);
    store.removeZone(store.zones[0]!.key);
    store.startDraft("watch");
    assert.equal(store.zones.length, 1);
    assert.equal(store.draft, null);
  });
});

describe("two versions", () => {
  const base = parseZones([zone("a"), zone("b"), zone("c"), zone("d")]);
  const mine = parseZones([zone("a", { kind: "exclude" }), zone("b"), zone("c", { rules: ["garbage"] }), zone("mine")]);
  const theirs = parseZones([
    zone("a"),
    zone("b", { polygon: SQUARE.slice(0, 3) }),
    zone("c", { rules: ["vendor"] }),
    zone("d"),
    zone("theirs"),
  ]);
  const found = differences(base, mine, theirs);

  it("differ in what either changed, and only a change by both is left to a person", () => {
    assert.deepEqual(
      found.map(({ id, fields, proposed }) => [id, fields, proposed]),
      [
        ["a", ["kind"], "mine"],
        ["b", ["polygon"], "theirs"],
        ["c", ["rules"], null],
        ["mine", [], "mine"],
        ["d", [], "mine"],
        ["theirs", [], "theirs"],
      ],
    );
  });

  it("merge by the choice of each zone", () => {
    const choice = new Map(found.map(({ id, proposed }) => [id, proposed ?? ("theirs" as const)]));
    const zones = merged(mine, theirs, found, choice);
    assert.deepEqual(
      zones.map(({ id }) => id),
      ["a", "b", "c", "theirs", "mine"],
    );
    assert.equal(zones[0]!.kind, "exclude");
    assert.equal(zones[1]!.polygon.length, 3);
    assert.deepEqual(zones[2]!.rules, ["vendor"]);
  });

  it("merge to all of mine, and to all of theirs", () => {
    const all = (side: "mine" | "theirs") => merged(mine, theirs, found, new Map(found.map(({ id }) => [id, side])));
    const sorted = (zones: readonly Zone[]) => zonesToJson([...zones].sort((x, y) => x.id.localeCompare(y.id)));
    assert.deepEqual(sorted(all("mine")), sorted(mine));
    assert.deepEqual(sorted(all("theirs")), sorted(theirs));
  });

  it("merged, undo comes back to mine, and the merge is unsaved unless it is theirs", () => {
    const store = new ZoneStore(base, CONTEXT, false);
    store.commit(mine);
    store.takeMerged(merged(mine, theirs, found, new Map(found.map(({ id, proposed }) => [id, proposed ?? ("mine" as const)]))), theirs);
    assert.ok(store.isDirty);
    assert.equal(store.base, theirs);
    store.undo();
    assert.equal(store.committed, mine);
    store.takeMerged([...theirs], theirs);
    assert.ok(!store.isDirty);
  });
});

describe("foot points", () => {
  it("are counted by place, with what is not a point left out", () => {
    const heat = heatOf([[0.5, 0.5], [0.5, 0.5, 9], [2, 0.5], ["a", 1], null, [0.1, Number.NaN], [1, 1]], 16 / 9);
    assert.equal(heat.total, 11);
    const dots = heat.paths.map((path) => path.split("M").length - 1);
    assert.equal(
      dots.reduce((sum, n) => sum + n, 0),
      2,
    );
    assert.equal(dots[4], 1);
    assert.equal(heatOf("nothing", 1).total, 0);
  });
});
