// The copies of the server's rules against the schema of the configuration, which is generated from the server's types.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import fc from "fast-check";
import { MIN_PAIRS, newPair, pairsToJson } from "../../src/calibration/pairs";
import { parseWindows, rowsOf, windowFaults, windowsToJson } from "../../src/hours/schedule";
import { ID_PATTERN, KINDS, parseZones, zonesToJson } from "../../src/zones/model";
import { MIN_AREA } from "../../src/zones/polygon";

const REPOSITORY = join(process.cwd(), "..", "..", "..");

interface Property {
  readonly pattern?: string;
  readonly minItems?: number;
  readonly items?: Property;
}

interface Type {
  readonly properties: Readonly<Record<string, Property>>;
  readonly oneOf: readonly { readonly const: string }[];
}

const schema = JSON.parse(readFileSync(join(REPOSITORY, "configs", "schema", "config.schema.json"), "utf8")) as {
  $defs: Record<string, Type>;
};
const type = (name: string) => schema.$defs[name]!;
const fields = (name: string) => Object.keys(type(name).properties).sort();
const pattern = (name: string, field: string) => type(name).properties[field]!.pattern!;

describe("as the schema of the configuration has it", () => {
  it("a zone has these fields, kinds and ids", () => {
    // The page of permits sets these; the zone editor keeps them.
    const permit = { valid_from: "2026-05-01", valid_until: "2026-10-31", permit: "2026-7", note: "fruit" };
    const zone = { id: "a", kind: "permitted", polygon: [[0, 0]], rules: ["r"], schedule: "s", ...permit };
    const [parsed] = parseZones([zone]);
    assert.deepEqual(parsed!.other, permit, "every other field is known");
    assert.deepEqual(Object.keys(zonesToJson([parsed!])[0] as object).sort(), fields("Zone"));
    assert.deepEqual(
      type("ZoneKind").oneOf.map((kind) => kind.const),
      [...KINDS],
    );
    assert.equal(ID_PATTERN.source, pattern("Zone", "id"));
  });

  it("the smallest area is that of polygon.rs", () => {
    const source = readFileSync(join(REPOSITORY, "crates", "config", "src", "polygon.rs"), "utf8");
    assert.equal(Number(/const MIN_AREA: f64 = ([0-9e.-]+);/.exec(source)?.[1]), MIN_AREA);
  });

  it("a window has these fields", () => {
    const window = { days: ["mon"], from: "06:00", to: "07:00", season: "04-01..10-31" };
    const [parsed] = parseWindows([window]);
    assert.deepEqual(parsed!.other, {}, "every field is known");
    assert.deepEqual(Object.keys(windowsToJson([parsed!])[0] as object).sort(), fields("Window"));
  });

  it("days and times are read as the schema's patterns do", () => {
    const days = type("Window").properties["days"]!.items!.pattern!;
    const near = (regex: string, more: string[]) =>
      fc.oneof(fc.stringMatching(new RegExp(regex)), fc.constantFrom(...more), fc.string({ maxLength: 12 }));
    fc.assert(
      fc.property(near(days, ["mon-", "-mon", "mon-fri-sat", "mon-daily", "workday-fri", "Mon", "mon ", ""]), (day) => {
        assert.equal(rowsOf(day) !== null, new RegExp(days).test(day));
      }),
    );
    fc.assert(
      fc.property(near(pattern("Window", "to"), ["24:01", "6:00", "06:60", "06:00 ", ""]), (to) => {
        const isFault = windowFaults({ days: ["mon"], from: "05:07", to, season: null }).includes("to");
        assert.equal(!isFault, new RegExp(pattern("Window", "to")).test(to));
      }),
    );
  });

  it("a calibration has these pairs", () => {
    assert.equal(type("Calibration").properties["points"]!.minItems, MIN_PAIRS);
    assert.deepEqual(Object.keys(pairsToJson([newPair([0, 0], [1, 1])])[0]!).sort(), fields("PointPair"));
  });
});
