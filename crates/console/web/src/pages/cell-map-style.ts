// The style of the map of cells: colours of the page, the steps of the counts, and a plain style for whatever basemap is there.

/** What the page's stylesheet says. */
export interface Palette {
  ground: string;
  line: string;
  none: string;
  few: string;
  some: string;
  many: string;
  open: string;
  done: string;
  water: string;
  green: string;
  road: string;
  building: string;
}

/** A part of a MapLibre style; its types come with the library, which is not a part of this build. */
export type Layer = Readonly<Record<string, unknown>>;

/** Fill colour of a cell by its cases; steps as in the legend of the page. */
export function fillColor(palette: Palette): unknown {
  return ["step", ["get", "cases"], palette.none, 1, palette.few, 5, palette.some, 20, palette.many];
}

/** Layers of cells and cases. */
export function cellLayers(palette: Palette, hasBasemap: boolean): Layer[] {
  return [
    { id: "cells", type: "fill", source: "cells", paint: { "fill-color": fillColor(palette), "fill-opacity": hasBasemap ? 0.55 : 0.85 } },
    { id: "borders", type: "line", source: "cells", paint: { "line-color": palette.line, "line-width": 1 } },
    {
      id: "cases",
      type: "circle",
      source: "cases",
      minzoom: 15,
      paint: {
        "circle-radius": 4,
        "circle-color": ["case", ["get", "open"], palette.open, palette.done],
        "circle-stroke-color": palette.ground,
        "circle-stroke-width": 1,
      },
    },
  ];
}

/** Layers of a vector basemap, by what the usual schemas (Protomaps, OpenMapTiles, Shortbread) call theirs. Without names: those need fonts. */
export function basemapLayers(names: readonly string[], palette: Palette): Layer[] {
  const layers: Layer[] = [];
  const polygons = ["==", ["geometry-type"], "Polygon"];
  const lines = ["==", ["geometry-type"], "LineString"];
  const add = (pattern: RegExp, kind: string, paint: Layer, filter: unknown) => {
    for (const name of names) {
      if (pattern.test(name)) {
        layers.push({ id: `base-${kind}-${name}`, type: kind, source: "basemap", "source-layer": name, filter, paint });
      }
    }
  };
  add(/^(landuse|landcover|land|park|sites)/, "fill", { "fill-color": palette.green, "fill-opacity": 0.5 }, polygons);
  add(/^(water|ocean)/, "fill", { "fill-color": palette.water }, polygons);
  add(/^(waterway|water_lines|water)/, "line", { "line-color": palette.water }, lines);
  add(/^building/, "fill", { "fill-color": palette.building }, polygons);
  add(/^(road|transport|street|bridge)/, "line", { "line-color": palette.road, "line-width": ["interpolate", ["linear"], ["zoom"], 10, 0.5, 18, 6] }, lines);
  add(/^boundar/, "line", { "line-color": palette.line, "line-dasharray": [3, 2] }, lines);
  return layers;
}

/** West, south, east and north of all positions; `null` without any. */
export function extentOf(positions: Iterable<readonly [number, number]>): [number, number, number, number] | null {
  let extent: [number, number, number, number] | null = null;
  for (const [lon, lat] of positions) {
    extent = extent
      ? [Math.min(extent[0], lon), Math.min(extent[1], lat), Math.max(extent[2], lon), Math.max(extent[3], lat)]
      : [lon, lat, lon, lat];
  }
  return extent;
}
