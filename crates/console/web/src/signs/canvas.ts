// Approved signs, struck out, and what else was found, over the picture. Boxes are chosen, moved and resized by mouse, touch and keyboard.

import { reconcile, setAttributes, setText, svg, uniqueId } from "../lib/dom";
import type { Point } from "../lib/geometry";
import type { Translate } from "../lib/i18n";
import { Loupe } from "../picture/loupe";
import { type Drag, Stage } from "../picture/stage";
import { type Box, type Found, type Sign, boxBetween, cornerOf, movedBox, withCorner } from "./model";

/** As in the zone editor: 2 pixels at 1080p; with Shift 10 times, with Alt a tenth. */
const STEP = 0.001;

export interface CanvasHost {
  readonly t: Translate;
  readonly isReadOnly: boolean;
  signs(): readonly Sign[];
  /** What was found and is not approved. */
  found(): readonly Found[];
  selected(): number | null;
  isExpired(sign: Sign): boolean;
  isDrawing(): boolean;
  select(key: number): void;
  approve(found: Found): void;
  drawn(box: Box): void;
  change(key: number, box: Box, mergeKey: string | null): void;
  remove(key: number): void;
  say(text: string): void;
  name(label: string): string;
}

export class SignCanvas {
  readonly stage: Stage;
  readonly loupe: Loupe;
  private readonly boxes = svg("g");
  private readonly handles = svg("g");
  private readonly draft = svg("rect", { class: "draft" });
  /** A box that is being dragged is drawn here and not where its sign is. */
  private dragged: { readonly key: number; readonly box: Box } | null = null;

  constructor(private readonly host: CanvasHost) {
    const { t } = host;
    this.stage = new Stage({
      press: (event, point) => this.press(event, point),
      viewChanged: () => this.render(),
    });
    const help = svg("desc", { id: uniqueId("sign-keys") }, t("sign.keys"));
    this.stage.root.prepend(help);
    setAttributes(this.stage.root, { role: "application", "aria-label": t("sign.picture"), "aria-describedby": help.id });
    this.stage.root.append(this.boxes, this.handles, this.draft);
    this.loupe = new Loupe(this.stage);
    this.stage.root.addEventListener("keydown", (event) => this.keyDown(event));
  }

  focusSign(key: number): void {
    this.boxes.querySelector<SVGElement>(`[data-key="${key}"]`)?.focus();
  }

  render(): void {
    const { host, stage } = this;
    stage.root.classList.toggle("is-picking", host.isDrawing());
    const items: readonly (Sign | Found)[] = [...host.found(), ...host.signs()];
    reconcile(
      this.boxes,
      items,
      ({ key }) => String(key),
      ({ key }) => {
        const box = svg(
          "g",
          { tabindex: 0, role: "button", "data-key": key },
          svg("rect", { class: "face" }),
          svg("rect", { class: "casing" }),
          svg("path", { class: "strike" }),
          svg("rect", { class: "edge" }),
          svg("text"),
        );
        box.addEventListener("focus", () => {
          if (host.signs().some((sign) => sign.key === key)) host.select(key);
        });
        return box;
      },
      (group, item) => this.draw(group, item),
    );
    const sign = host.isReadOnly ? undefined : host.signs().find(({ key }) => key === host.selected());
    const corners: readonly (0 | 1)[] = sign ? [0, 1] : [];
    reconcile(
      this.handles,
      corners,
      (corner) => String(corner),
      (corner) => svg("g", { class: "handle", tabindex: 0, role: "button", "data-corner": corner }, svg("circle", { class: "hit" }), svg("circle", { class: "dot", r: 6 })),
      (handle, corner) => {
        const box = this.boxOf(sign!);
        const [x, y] = stage.units(cornerOf(box, corner));
        setAttributes(handle, {
          transform: `translate(${x} ${y}) scale(${stage.unit})`,
          "aria-label": host.t(corner === 0 ? "sign.corner.first" : "sign.corner.last"),
        });
      },
    );
  }

  private boxOf(item: Sign | Found): Box {
    return this.dragged?.key === item.key ? this.dragged.box : item.box;
  }

  private draw(group: SVGGElement, item: Sign | Found): void {
    const { host, stage } = this;
    const isSign = "permit" in item;
    const [x1, y1] = stage.units(cornerOf(this.boxOf(item), 0));
    const [x2, y2] = stage.units(cornerOf(this.boxOf(item), 1));
    const isExpired = isSign && host.isExpired(item);
    const number = isSign ? host.signs().indexOf(item) + 1 : 0;
    setAttributes(group, {
      class: `${isSign ? "sign" : "found"}${isExpired ? " is-expired" : ""}${host.selected() === item.key ? " is-selected" : ""}`,
      "aria-label": isSign
        ? host.t(isExpired ? "sign.box.expired" : "sign.box.approved", { n: number, label: host.name(item.label), note: item.note })
        : host.t("sign.box.found", { label: host.name(item.label), percent: Math.round(item.score * 100) }),
      "aria-pressed": String(isSign),
    });
    for (const rect of group.querySelectorAll("rect")) setAttributes(rect, { x: x1, y: y1, width: x2 - x1, height: y2 - y1 });
    setAttributes(group.querySelector("path")!, { d: isSign && !isExpired ? `M${x1} ${y2}L${x2} ${y1}M${x1} ${y1}L${x2} ${y2}` : "" });
    const text = group.querySelector("text")!;
    setText(text, isSign ? String(number) : "+");
    setAttributes(text, { transform: `translate(${x1} ${y1}) scale(${stage.unit})`, x: 4, y: -5 });
  }

  private press(event: PointerEvent, start: Point): Drag | null {
    const { host } = this;
    const target = event.target instanceof Element ? event.target : null;
    const handle = target?.closest<SVGElement>("[data-corner]");
    const group = target?.closest<SVGElement>("[data-key]");
    const selected = host.signs().find(({ key }) => key === host.selected());
    if (host.isReadOnly) return null;
    if (host.isDrawing() && !handle) return this.drawing(event, start);
    if (handle && selected) {
      const corner = handle.dataset["corner"] === "0" ? 0 : 1;
      handle.focus({ preventScroll: true });
      event.preventDefault();
      return this.dragging(selected, (point) => withCorner(selected.box, corner, point), true);
    }
    const key = Number(group?.dataset["key"]);
    const found = host.found().find((item) => item.key === key);
    if (found) {
      event.preventDefault();
      // What was found is approved by a tap; a drag that began on it is none.
      let isTap = true;
      return {
        move: () => {
          isTap = false;
        },
        end: () => {
          if (isTap) host.approve(found);
        },
        cancel: () => undefined,
      };
    }
    const sign = host.signs().find((item) => item.key === key);
    if (!sign || !group) return null;
    group.focus({ preventScroll: true });
    event.preventDefault();
    return this.dragging(sign, (point) => movedBox(sign.box, [point[0] - start[0], point[1] - start[1]]), false);
  }

  private dragging(sign: Sign, boxAt: (point: Point) => Box, hasLoupe: boolean): Drag {
    const end = () => {
      this.dragged = null;
      this.loupe.hide();
    };
    return {
      move: (point, event) => {
        this.dragged = { key: sign.key, box: boxAt(point) };
        this.render();
        if (hasLoupe) this.loupe.show(point, event.clientX, event.clientY, event.pointerType);
      },
      end: () => {
        const box = this.dragged?.box;
        end();
        if (box) this.host.change(sign.key, box, null);
      },
      cancel: () => {
        end();
        this.render();
      },
    };
  }

  private drawing(event: PointerEvent, start: Point): Drag {
    event.preventDefault();
    let box: Box | null = null;
    const end = () => setAttributes(this.draft, { width: null, height: null });
    return {
      move: (point) => {
        box = boxBetween(start, point);
        const [x1, y1] = this.stage.units([box[0], box[1]]);
        const [x2, y2] = this.stage.units([box[2], box[3]]);
        setAttributes(this.draft, { x: x1, y: y1, width: x2 - x1, height: y2 - y1 });
      },
      end: () => {
        end();
        if (box) this.host.drawn(box);
      },
      cancel: end,
    };
  }

  private keyDown(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey) return;
    const { host } = this;
    const target = event.target instanceof SVGElement ? event.target : null;
    const key = Number(target?.dataset["key"]);
    const corner = target?.dataset["corner"];
    const sign = host.signs().find((item) => item.key === (corner === undefined ? key : host.selected()));
    const found = host.found().find((item) => item.key === key);
    const steps: Readonly<Record<string, Point>> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const direction = steps[event.key];
    if (sign && direction && !host.isReadOnly) {
      const size = event.shiftKey ? STEP * 10 : event.altKey ? STEP / 10 : STEP;
      const by: Point = [direction[0] * size, direction[1] * size];
      const at = corner === "1" ? 1 : 0;
      const [x, y] = cornerOf(sign.box, at);
      const box = corner === undefined ? movedBox(sign.box, by) : withCorner(sign.box, at, [x + by[0], y + by[1]]);
      host.change(sign.key, box, `box:${sign.key}:${corner ?? ""}`);
      this.stage.reveal(cornerOf(box, at));
      host.say(host.t("sign.position", { x1: percent(box[0]), y1: percent(box[1]), x2: percent(box[2]), y2: percent(box[3]) }));
    } else if (sign && (event.key === "Delete" || event.key === "Backspace") && !host.isReadOnly) host.remove(sign.key);
    else if (found && (event.key === "Enter" || event.key === " ") && !host.isReadOnly) host.approve(found);
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
