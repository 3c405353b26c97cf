// The style of the map of cells: the same steps as the server's drawing, and a basemap whose contents come from outside.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { basemapLayers, cellLayers, extentOf, fillColor, type Palette } from "../../src/pages/cell-map-style";

const palette: Palette = {
  ground: "#fff", line: "#666", none: "none", few: "few", some: "some", many: "many", open: "#a00", done: "#555",
  water: "#cde", green: "#ded", road: "#ccc", building: "#eee",
};

describe("the map of cells", () => {
  it("has the steps of the server's drawing", () => {
    const source = readFileSync(join(process.cwd(), "..", "src", "pages", "cases", "map.rs"), "utf8");
    const steps = /0 => "none",\s+1\.\.(\d+) => "few",\s+(\d+)\.\.(\d+) => "some",\s+_ => "many"/.exec(source);
    assert.ok(steps, "class_of in map.rs");
    assert.deepEqual(fillColor(palette), ["step", ["get", "cases"], "none", 1, "few", Number(steps[1]), "some", Number(steps[3]), "many"]);
    assert.equal(steps[1], steps[2]);
  });

  it("shows through to a basemap", () => {
    const opacity = (hasBasemap: boolean) => (cellLayers(palette, hasBasemap)[0]!["paint"] as Record<string, number>)["fill-opacity"]!;
    assert.ok(opacity(true) < opacity(false));
  });

  it("draws what the usual schemas have, each layer once, water over land and roads over both", () => {
    const layers = basemapLayers(["earth", "roads", "water", "landuse", "buildings", "pois"], palette);
    const ids = layers.map((layer) => String(layer["id"]));
    assert.equal(new Set(ids).size, ids.length);
    const at = (id: string) => ids.indexOf(id);
    assert.ok(at("base-fill-landuse") < at("base-fill-water") && at("base-fill-water") < at("base-line-roads"), ids.join());
    assert.ok(!ids.some((id) => id.includes("pois")), "names need fonts");
    assert.deepEqual(basemapLayers([], palette), []);
  });

  it("fits everything, and nothing if there is nothing", () => {
    assert.deepEqual(extentOf([[2, 5], [1, 7], [3, 4]]), [1, 4, 3, 7]);
    assert.equal(extentOf([]), null);
  });
});
