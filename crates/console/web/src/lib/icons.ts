// Icons as paths of a 20 × 20 drawing, stroked with the text's colour.

import { svg } from "./dom";

const PATHS = {
  add: "M10 4v12M4 10h12",
  undo: "M7 5 3.5 8.5 7 12M4 8.5h7.5a4.5 4.5 0 0 1 0 9H8",
  redo: "m13 5 3.5 3.5L13 12m3-3.5H8.500a4.5 4.5 0 0 0 0 9H12",
  zoomIn: "M8.500 3a5.500 5.500 0 1 1 0 11 5.500 5.500 0 0 1 0-11m4 9.500 4.500 4.500M8.500 6v5M6 8.500h5",
  zoomOut: "M8.500 3a5.500 5.500 0 1 1 0 11 5.500 5.500 0 0 1 0-11m4 9.500 4.500 4.500M6 8.500h5",
  fit: "M3 7V3h4M13 3h4v4M17 13v4h-4M7 17H3v-4",
  snap: "M5 3v7a5 5 0 0 0 10 0V3h-3.500v7a1.500 1.500 0 0 1-3 0V3ZM5 6h3.500M11.500 6H15",
  remove: "M4 6h12M8 6V4h4v2m-6.500 0 .7 10.500h7.600L14.500 6M8.500 9v5M11.500 9v5",
  copy: "M7 7h9v9H7ZM4 13V4h9",
  box: "M3.500 5h13v10h-13Z",
  help: "M7.500 7.500a2.500 2.500 0 1 1 3.500 2.300c-.7.300-1 .8-1 1.700M10 14.500v.1",
  warning: "M10 3 18 17H2ZM10 8v4.500M10 14.700v.1",
  done: "m4 10.500 4 4 8-9",
  close: "m5 5 10 10M15 5 5 15",
  play: "M6 4v12l10-6Z",
  stop: "M5 5h10v10H5Z",
} as const;

export type IconName = keyof typeof PATHS;

export function icon(name: IconName): SVGSVGElement {
  return svg("svg", { viewBox: "0 0 20 20", width: 18, height: 18, "aria-hidden": "true" }, svg("path", { d: PATHS[name] }));
}
