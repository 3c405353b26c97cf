// Which part of a picture is visible: zoom and pan as an SVG viewBox in pixels of the picture. Pure.

import { clamp } from "../lib/geometry";

export interface Size {
  readonly width: number;
  readonly height: number;
}

/** The visible part. Its shape is the picture's; the SVG adds letterbox bars outside of it. */
export interface View {
  readonly x: number;
  readonly y: number;
  /** 1: the whole picture. */
  readonly zoom: number;
}

export const WHOLE: View = { x: 0, y: 0, zoom: 1 };
/** At 16 times, one pixel of a 1080p picture is about 8 pixels wide on a screen: closer shows nothing more. */
const MAX_ZOOM = 16;

export function viewBox(view: View, size: Size): string {
  return [view.x, view.y, size.width / view.zoom, size.height / view.zoom].join(" ");
}

/** Zooms by `factor` so that the point `at` (pixels of the picture) stays where it is on the screen. */
export function zoomed(view: View, size: Size, factor: number, at: readonly [number, number]): View {
  const zoom = clamp(view.zoom * factor, 1, MAX_ZOOM);
  const ratio = view.zoom / zoom;
  return bounded({ x: at[0] - (at[0] - view.x) * ratio, y: at[1] - (at[1] - view.y) * ratio, zoom }, size);
}

/** Moves the visible part by pixels of the picture. */
export function panned(view: View, size: Size, dx: number, dy: number): View {
  return bounded({ ...view, x: view.x + dx, y: view.y + dy }, size);
}

/** The view moved as little as possible so that `at` is at least a tenth of its size from its edge. */
export function revealing(view: View, size: Size, at: readonly [number, number]): View {
  const [width, height] = [size.width / view.zoom, size.height / view.zoom];
  const x = clamp(view.x, at[0] - width * 0.9, at[0] - width * 0.1);
  const y = clamp(view.y, at[1] - height * 0.9, at[1] - height * 0.1);
  return bounded({ ...view, x, y }, size);
}

function bounded(view: View, size: Size): View {
  return {
    x: clamp(view.x, 0, size.width - size.width / view.zoom),
    y: clamp(view.y, 0, size.height - size.height / view.zoom),
    zoom: view.zoom,
  };
}
