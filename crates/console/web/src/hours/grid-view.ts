// The grid of half hours: drawn once, painted by mouse, touch and keyboard. It knows nothing of schedules.

import { html, setAttributes } from "../lib/dom";
import { clamp } from "../lib/geometry";
import type { Translate } from "../lib/i18n";
import { type Grid, ROWS, SLOTS, WEEKDAYS } from "./schedule";
import { cellText, rowText, slotText } from "./texts";

/** A finger that stays this long begins to paint; one that moves before scrolls the page. */
const HOLD_MS = 300;

interface Cell {
  readonly row: number;
  readonly slot: number;
}

/** Headers are cells too: row −1 is the hours, slot −1 the days. */
const HEADER = -1;

export interface GridHost {
  readonly t: Translate;
  readonly isReadOnly: boolean;
  grid(): Grid;
  edit(grid: Grid): void;
  say(text: string): void;
}

export class GridView {
  readonly element = html("div", { class: "week", role: "grid" });
  private readonly cells: HTMLElement[][] = [];
  private readonly headers = new Map<string, HTMLElement>();
  private focus: Cell = { row: 0, slot: 12 };
  private paint: { readonly from: Cell; readonly open: boolean; to: Cell } | null = null;
  private hold: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly host: GridHost) {
    const { t } = host;
    setAttributes(this.element, {
      "aria-label": t("hours.grid"),
      "aria-readonly": String(host.isReadOnly),
      "aria-multiselectable": "true",
    });
    const hours = html("div", { role: "row" }, this.place(html("div", { role: "columnheader", class: "corner" }), HEADER, HEADER));
    hours.firstElementChild!.append(html("span", { class: "gw-hidden" }, t("hours.day")));
    for (let slot = 0; slot < SLOTS; slot += 2) {
      const header = html(
        "div",
        {
          role: "columnheader",
          class: "hour",
          tabindex: -1,
          "aria-label": t("hours.hour", { from: slotText(slot), to: slotText(slot + 2) }),
        },
        String(slot / 2),
      );
      hours.append(this.place(header, HEADER, slot));
    }
    this.element.append(hours);
    ROWS.forEach((name, row) => {
      const line = html("div", { role: "row", class: row < WEEKDAYS.length ? "weekday" : "kind" });
      line.append(this.place(html("div", { role: "rowheader", class: "day", tabindex: -1 }, rowText(t, name)), row, HEADER));
      this.cells.push(
        Array.from({ length: SLOTS }, (_, slot) => {
          const cell = html("div", {
            role: "gridcell",
            class: slot % 2 === 0 ? "cell on-hour" : "cell",
            tabindex: -1,
            "aria-label": cellText(t, row, slot),
            title: cellText(t, row, slot),
          });
          line.append(this.place(cell, row, slot));
          return cell;
        }),
      );
      this.element.append(line);
    });
    this.element.addEventListener("keydown", (event) => this.keyDown(event));
    this.element.addEventListener("pointerdown", (event) => this.pointerDown(event));
    this.element.addEventListener("pointermove", (event) => this.pointerMove(event));
    this.element.addEventListener("pointerup", (event) => this.pointerUp(event));
    this.element.addEventListener("pointercancel", () => this.stop());
    // A page that scrolls takes the touch away; while painting it must not.
    this.element.addEventListener("touchmove", (event) => this.paint && event.preventDefault(), { passive: false });
    this.element.addEventListener("contextmenu", (event) => this.paint && event.preventDefault());
    this.cells[this.focus.row]![this.focus.slot]!.tabIndex = 0;
  }

  /** Shows the host's grid and what is being painted. */
  render(): void {
    const grid = this.painted();
    this.cells.forEach((line, row) =>
      line.forEach((cell, slot) => {
        const open = grid[row]![slot]!;
        const text = String(open);
        if (cell.getAttribute("aria-selected") !== text) cell.setAttribute("aria-selected", text);
        cell.classList.toggle("joins", open && slot > 0 && grid[row]![slot - 1]!);
      }),
    );
  }

  private place(element: HTMLElement, row: number, slot: number): HTMLElement {
    element.style.setProperty("--row", String(row));
    element.style.setProperty("--slot", String(slot));
    element.dataset["row"] = String(row);
    element.dataset["slot"] = String(slot);
    if (row === HEADER || slot === HEADER) this.headers.set(`${row}:${slot}`, element);
    return element;
  }

  private at(cell: Cell): HTMLElement | undefined {
    return this.headers.get(`${cell.row}:${cell.slot}`) ?? this.cells[cell.row]?.[cell.slot];
  }

  private painted(): Grid {
    const grid = this.host.grid();
    if (!this.paint) return grid;
    const { from, to, open } = this.paint;
    const [top, bottom] = [Math.min(from.row, to.row), Math.max(from.row, to.row)];
    const [left, right] = [Math.min(from.slot, to.slot), Math.max(from.slot, to.slot)];
    return grid.map((line, row) => line.map((was, slot) => (row >= top && row <= bottom && slot >= left && slot <= right ? open : was)));
  }

  // Pointers

  private cellOf(target: EventTarget | null): Cell | null {
    const element = target instanceof Element ? target.closest<HTMLElement>("[data-row]") : null;
    return element ? { row: Number(element.dataset["row"]), slot: Number(element.dataset["slot"]) } : null;
  }

  private pointerDown(event: PointerEvent): void {
    if (event.button !== 0 || this.host.isReadOnly) return;
    const cell = this.cellOf(event.target);
    if (!cell) return;
    if (event.pointerType === "touch") {
      // Released at once it is a tap, which pointerUp takes.
      this.hold = setTimeout(() => this.start(cell), HOLD_MS);
      return;
    }
    event.preventDefault();
    this.start(cell);
  }

  private start(cell: Cell): void {
    this.hold = undefined;
    if (cell.row === HEADER || cell.slot === HEADER) return;
    this.paint = { from: cell, to: cell, open: !this.host.grid()[cell.row]![cell.slot]! };
    this.moveFocus(cell);
    this.render();
  }

  private pointerMove(event: PointerEvent): void {
    if (!this.paint) return;
    const box = document.elementFromPoint(event.clientX, event.clientY);
    const cell = box && this.element.contains(box) ? this.cellOf(box) : null;
    if (!cell || cell.row === HEADER || cell.slot === HEADER) return;
    this.paint.to = cell;
    this.render();
  }

  private pointerUp(event: PointerEvent): void {
    const cell = this.cellOf(event.target);
    if (this.paint) {
      const grid = this.painted();
      this.paint = null;
      this.host.edit(grid);
    } else if (cell && (this.hold !== undefined || cell.row === HEADER || cell.slot === HEADER) && !this.host.isReadOnly) {
      this.moveFocus(cell);
      this.toggle(cell);
    }
    this.stop();
  }

  private stop(): void {
    clearTimeout(this.hold);
    this.hold = undefined;
    if (this.paint) {
      this.paint = null;
      this.render();
    }
  }

  // Keyboard

  private keyDown(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = this.stepOf(event.key);
    if (step) {
      const to = this.neighbour(step);
      if (
        event.shiftKey &&
        this.focus.row !== HEADER &&
        this.focus.slot !== HEADER &&
        to.row !== HEADER &&
        to.slot !== HEADER &&
        !this.host.isReadOnly
      ) {
        // Carries the state of the cell along.
        const open = this.host.grid()[this.focus.row]![this.focus.slot]!;
        this.host.edit(
          this.host.grid().map((line, row) => (row === to.row ? line.map((was, slot) => (slot === to.slot ? open : was)) : line)),
        );
      }
      this.moveFocus(to);
    } else if (event.key === "Home" || event.key === "End") {
      this.moveFocus({ row: this.focus.row, slot: event.key === "Home" ? 0 : this.focus.row === HEADER ? SLOTS - 2 : SLOTS - 1 });
    } else if ((event.key === " " || event.key === "Enter") && !this.host.isReadOnly) {
      this.toggle(this.focus);
    } else return;
    event.preventDefault();
  }

  /** Rows and slots that an arrow key goes; on narrow screens days are columns. */
  private stepOf(key: string): readonly [number, number] | null {
    const steps: Readonly<Record<string, readonly [number, number]>> = {
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
    };
    const step = steps[key];
    if (!step) return null;
    const isTransposed = getComputedStyle(this.element).getPropertyValue("--transposed").trim() === "1";
    return isTransposed ? [step[1], step[0]] : step;
  }

  private neighbour([rows, slots]: readonly [number, number]): Cell {
    const { row, slot } = this.focus;
    // A header of the hours is two slots wide.
    const wide = row === HEADER && slots !== 0 ? slots * 2 : slots;
    const next = { row: clamp(row + rows, HEADER, ROWS.length - 1), slot: clamp(slot + wide, HEADER, SLOTS - 1) };
    if (next.row === HEADER && next.slot === HEADER) return this.focus;
    return next.row === HEADER ? { row: HEADER, slot: Math.floor(next.slot / 2) * 2 } : next;
  }

  private moveFocus(cell: Cell): void {
    const before = this.at(this.focus);
    if (before) before.tabIndex = -1;
    this.focus = cell;
    const now = this.at(cell);
    if (!now) return;
    now.tabIndex = 0;
    now.focus({ preventScroll: false });
  }

  /** A cell, or by its header a day or an hour of all weekdays: open unless all of it is. */
  private toggle({ row, slot }: Cell): void {
    const grid = this.host.grid();
    const includes = (r: number, s: number) =>
      row === HEADER ? r < WEEKDAYS.length && (s === slot || s === slot + 1) : slot === HEADER ? r === row : r === row && s === slot;
    const open = grid.some((line, r) => line.some((was, s) => includes(r, s) && !was));
    this.host.edit(grid.map((line, r) => line.map((was, s) => (includes(r, s) ? open : was))));
    this.host.say(this.host.t(open ? "hours.opened" : "hours.closed"));
  }
}
