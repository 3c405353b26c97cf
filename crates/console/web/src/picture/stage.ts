// A picture as the ground layer of an SVG, with zoom, pan and gestures. Everything drawn over it is in pixels of the picture inside the same
// SVG, and pointer positions go back through the SVG's own matrix, so letterboxing, zoom, scrolling and device pixels cannot shift anything.

import { setAttributes, svg } from "../lib/dom";
import type { Point, Scale } from "../lib/geometry";
import { type Size, type View, WHOLE, panned, revealing, viewBox, zoomed } from "./view";

/** Assumed until the picture has loaded, and if it cannot be. */
const DEFAULT_SIZE: Size = { width: 1920, height: 1080 };
/** A pointer that moved less is a tap: hands shake by 1 to 3 pixels, fingers by more. */
const TAP_REACH = { mouse: 4, pen: 6, touch: 10 } as const;
const ZOOM_STEP = 1.5;

/** A drag that started on something. Points are fractions, and may lie outside the picture. */
export interface Drag {
  move(point: Point, event: PointerEvent): void;
  end(): void;
  cancel(): void;
}

export interface StageHandlers {
  /** A pointer went down; returns the drag that it begins, or `null` to pan or tap. */
  press?(event: PointerEvent, point: Point): Drag | null;
  /** A pointer went down and up in one place, not on something that `press` took. */
  tap?(event: PointerEvent, point: Point): void;
  /** A mouse or pen moves without a button. */
  hover?(event: PointerEvent, point: Point): void;
  /** Zoom, pan or the size on screen changed. */
  viewChanged?(): void;
}

interface Gesture {
  readonly id: number;
  readonly start: readonly [number, number];
  last: readonly [number, number];
  moved: boolean;
  readonly drag: Drag | null;
}

export class Stage {
  readonly root = svg("svg", { class: "gw-stage", preserveAspectRatio: "xMidYMid meet" });
  /** Holds everything that the loupe magnifies. */
  readonly content = svg("g");
  private readonly image = svg("image", { x: 0, y: 0, preserveAspectRatio: "none", "aria-hidden": "true" });
  private readonly observer = new ResizeObserver(() => this.changed());
  private readonly pointers = new Map<number, readonly [number, number]>();
  private gesture: Gesture | null = null;
  private pinch: { distance: number; centre: readonly [number, number] } | null = null;
  private view: View = WHOLE;
  private naturalSize: Size = DEFAULT_SIZE;
  private measured: Scale | null = null;

  constructor(private readonly handlers: StageHandlers) {
    this.content.append(this.image);
    this.root.append(this.content);
    this.applySize();
    const on = <K extends keyof SVGElementEventMap>(type: K, listener: (event: SVGElementEventMap[K]) => void) =>
      this.root.addEventListener(type, listener as EventListener);
    on("pointerdown", (event) => this.pointerDown(event));
    on("pointermove", (event) => this.pointerMove(event));
    on("pointerup", (event) => this.pointerUp(event, false));
    on("pointercancel", (event) => this.pointerUp(event, true));
    // Follows every pointerup, where it finds nothing to do; alone, the element that held the pointer is gone.
    on("lostpointercapture", (event) => this.pointerUp(event, true));
    this.root.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.observer.observe(this.root);
  }

  /** Stops observing. The stage can be connected again with `connect`. */
  disconnect(): void {
    this.observer.disconnect();
  }

  connect(): void {
    this.observer.observe(this.root);
  }

  get size(): Size {
    return this.naturalSize;
  }

  get isZoomed(): boolean {
    return this.view.zoom > 1;
  }

  /** Shows a picture; resolves once its size is known, or it failed. */
  async show(url: string): Promise<boolean> {
    const probe = new Image();
    probe.src = url;
    try {
      await probe.decode();
    } catch {
      return false;
    }
    this.image.setAttribute("href", url);
    this.setSize({ width: probe.naturalWidth, height: probe.naturalHeight });
    return true;
  }

  /** Sets the picture's size in pixels, before it has loaded. */
  setSize(size: Size): void {
    if (!(size.width > 0) || !(size.height > 0)) return;
    if (size.width === this.naturalSize.width && size.height === this.naturalSize.height) return;
    this.naturalSize = size;
    this.view = WHOLE;
    this.applySize();
    this.changed();
  }

  /** Pixels on the screen per whole picture. */
  get scale(): Scale {
    const { x, y } = this.pixels();
    return { x: x * this.size.width, y: y * this.size.height };
  }

  /** Units of the SVG per pixel on the screen. */
  get unit(): number {
    return 1 / (this.pixels().x || 1);
  }

  /** A fraction in units of the SVG. */
  units([x, y]: Point): [number, number] {
    return [x * this.size.width, y * this.size.height];
  }

  /** A position in the browser's window as a fraction of the picture. */
  fraction(clientX: number, clientY: number): Point {
    const [x, y] = this.fromClient(clientX, clientY);
    return [x / this.size.width, y / this.size.height];
  }

  /** A fraction as a position in the browser's window. */
  client(point: Point): [number, number] {
    const matrix = this.root.getScreenCTM();
    if (!matrix) return [0, 0];
    const { x, y } = new DOMPoint(...this.units(point)).matrixTransform(matrix);
    return [x, y];
  }

  zoomIn(): void {
    this.zoomBy(ZOOM_STEP);
  }

  zoomOut(): void {
    this.zoomBy(1 / ZOOM_STEP);
  }

  fit(): void {
    this.setView(WHOLE);
  }

  /** Brings a point into view. */
  reveal(point: Point): void {
    if (this.isZoomed) this.setView(revealing(this.view, this.size, this.units(point)));
  }

  /** Ends a drag or pan without effect. Returns whether there was one. */
  cancelGesture(): boolean {
    const drag = this.gesture?.drag;
    this.gesture = null;
    drag?.cancel();
    return drag !== null && drag !== undefined;
  }

  private zoomBy(factor: number): void {
    const box = this.root.getBoundingClientRect();
    const centre = this.fromClient(box.left + box.width / 2, box.top + box.height / 2);
    this.setView(zoomed(this.view, this.size, factor, centre));
  }

  private setView(view: View): void {
    if (view.x === this.view.x && view.y === this.view.y && view.zoom === this.view.zoom) return;
    this.view = view;
    this.applyView();
    this.changed();
  }

  private changed(): void {
    this.measured = null;
    this.handlers.viewChanged?.();
  }

  /** Pixels on the screen per unit. Measured once after each change: asking the browser between two drawings makes it lay out the page. */
  private pixels(): Scale {
    if (!this.measured) {
      const matrix = this.root.getScreenCTM();
      if (!matrix) return { x: 1, y: 1 };
      this.measured = { x: matrix.a, y: matrix.d };
    }
    return this.measured;
  }

  private applySize(): void {
    setAttributes(this.image, { width: this.size.width, height: this.size.height });
    this.root.style.aspectRatio = `${this.size.width} / ${this.size.height}`;
    this.applyView();
  }

  private applyView(): void {
    this.measured = null;
    this.root.setAttribute("viewBox", viewBox(this.view, this.size));
    this.root.classList.toggle("is-zoomed", this.isZoomed);
  }

  private fromClient(clientX: number, clientY: number): [number, number] {
    const matrix = this.root.getScreenCTM();
    if (!matrix) return [0, 0];
    const { x, y } = new DOMPoint(clientX, clientY).matrixTransform(matrix.inverse());
    return [x, y];
  }

  private pointerDown(event: PointerEvent): void {
    if (event.pointerType === "mouse" && event.button !== 0 && event.button !== 1) return;
    const at: readonly [number, number] = [event.clientX, event.clientY];
    this.pointers.set(event.pointerId, at);
    if (this.pointers.size === 2) {
      this.cancelGesture();
      this.pinch = this.spread();
      return;
    }
    if (this.pointers.size > 2) return;
    const drag = event.button === 1 ? null : (this.handlers.press?.(event, this.fraction(...at)) ?? null);
    this.gesture = { id: event.pointerId, start: at, last: at, moved: false, drag };
    if (drag || event.pointerType !== "touch" || this.isZoomed) this.root.setPointerCapture(event.pointerId);
  }

  private pointerMove(event: PointerEvent): void {
    const at: readonly [number, number] = [event.clientX, event.clientY];
    if (!this.pointers.has(event.pointerId)) {
      if (event.pointerType !== "touch") this.handlers.hover?.(event, this.fraction(...at));
      return;
    }
    this.pointers.set(event.pointerId, at);
    if (this.pinch) {
      this.pinchTo(this.spread());
      return;
    }
    const gesture = this.gesture;
    if (!gesture || gesture.id !== event.pointerId) return;
    if (!gesture.moved) {
      const reach = TAP_REACH[event.pointerType as keyof typeof TAP_REACH] ?? TAP_REACH.mouse;
      if (Math.hypot(at[0] - gesture.start[0], at[1] - gesture.start[1]) < reach) return;
      gesture.moved = true;
    }
    if (gesture.drag) gesture.drag.move(this.fraction(...at), event);
    else if (this.isZoomed) this.panBy(gesture.last[0] - at[0], gesture.last[1] - at[1]);
    gesture.last = at;
  }

  private pointerUp(event: PointerEvent, isCancelled: boolean): void {
    if (!this.pointers.delete(event.pointerId)) return;
    if (this.pinch) {
      if (this.pointers.size < 2) this.pinch = null;
      return;
    }
    const gesture = this.gesture;
    if (!gesture || gesture.id !== event.pointerId) return;
    this.gesture = null;
    if (isCancelled) gesture.drag?.cancel();
    else if (gesture.drag) gesture.drag.end();
    else if (!gesture.moved && event.button === 0) this.handlers.tap?.(event, this.fraction(event.clientX, event.clientY));
  }

  /** Ctrl and wheel, as a pinch on a touchpad sends it. A plain wheel scrolls the page. */
  private wheel(event: WheelEvent): void {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const factor = Math.exp(-event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 0.05 : 0.005));
    this.setView(zoomed(this.view, this.size, factor, this.fromClient(event.clientX, event.clientY)));
  }

  private panBy(dx: number, dy: number): void {
    this.setView(panned(this.view, this.size, dx * this.unit, dy * this.unit));
  }

  private spread(): { distance: number; centre: readonly [number, number] } {
    const [a, b] = [...this.pointers.values()] as [readonly [number, number], readonly [number, number]];
    return { distance: Math.hypot(a[0] - b[0], a[1] - b[1]), centre: [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2] };
  }

  private pinchTo(now: { distance: number; centre: readonly [number, number] }): void {
    const before = this.pinch;
    this.pinch = now;
    if (!before || before.distance === 0) return;
    this.panBy(before.centre[0] - now.centre[0], before.centre[1] - now.centre[1]);
    this.setView(zoomed(this.view, this.size, now.distance / before.distance, this.fromClient(...now.centre)));
  }
}
