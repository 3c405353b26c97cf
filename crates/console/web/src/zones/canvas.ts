// Zones drawn over the picture, and their editing by mouse, touch, pen and keyboard.

import { reconcile, setAttributes, setText, svg, uniqueId } from "../lib/dom";
import { type Point, area, clearLabelPoint, contains, distance, middle, settle } from "../lib/geometry";
import type { Translate } from "../lib/i18n";
import { Loupe } from "../picture/loupe";
import { type Drag, Stage } from "../picture/stage";
import type { Size } from "../picture/view";
import { type Zone, cornersOf, insertCorner, moveCorner, replaceZone, translated } from "./model";
import { type Snapped, snap } from "./snap";
import type { ZoneStore } from "./store";
import { cornerText, faultText, kindText, positionText } from "./texts";

/** Pixels on the screen within which a corner snaps: less than a corner's own size, so it never jumps unexpectedly. */
const SNAP_REACH = 9;
/** The reach of the snap key, which a person presses on purpose. */
const KEY_SNAP_REACH = 40;
/** A click this near to the first point closes a draft; the size of its mark. */
const CLOSE_REACH = 12;
/** Edges shorter than this on the screen have no mark for inserting: it would hide the corners. */
const SHORTEST_MARKED_EDGE = 48;
/** Pixels of a letter's width and a line's height in 13 px bold. */
const [LABEL_LETTER, LABEL_HEIGHT] = [8, 16];
/** Zones up to which labels avoid other zones, at every move of the pointer. */
const MAX_ARRANGED_LABELS = 40;
/** An arrow key's step as a fraction of the picture: 2 pixels at 1080p; with Shift 10 times, with Alt a tenth. */
const STEP = 0.001;

export interface CanvasHost {
  readonly store: ZoneStore;
  readonly t: Translate;
  say(text: string): void;
  /** Moves the keyboard's focus to the list's entry of a zone. */
  focusEntry(key: number): void;
  /** The picture's size, or what is visible of it, changed. */
  viewChanged(size: Size): void;
}

/** What the drawing of a zone depends on; its label avoids the committed zones. */
interface Drawn {
  readonly zone: Zone;
  readonly committed: readonly Zone[];
  readonly isSelected: boolean;
  readonly unit: number;
  readonly size: Size;
  readonly faults: string;
}

export class ZoneCanvas {
  readonly stage: Stage;
  readonly loupe: Loupe;
  private readonly drawn = new WeakMap<Element, Drawn>();
  private readonly behind = svg("g");
  private readonly zonesLayer = svg("g");
  private readonly draftLayer = svg("g", { class: "draft" });
  private readonly snapMark = svg("g", { class: "snap-mark", "aria-hidden": "true" }, svg("circle", { r: 9 }));
  private readonly body = svg("polygon", { class: "body", tabindex: 0, role: "button" });
  private readonly handles = svg("g", { class: "handles" });
  private readonly cross = svg(
    "g",
    { class: "cross", tabindex: 0, role: "button" },
    svg("circle", { r: 14 }),
    svg("path", { d: "M-22 0h44M0-22v44" }),
  );

  constructor(private readonly host: CanvasHost) {
    const { t } = host;
    this.stage = new Stage({
      press: (event, point) => this.press(event, point),
      tap: (_, point) => this.tap(point),
      hover: (event, point) => this.hover(event, point),
      viewChanged: () => {
        host.viewChanged(this.stage.size);
        this.render();
      },
    });
    const help = svg("desc", { id: uniqueId("zone-keys") }, t("zone.keys"));
    setAttributes(this.stage.root, { role: "application", "aria-label": t("zone.picture"), "aria-describedby": help.id });
    this.stage.root.prepend(help);
    this.cross.setAttribute("aria-label", t("zone.cross"));
    this.cross.dataset["role"] = "cross";
    this.stage.content.append(this.behind, this.zonesLayer, this.draftLayer);
    this.stage.root.append(this.body, this.handles, this.cross, this.snapMark);
    this.loupe = new Loupe(this.stage);
    this.stage.root.addEventListener("keydown", (event) => this.keyDown(event));
    this.stage.root.addEventListener("focusin", (event) => this.focused(event.target));
    host.store.subscribe(() => this.render());
  }

  /** Replaces what is drawn between the picture and the zones. */
  setBehind(...layers: SVGElement[]): void {
    this.behind.replaceChildren(...layers);
  }

  focusCorner(corner: number): void {
    this.handles.querySelector<SVGElement>(`[data-corner="${corner}"]`)?.focus();
  }

  focusBody(): void {
    this.body.focus();
  }

  focusCross(): void {
    this.cross.focus({ preventScroll: true });
  }

  render(): void {
    const { store, t } = this.host;
    const { zones, selected } = store;
    const unit = this.stage.unit;
    const isDrawing = store.draft !== null;
    this.stage.root.classList.toggle("is-picking", isDrawing);
    // The selected zone is drawn last, above the others.
    const ordered = [...zones.filter((zone) => zone !== selected), ...(selected ? [selected] : [])];
    reconcile(
      this.zonesLayer,
      ordered,
      ({ key }) => String(key),
      () =>
        svg("g", {}, svg("polygon", { class: "casing" }), svg("polygon", { class: "area" }), svg("g", { class: "bad-edges" }), svg("text")),
      (group, zone) => this.drawZone(group, zone, zone === selected, unit),
    );
    this.drawHandles(isDrawing ? null : selected, unit);
    this.drawDraft(unit);
    this.body.setAttribute(
      "aria-label",
      selected ? t("zone.body", { id: selected.id, kind: kindText(t, selected.kind) }) : t("zone.picture"),
    );
  }

  private drawZone(group: SVGGElement, zone: Zone, isSelected: boolean, unit: number): void {
    const { store } = this.host;
    const faults = store.faultsFor(zone);
    // While one zone is dragged, the others are as they were.
    const state: Drawn = { zone, committed: store.committed, isSelected, unit, size: this.stage.size, faults: JSON.stringify(faults) };
    const before = this.drawn.get(group);
    if (before && (Object.keys(state) as (keyof Drawn)[]).every((name) => before[name] === state[name])) return;
    this.drawn.set(group, state);
    group.setAttribute(
      "class",
      ["zone", `kind-${zone.kind}`, isSelected && "is-selected", faults.length > 0 && "has-fault"].filter(Boolean).join(" "),
    );
    group.dataset["zone"] = zone.id;
    const points = this.pointsOf(zone.polygon);
    const [casing, shape, bad, label] = Array.from(group.children) as [Element, Element, Element, SVGTextElement];
    for (const polygon of [casing, shape]) setAttributes(polygon, { points });
    const edges = faults.flatMap((fault) => (fault.code === "cross" ? [fault.first, fault.second] : []));
    reconcile(
      bad,
      [...new Set(edges)],
      String,
      () => svg("path"),
      (path, edge) => {
        const [a, b] = [zone.polygon[edge]!, zone.polygon[(edge + 1) % zone.polygon.length]!];
        path.setAttribute("d", `M${this.stage.units(a).join(" ")}L${this.stage.units(b).join(" ")}`);
      },
    );
    setText(label, zone.id);
    const smaller = store.zones.filter((other) => other !== zone && area(other.polygon) < area(zone.polygon));
    const above = store.zones.length <= MAX_ARRANGED_LABELS ? smaller.map(({ polygon }) => polygon) : [];
    setAttributes(label, { transform: this.at(clearLabelPoint(zone.polygon, above, this.labelSize(zone.id)), unit) });
  }

  /** Half of a label's width and height as fractions of the picture; about, as its font is the browser's. */
  private labelSize(text: string): Point {
    const { x, y } = this.stage.scale;
    return [(text.length * LABEL_LETTER) / 2 / x, LABEL_HEIGHT / 2 / y];
  }

  private drawHandles(zone: Zone | null, unit: number): void {
    const { store, t } = this.host;
    const polygon = zone?.polygon ?? [];
    const editable = zone !== null && !store.isReadOnly;
    this.body.toggleAttribute("hidden", !editable);
    this.body.style.display = editable ? "" : "none";
    if (zone) setAttributes(this.body, { points: this.pointsOf(polygon) });
    const faults = zone ? store.faultsFor(zone) : [];
    const wrong = new Set(faults.flatMap((fault) => cornersOf(fault, polygon.length)));
    const scale = this.stage.scale;
    type Mark = { readonly type: "corner" | "edge"; readonly index: number; readonly point: Point };
    const marks: Mark[] = !editable
      ? []
      : polygon.flatMap((point, index): Mark[] => {
          const next = polygon[(index + 1) % polygon.length]!;
          const corner: Mark = { type: "corner", index, point };
          const isLong = distance(point, next, scale) >= SHORTEST_MARKED_EDGE;
          return isLong ? [corner, { type: "edge", index, point: [(point[0] + next[0]) / 2, (point[1] + next[1]) / 2] }] : [corner];
        });
    reconcile(
      this.handles,
      marks,
      ({ type, index }) => `${zone?.key}:${type}:${index}`,
      ({ type, index }) =>
        type === "corner"
          ? svg(
              "g",
              { class: "corner", tabindex: 0, role: "button", "aria-roledescription": t("zone.corner"), "data-corner": index },
              svg("circle", { class: "hit" }),
              svg("circle", { class: "halo", r: 11 }),
              svg("circle", { class: "dot", r: 6 }),
              svg("text", { class: "mark", y: 4 }, "!"),
            )
          : svg(
              "g",
              { class: "edge", "aria-hidden": "true", "data-edge": index },
              svg("circle", { class: "hit" }),
              svg("circle", { class: "dot", r: 5 }),
              svg("path", { d: "M-2.500 0h5M0-2.500v5" }),
            ),
      (group, { type, index, point }) => {
        setAttributes(group, { transform: this.at(point, unit) });
        if (type === "edge" || !zone) return;
        group.classList.toggle("is-wrong", wrong.has(index));
        const texts = faults
          .filter((fault) => cornersOf(fault, polygon.length).includes(index))
          .map((f) => faultText(t, f, polygon.length));
        group.setAttribute("aria-label", [cornerText(t, zone, index), ...texts].join(". "));
      },
    );
  }

  private drawDraft(unit: number): void {
    const { store } = this.host;
    const draft = store.draft;
    this.cross.style.display = draft ? "" : "none";
    this.draftLayer.setAttribute("class", `draft kind-${draft?.kind ?? "watch"}`);
    if (!draft) {
      this.draftLayer.replaceChildren();
      this.markSnap(null);
      return;
    }
    setAttributes(this.cross, { transform: this.at(draft.cursor, unit) });
    const path = [...draft.points, draft.cursor];
    const line = svg("polyline", { class: "casing", points: this.pointsOf(path) });
    const area = svg("polygon", { class: "area", points: this.pointsOf(path) });
    const outline = svg("polyline", { class: "outline", points: this.pointsOf(draft.points.length > 0 ? path : []) });
    const dots = draft.points.map((point, index) =>
      svg(
        "g",
        { class: index === 0 ? "dot first" : "dot", transform: this.at(point, unit) },
        svg("circle", { r: index === 0 && draft.points.length >= 3 ? CLOSE_REACH - 2 : 5 }),
      ),
    );
    this.draftLayer.replaceChildren(area, line, outline, ...dots);
  }

  private markSnap(snapped: Snapped | null): void {
    this.snapMark.style.display = snapped?.to ? "" : "none";
    if (snapped?.to) setAttributes(this.snapMark, { transform: this.at(snapped.point, this.stage.unit) });
  }

  private pointsOf(points: readonly Point[]): string {
    return points.map((point) => this.stage.units(point).join(",")).join(" ");
  }

  /** A transform that puts a drawing in pixels of the screen at a point of the picture. */
  private at(point: Point, unit: number): string {
    const [x, y] = this.stage.units(point);
    return `translate(${x} ${y}) scale(${unit})`;
  }

  private snapped(point: Point, own: number | null, isOff: boolean, reach: number = SNAP_REACH): Snapped {
    const { store } = this.host;
    if (isOff || !store.isSnapping) return { point: settle(point), to: null };
    const others = store.zones.filter(({ key }) => key !== own).map(({ polygon }) => polygon);
    return snap(point, others, this.stage.scale, reach);
  }

  // Pointers

  private press(event: PointerEvent, start: Point): Drag | null {
    const { store } = this.host;
    if (store.draft) return this.drawDrag(event);
    const zone = store.selected;
    if (!zone || store.isReadOnly || !(event.target instanceof Element)) return null;
    const handle = event.target.closest<SVGElement>("[data-corner],[data-edge]");
    if (handle?.dataset["corner"] !== undefined) {
      const corner = Number(handle.dataset["corner"]);
      handle.focus({ preventScroll: true });
      event.preventDefault();
      return this.cornerDrag(zone, corner, start, zone.polygon, false);
    }
    if (handle?.dataset["edge"] !== undefined) {
      const edge = Number(handle.dataset["edge"]);
      const at = middle(zone.polygon[edge]!, zone.polygon[(edge + 1) % zone.polygon.length]!);
      event.preventDefault();
      return this.cornerDrag(zone, edge + 1, start, insertCorner(zone, edge, at).polygon, true);
    }
    if (event.target === this.body) {
      this.body.focus({ preventScroll: true });
      event.preventDefault();
      return this.bodyDrag(zone, start);
    }
    return null;
  }

  /** Moves one corner of `polygon`, which is the zone's or has a corner more. */
  private cornerDrag(zone: Zone, corner: number, start: Point, polygon: readonly Point[], isNew: boolean): Drag {
    const { store } = this.host;
    const from = polygon[corner]!;
    const before = store.committed;
    const withPolygon = (points: readonly Point[]) => replaceZone(before, zone.key, (z) => ({ ...z, polygon: points }));
    let zones = isNew ? withPolygon(polygon) : before;
    return {
      move: (point, event) => {
        // The corner keeps its distance from the pointer, so that it does not jump when it is taken at its rim.
        const wanted: Point = [from[0] + point[0] - start[0], from[1] + point[1] - start[1]];
        const snapped = this.snapped(wanted, zone.key, isSnapOff(event));
        zones = withPolygon(moveCorner({ ...zone, polygon }, corner, snapped.point).polygon);
        store.preview(zones);
        this.markSnap(snapped);
        this.loupe.show(snapped.point, event.clientX, event.clientY, event.pointerType);
      },
      end: () => {
        this.endDrag();
        store.commit(zones);
        if (isNew) this.focusCorner(corner);
      },
      cancel: () => {
        this.endDrag();
        store.preview(null);
      },
    };
  }

  private bodyDrag(zone: Zone, start: Point): Drag {
    const { store } = this.host;
    const before = store.committed;
    let zones: readonly Zone[] | null = null;
    return {
      move: (point) => {
        const polygon = translated(zone.polygon, [point[0] - start[0], point[1] - start[1]]);
        zones = replaceZone(before, zone.key, (z) => ({ ...z, polygon }));
        store.preview(zones);
      },
      end: () => {
        if (zones) store.commit(zones);
        else this.tap(start);
      },
      cancel: () => store.preview(null),
    };
  }

  /** A point of the draft is placed where the pointer is lifted, so that a finger can aim with the loupe. */
  private drawDrag(event: PointerEvent): Drag {
    const { store } = this.host;
    const isOff = isSnapOff(event);
    let target = this.snapped(this.stage.fraction(event.clientX, event.clientY), null, isOff);
    if (event.pointerType === "touch") this.loupe.show(target.point, event.clientX, event.clientY, event.pointerType);
    store.moveCursor(target.point);
    this.focusCross();
    event.preventDefault();
    return {
      move: (point, moved) => {
        target = this.snapped(point, null, isSnapOff(moved));
        store.moveCursor(target.point);
        this.markSnap(target);
        this.loupe.show(target.point, moved.clientX, moved.clientY, moved.pointerType);
      },
      end: () => {
        this.endDrag();
        this.place(target.point);
      },
      cancel: () => this.endDrag(),
    };
  }

  /** Adds a point to the draft, or closes it if the point is its first or, as in a double click, its last. */
  private place(point: Point): void {
    const { store } = this.host;
    const points = store.draft?.points ?? [];
    const scale = this.stage.scale;
    const [first, last] = [points[0], points[points.length - 1]];
    const closes = points.length >= 3 && first && distance(point, first, scale) <= CLOSE_REACH;
    const repeats = last && distance(point, last, scale) <= CLOSE_REACH / 2;
    if (closes || (repeats && points.length >= 3)) this.finish();
    else if (!repeats) {
      store.addDraftPoint(point);
      this.host.say(this.draftText());
    }
  }

  private finish(): void {
    const { store, t, say } = this.host;
    const zone = store.finishDraft();
    if (!zone) {
      say(t("zone.fault.few", { count: store.draft?.points.length ?? 0 }));
      return;
    }
    say(t("zone.created", { id: zone.id, count: zone.polygon.length }));
    this.focusBody();
  }

  private tap(point: Point): void {
    const { store } = this.host;
    const under = store.zones.filter(({ polygon }) => contains(polygon, point)).sort((a, b) => area(a.polygon) - area(b.polygon));
    // A tap on the selected zone takes the next larger one below it.
    const current = under.findIndex(({ key }) => key === store.selected?.key);
    store.select(under[(current + 1) % Math.max(1, under.length)]?.key ?? null);
  }

  private hover(event: PointerEvent, point: Point): void {
    if (!this.host.store.draft) return;
    const target = this.snapped(point, null, isSnapOff(event));
    this.host.store.moveCursor(target.point);
    this.markSnap(target);
  }

  private endDrag(): void {
    this.loupe.hide();
    this.markSnap(null);
  }

  // Keyboard

  private focused(target: EventTarget | null): void {
    const { store } = this.host;
    const corner = target instanceof SVGElement ? target.dataset["corner"] : undefined;
    const point = corner === undefined ? undefined : store.selected?.polygon[Number(corner)];
    if (point) this.stage.reveal(point);
    store.seal();
  }

  private keyDown(event: KeyboardEvent): void {
    const { store } = this.host;
    if (event.ctrlKey || event.metaKey) return;
    if (event.key === "Escape" && this.stage.cancelGesture()) {
      event.preventDefault();
      return;
    }
    const isHandled = store.draft ? this.draftKey(event) : this.zoneKey(event);
    if (isHandled || this.zoomKey(event)) {
      event.preventDefault();
      event.stopPropagation();
    }
  }

  private zoomKey({ key }: KeyboardEvent): boolean {
    if (key === "0") this.stage.fit();
    else if (key === "=" || key === "+") this.stage.zoomIn();
    else if (key === "-") this.stage.zoomOut();
    else return false;
    return true;
  }

  private draftKey(event: KeyboardEvent): boolean {
    const { store, t, say } = this.host;
    const draft = store.draft!;
    const step = stepOf(event);
    if (step) {
      const cursor = settle([draft.cursor[0] + step[0], draft.cursor[1] + step[1]]);
      this.cross.classList.add("by-key");
      store.moveCursor(cursor);
      this.stage.reveal(cursor);
      say(positionText(t, cursor));
      return true;
    }
    switch (event.key) {
      case " ":
        this.place(draft.cursor);
        return true;
      case "s":
      case "S":
        store.moveCursor(this.snapped(draft.cursor, null, false, KEY_SNAP_REACH).point);
        return true;
      case "Enter":
        this.finish();
        return true;
      case "Backspace":
      case "Delete":
        store.removeDraftPoint();
        say(this.draftText());
        return true;
      case "Escape":
        store.cancelDraft();
        say(t("zone.cancelled"));
        this.host.focusEntry(-1);
        return true;
      default:
        return false;
    }
  }

  private draftText(): string {
    const { store, t } = this.host;
    return t("zone.draft.count", { count: store.draft?.points.length ?? 0 });
  }

  private zoneKey(event: KeyboardEvent): boolean {
    const { store } = this.host;
    const zone = store.selected;
    const target = event.target;
    if (!zone || store.isReadOnly || !(target instanceof SVGElement)) return false;
    if (event.key === "Escape") {
      this.host.focusEntry(zone.key);
      return true;
    }
    if (target.dataset["corner"] !== undefined) return this.cornerKey(event, zone, Number(target.dataset["corner"]));
    return target === this.body && this.bodyKey(event, zone);
  }

  private cornerKey(event: KeyboardEvent, zone: Zone, corner: number): boolean {
    const { store, t, say } = this.host;
    const at = zone.polygon[corner];
    if (!at) return false;
    const count = zone.polygon.length;
    const step = stepOf(event);
    if (step) {
      const to = settle([at[0] + step[0], at[1] + step[1]]);
      store.moveCorner(zone.key, corner, to, `corner:${zone.key}:${corner}`);
      this.stage.reveal(to);
      say(positionText(t, to));
      return true;
    }
    switch (event.key) {
      case "Delete":
      case "Backspace":
        if (!store.removeCorner(zone.key, corner)) say(t("zone.corner.last_three"));
        else {
          this.focusCorner(Math.min(corner, count - 2));
          say(t("zone.corner.removed", { n: corner + 1, count: count - 1 }));
        }
        return true;
      case "Insert":
      case "i":
      case "I":
        store.insertCorner(zone.key, corner, middle(at, zone.polygon[(corner + 1) % count]!));
        this.focusCorner(corner + 1);
        say(t("zone.corner.inserted", { n: corner + 2, count: count + 1 }));
        return true;
      case "s":
      case "S": {
        const snapped = this.snapped(at, zone.key, false, KEY_SNAP_REACH);
        if (snapped.to) store.moveCorner(zone.key, corner, snapped.point);
        say(snapped.to ? t(`zone.snapped.${snapped.to}`) : t("zone.snapped.none"));
        return true;
      }
      case "Home":
        this.focusCorner(0);
        return true;
      case "End":
        this.focusCorner(count - 1);
        return true;
      default:
        return false;
    }
  }

  private bodyKey(event: KeyboardEvent, zone: Zone): boolean {
    const { store, t, say } = this.host;
    const step = stepOf(event);
    if (step) {
      store.moveZone(zone.key, step, `zone:${zone.key}`);
      const at = store.selected?.polygon[0];
      if (at) say(positionText(t, at));
      return true;
    }
    if (event.key !== "Delete" && event.key !== "Backspace") return false;
    store.removeZone(zone.key);
    say(t("zone.removed", { id: zone.id }));
    this.host.focusEntry(-1);
    return true;
  }
}

/** Control, Alt or Command held turns snapping off. */
function isSnapOff(event: PointerEvent): boolean {
  return event.ctrlKey || event.altKey || event.metaKey;
}

function stepOf(event: KeyboardEvent): Point | null {
  const size = event.shiftKey ? STEP * 10 : event.altKey ? STEP / 10 : STEP;
  switch (event.key) {
    case "ArrowLeft":
      return [-size, 0];
    case "ArrowRight":
      return [size, 0];
    case "ArrowUp":
      return [0, -size];
    case "ArrowDown":
      return [0, size];
    default:
      return null;
  }
}
