// What lies behind the zones: foot points of past looks as dots, filed cases as marks, each with a switch.

import { html, svg } from "../lib/dom";
import { isPoint } from "../lib/geometry";
import type { Translate } from "../lib/i18n";
import { property, textProperty } from "../lib/request";
import type { Size } from "../picture/view";
import { heatOf } from "./heat";

/** Cases drawn at most; more would hide the picture. */
const MAX_CASES = 2000;

export class Layers {
  /** Check boxes; empty while there is nothing to show. */
  readonly controls = html("div", { class: "tool-group zone-layers" });
  readonly drawing = svg("g", { "aria-hidden": "true" });
  private readonly heat = svg("g", { class: "heat" });
  private readonly cases = svg("g", { class: "cases" });
  private data: unknown = {};
  private laidOutFor: Size | null = null;

  constructor(private readonly t: Translate) {
    this.drawing.append(this.heat, this.cases);
  }

  /** Takes `foot_points` and `cases`; see README.md. */
  setData(data: unknown, size: Size): void {
    this.data = data;
    this.laidOutFor = null;
    this.layOut(size);
  }

  /** Draws for a picture of this size in pixels. */
  layOut(size: Size): void {
    if (this.laidOutFor && this.laidOutFor.width === size.width && this.laidOutFor.height === size.height) return;
    this.laidOutFor = size;
    const heat = heatOf(property(this.data, "foot_points"), size.width / size.height);
    this.heat.setAttribute("transform", `scale(${size.width / heat.columns} ${size.height / heat.rows})`);
    this.heat.replaceChildren(...heat.paths.map((d, level) => svg("path", { class: `level-${level}`, d })));
    const cases = property(this.data, "cases");
    const marks = (Array.isArray(cases) ? cases : []).slice(0, MAX_CASES).flatMap((value: unknown) => caseMark(value, size) ?? []);
    this.cases.replaceChildren(...marks);
    this.controls.replaceChildren(
      ...(heat.total > 0 ? [this.box(this.heat, this.t("layer.foot_points", { count: heat.total }))] : []),
      ...(marks.length > 0 ? [this.box(this.cases, this.t("layer.cases", { count: marks.length }))] : []),
    );
  }

  private box(layer: SVGElement, text: string): HTMLElement {
    const input = html("input", { type: "checkbox" });
    input.checked = layer.style.display !== "none";
    input.addEventListener("change", () => {
      layer.style.display = input.checked ? "" : "none";
    });
    return html("label", { class: "gw-check" }, input, html("span", {}, text));
  }
}

function caseMark(value: unknown, { width, height }: Size): SVGElement | null {
  const point: unknown = [property(value, "x"), property(value, "y")];
  if (!isPoint(point)) return null;
  const label = textProperty(value, "label") ?? textProperty(value, "id") ?? "";
  const transform = `translate(${point[0] * width} ${point[1] * height}) scale(${width / 1000})`;
  return svg("g", { class: "case", transform }, svg("path", { d: "M0-8 8 0 0 8-8 0Z" }), svg("title", {}, label));
}
