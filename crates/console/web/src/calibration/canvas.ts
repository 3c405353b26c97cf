// Numbered points over the picture, with the ground grid and cell borders that the server computed.

import { reconcile, setText, svg, uniqueId } from "../lib/dom";
import { type Point, settle } from "../lib/geometry";
import type { Translate } from "../lib/i18n";
import { Loupe } from "../picture/loupe";
import { type Drag, Stage } from "../picture/stage";
import type { Size } from "../picture/view";
import type { Fit, Line, Pair } from "./pairs";

/** As in the zone editor: 2 pixels at 1080p; with Shift 10 times, with Alt a tenth. */
const STEP = 0.001;

export interface CanvasHost {
  readonly t: Translate;
  readonly isReadOnly: boolean;
  pairs(): readonly Pair[];
  /** The fit that belongs to the pairs, if there is one. */
  fit(): Fit | null;
  isWrong(pair: Pair): boolean;
  add(point: Point): void;
  move(key: number, to: Point, mergeKey: string | null): void;
  remove(key: number): void;
  selected(key: number): void;
  say(text: string): void;
}

export class CalibrationCanvas {
  readonly stage: Stage;
  readonly loupe: Loupe;
  private readonly lines = svg("g", { class: "ground", "aria-hidden": "true" });
  private readonly marks = svg("g");
  /** What the lines were drawn from: the fit, and the picture's size, which may come later than the fit. */
  private drawn: { readonly fit: Fit | null; readonly size: Size } | null = null;
  /** A mark that is being dragged is drawn here and not where its pair is. */
  private dragged: { readonly key: number; readonly at: Point } | null = null;

  constructor(private readonly host: CanvasHost) {
    const { t } = host;
    this.stage = new Stage({
      press: (event, point) => this.press(event, point),
      tap: (_, point) => {
        if (!host.isReadOnly && point.every((c) => c >= 0 && c <= 1)) host.add(settle(point));
      },
      viewChanged: () => this.render(),
    });
    const help = svg("desc", { id: uniqueId("calibration-keys") }, t("calibration.keys"));
    this.stage.root.prepend(help);
    this.stage.root.setAttribute("role", "application");
    this.stage.root.setAttribute("aria-label", t("calibration.picture"));
    this.stage.root.setAttribute("aria-describedby", help.id);
    this.stage.root.classList.toggle("is-picking", !host.isReadOnly);
    this.stage.content.append(this.lines);
    this.stage.root.append(this.marks);
    this.loupe = new Loupe(this.stage);
    this.stage.root.addEventListener("keydown", (event) => this.keyDown(event));
  }

  focusMark(key: number): void {
    this.marks.querySelector<SVGElement>(`[data-key="${key}"]`)?.focus();
  }

  render(): void {
    const { host, stage } = this;
    const unit = stage.unit;
    this.drawLines();
    reconcile(
      this.marks,
      host.pairs(),
      ({ key }) => String(key),
      ({ key }) => {
        const mark = svg(
          "g",
          { class: "pair", tabindex: 0, role: "button", "data-key": key },
          svg("circle", { class: "hit" }),
          svg("circle", { class: "halo", r: 15 }),
          svg("path", { d: "M-9 0h6M3 0h6M0-9v6M0 3v6" }),
          svg("circle", { class: "badge", cx: 14, cy: -14, r: 10 }),
          svg("text", { x: 14, y: -10 }),
        );
        mark.addEventListener("focus", () => host.selected(key));
        return mark;
      },
      (mark, pair, index) => {
        const [x, y] = stage.units(this.dragged?.key === pair.key ? this.dragged.at : pair.picture);
        mark.setAttribute("transform", `translate(${x} ${y}) scale(${unit})`);
        mark.setAttribute("class", `pair${pair.ground ? "" : " is-open"}${host.isWrong(pair) ? " is-wrong" : ""}`);
        setText(mark.lastElementChild!, String(index + 1));
        mark.setAttribute(
          "aria-label",
          host.t("calibration.mark", { n: index + 1, x: percent(pair.picture[0]), y: percent(pair.picture[1]) }),
        );
      },
    );
  }

  private drawLines(): void {
    const fit = this.host.fit();
    const { size } = this.stage;
    if (this.drawn?.fit === fit && this.drawn.size === size) return;
    this.drawn = { fit, size };
    const path = (line: Line) => `M${line.map((point) => this.stage.units(point).join(" ")).join("L")}`;
    const layer = (name: string, lines: readonly Line[]) =>
      lines.length === 0 ? [] : ["casing", "line"].map((part) => svg("path", { class: `${name} ${part}`, d: lines.map(path).join("") }));
    this.lines.replaceChildren(
      ...layer("grid", fit?.grid ?? []),
      ...layer(
        "cell",
        (fit?.cells ?? []).flatMap(({ lines }) => lines),
      ),
      ...layer("limit", fit?.limit ?? []),
    );
  }

  private press(event: PointerEvent, start: Point): Drag | null {
    const { host } = this;
    const mark = event.target instanceof Element ? event.target.closest<SVGElement>("[data-key]") : null;
    const pair = host.pairs().find(({ key }) => String(key) === mark?.dataset["key"]);
    if (!mark || !pair || host.isReadOnly) return null;
    mark.focus({ preventScroll: true });
    event.preventDefault();
    const end = () => {
      this.dragged = null;
      this.loupe.hide();
    };
    return {
      move: (point, moved) => {
        const at = settle([pair.picture[0] + point[0] - start[0], pair.picture[1] + point[1] - start[1]]);
        this.dragged = { key: pair.key, at };
        this.render();
        this.loupe.show(at, moved.clientX, moved.clientY, moved.pointerType);
      },
      end: () => {
        const at = this.dragged?.at;
        end();
        if (at) host.move(pair.key, at, null);
      },
      cancel: () => {
        end();
        this.render();
      },
    };
  }

  private keyDown(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey) return;
    const { host } = this;
    const target = event.target instanceof SVGElement ? event.target : null;
    const pair = host.pairs().find(({ key }) => String(key) === target?.dataset["key"]);
    const steps: Readonly<Record<string, Point>> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const direction = steps[event.key];
    if (pair && direction && !host.isReadOnly) {
      const size = event.shiftKey ? STEP * 10 : event.altKey ? STEP / 10 : STEP;
      const to = settle([pair.picture[0] + direction[0] * size, pair.picture[1] + direction[1] * size]);
      host.move(pair.key, to, `pair:${pair.key}`);
      this.stage.reveal(to);
      host.say(host.t("zone.position", { x: percent(to[0]), y: percent(to[1]) }));
    } else if (pair && (event.key === "Delete" || event.key === "Backspace") && !host.isReadOnly) host.remove(pair.key);
    else if (event.key === "+" || event.key === "=") this.stage.zoomIn();
    else if (event.key === "-") this.stage.zoomOut();
    else if (event.key === "0") this.stage.fit();
    else if (!(event.key === "Escape" && this.stage.cancelGesture())) return;
    event.preventDefault();
    event.stopPropagation();
  }
}

function percent(fraction: number): string {
  return String(Math.round(fraction * 1e4) / 100);
}
