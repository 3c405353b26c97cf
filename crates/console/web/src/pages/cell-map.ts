// The map of cells with MapLibre GL JS, over the drawing that the server made: the drawing stays where there is no WebGL, or where the data
// cannot be loaded. The library's build for strict policies is used: its worker is a file of this server, and nothing is evaluated.
//
// The coordinates are those of the configuration. CGCS2000 (EPSG:4490) is shown as WGS 84: they differ by less than a metre.

import { html } from "../lib/dom";
import { fill } from "../lib/i18n";
import { basemapLayers, cellLayers, extentOf, type Layer, type Palette } from "./cell-map-style";

type Position = [number, number];

interface CellFeature {
  type: "Feature";
  properties: { code: string; cases: number; open: number; cameras: string[] };
  geometry: { type: "MultiPolygon"; coordinates: Position[][][] };
}

interface CellMap {
  cells: { type: "FeatureCollection"; features: CellFeature[] };
  cameras: { view: string; lon: number; lat: number }[];
  cases: { id: string; category: string; cell: string; open: boolean; lon: number; lat: number }[];
}

// What is used of the two libraries.
interface MapEvent {
  features?: { properties: { code?: unknown; id?: unknown } }[];
}
interface LibraryMap {
  on(event: "load" | "error", handler: (event: { error?: unknown }) => void): void;
  on(event: "click" | "mousemove" | "mouseleave", layer: string, handler: (event: MapEvent) => void): void;
  fitBounds(bounds: [Position, Position], options: Record<string, unknown>): void;
  zoomIn(): void;
  zoomOut(): void;
  getCanvas(): HTMLCanvasElement;
  remove(): void;
}
interface MapLibrary {
  Map: new (options: Record<string, unknown>) => LibraryMap;
  Marker: new (options: { element: HTMLElement }) => { setLngLat(at: Position): { addTo(map: LibraryMap): void } };
  setWorkerUrl(url: string): void;
  addProtocol(name: string, load: unknown): void;
}
interface Archive {
  getHeader(): Promise<{ tileType: number; minZoom: number; maxZoom: number }>;
  getMetadata(): Promise<unknown>;
}
interface ArchiveLibrary {
  PMTiles: new (url: string) => Archive;
  Protocol: new () => { add(archive: Archive): void; tile: unknown };
}
declare global {
  interface Window {
    maplibregl?: MapLibrary;
    pmtiles?: ArchiveLibrary;
  }
}

/** Counts that are written into cells, at most: those with most cases. */
const MAX_COUNTS = 300;

function palette(): Palette {
  const style = getComputedStyle(document.getElementById("cell-map") ?? document.documentElement);
  const color = (name: string) => style.getPropertyValue(name).trim() || "#888";
  return {
    ground: color("--ground"),
    line: color("--edge"),
    none: color("--cell-none"),
    few: color("--cell-few"),
    some: color("--cell-some"),
    many: color("--cell-many"),
    open: color("--bad"),
    done: color("--dim"),
    water: color("--map-water"),
    green: color("--map-green"),
    road: color("--map-road"),
    building: color("--map-building"),
  };
}

function hasWebGl(): boolean {
  try {
    return document.createElement("canvas").getContext("webgl2") !== null;
  } catch {
    return false;
  }
}

interface Basemap {
  source: Layer;
  layers: Layer[];
  attribution: string;
}

/** Source and layers of the basemap; what a PMTiles file says of itself comes from outside. */
async function basemap(url: string, colors: Palette, maplibre: MapLibrary, library: ArchiveLibrary): Promise<Basemap> {
  const archive = new library.PMTiles(url);
  const protocol = new library.Protocol();
  protocol.add(archive);
  maplibre.addProtocol("pmtiles", protocol.tile);
  const header = await archive.getHeader();
  const metadata = (await archive.getMetadata()) as { vector_layers?: unknown; attribution?: unknown } | null;
  const told = Array.isArray(metadata?.vector_layers) ? (metadata.vector_layers as unknown[]) : [];
  const names = told
    .map((layer) => (typeof layer === "object" && layer !== null ? (layer as { id?: unknown }).id : undefined))
    .filter((id): id is string => typeof id === "string")
    .slice(0, 100);
  // Attributions are often HTML; the text of it is shown.
  const markup = typeof metadata?.attribution === "string" ? metadata.attribution : "";
  const attribution = new DOMParser().parseFromString(markup, "text/html").body.textContent ?? "";
  // 1 is MVT; the others are kinds of pictures.
  if (header.tileType === 1) {
    return { source: { type: "vector", url: `pmtiles://${url}` }, layers: basemapLayers(names, colors), attribution };
  }
  return {
    source: { type: "raster", url: `pmtiles://${url}`, tileSize: 256 },
    layers: [{ id: "base", type: "raster", source: "basemap" }],
    attribution,
  };
}

function centre(cell: CellFeature): Position | null {
  const extent = extentOf(cell.geometry.coordinates.flat(2));
  return extent && [(extent[0] + extent[2]) / 2, (extent[1] + extent[3]) / 2];
}

async function show(host: HTMLElement, maplibre: MapLibrary): Promise<void> {
  const data = (name: string) => host.dataset[name] ?? "";
  const answer = await fetch(data("source"), { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`the map's data: status ${answer.status}`);
  const content = (await answer.json()) as CellMap;
  const colors = palette();
  maplibre.setWorkerUrl(new URL(data("worker"), location.href).href);
  let base: Basemap | null = null;
  if (data("basemap") && window.pmtiles) {
    try {
      base = await basemap(new URL(data("basemap"), location.href).href, colors, maplibre, window.pmtiles);
    } catch (error) {
      console.warn("The basemap cannot be read; the cells are shown without it", error);
    }
  }
  const listUrl = (cell: string) => {
    const query = new URLSearchParams(data("query"));
    query.set("cell", cell);
    return `${data("list")}?${query.toString()}`;
  };
  const canvas = html("div", { class: "canvas" });
  host.prepend(canvas);
  const points = content.cases.map((found) => ({
    type: "Feature",
    properties: { id: found.id, open: found.open },
    geometry: { type: "Point", coordinates: [found.lon, found.lat] },
  }));
  const map = new maplibre.Map({
    container: canvas,
    style: {
      version: 8,
      sources: {
        ...(base ? { basemap: base.source } : {}),
        cells: { type: "geojson", data: content.cells },
        cases: { type: "geojson", data: { type: "FeatureCollection", features: points } },
      },
      layers: [
        { id: "ground", type: "background", paint: { "background-color": colors.ground } },
        ...(base?.layers ?? []),
        ...cellLayers(colors, base !== null),
      ],
    },
    attributionControl: false,
    dragRotate: false,
    pitchWithRotate: false,
    touchPitch: false,
    cooperativeGestures: false,
    fadeDuration: 0,
    maxZoom: 21,
  });
  map.getCanvas().setAttribute("aria-label", data("label"));
  const extent = extentOf([
    ...content.cells.features.flatMap((cell) => cell.geometry.coordinates.flat(2)),
    ...content.cameras.map((camera): Position => [camera.lon, camera.lat]),
  ]);
  const fit = () => {
    if (extent) map.fitBounds([[extent[0], extent[1]], [extent[2], extent[3]]], { padding: 30, animate: false, maxZoom: 18 });
  };
  fit();
  map.on("error", (event) => console.warn("The map:", event.error));
  map.on("load", () => {
    host.classList.add("moving");
    const controls = host.querySelector<HTMLElement>(".controls");
    if (controls) {
      controls.hidden = false;
      controls.addEventListener("click", (event) => {
        const button = event.target instanceof Element ? event.target.closest<HTMLElement>("[data-zoom]") : null;
        const what = button?.dataset["zoom"];
        if (what === "in") map.zoomIn();
        else if (what === "out") map.zoomOut();
        else if (what === "fit") fit();
      });
    }
    if (base?.attribution) host.append(html("p", { class: "attribution" }, base.attribution));
    const counted = content.cells.features.filter((cell) => cell.properties.cases > 0);
    counted.sort((one, other) => other.properties.cases - one.properties.cases);
    for (const cell of counted.slice(0, MAX_COUNTS)) {
      const at = centre(cell);
      const { code, cases } = cell.properties;
      const label = fill(data("title"), { cell: code, n: cases });
      const link = html("a", { class: "count", href: listUrl(code), "aria-label": label, title: label }, String(cases));
      if (at) new maplibre.Marker({ element: link }).setLngLat(at).addTo(map);
    }
    for (const camera of content.cameras) {
      const mark = html("span", { class: "camera", title: camera.view });
      new maplibre.Marker({ element: mark }).setLngLat([camera.lon, camera.lat]).addTo(map);
    }
    for (const layer of ["cells", "cases"]) {
      map.on("mousemove", layer, () => map.getCanvas().classList.add("over"));
      map.on("mouseleave", layer, () => map.getCanvas().classList.remove("over"));
    }
    map.on("click", "cells", (event) => {
      const cell = event.features?.[0]?.properties.code;
      if (typeof cell === "string") location.assign(listUrl(cell));
    });
    host.dispatchEvent(new CustomEvent("map-shown", { bubbles: true }));
  });
}

export function start(): void {
  const host = document.getElementById("cell-map");
  if (!host) return;
  const plain = () => {
    const note = host.querySelector<HTMLElement>(".plain");
    if (note) note.hidden = false;
  };
  if (!window.maplibregl || !hasWebGl()) {
    plain();
    return;
  }
  show(host, window.maplibregl).catch((error: unknown) => {
    console.warn("The map cannot be shown; the drawing stays", error);
    host.querySelector(".canvas")?.remove();
  });
}
