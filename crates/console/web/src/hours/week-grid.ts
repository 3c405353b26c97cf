// <week-grid>: the windows of one schedule as a grid of half hours, and as a list that also has what the grid cannot show. See README.md.

import { Announcer } from "../lib/announcer";
import { html, reconcile, setText, uniqueId } from "../lib/dom";
import { keepEnter } from "../lib/enter";
import { History } from "../lib/history";
import { type TextKey, type Translate, translatorOf } from "../lib/i18n";
import { type IconName, icon } from "../lib/icons";
import { property } from "../lib/request";
import { UnsavedGuard } from "../lib/unsaved";
import { GridView } from "./grid-view";
import { ROWS, type Window, gridOf, keptWindows, parseWindows, windowFaults, windowsOf, windowsToJson } from "./schedule";
import { rowText, windowText } from "./texts";

export class WeekGrid extends HTMLElement {
  private history: History<readonly Window[]> | null = null;
  private view: GridView | null = null;
  private t: Translate = () => "";
  private lastValue = "";
  private readonly input = html("input", { type: "hidden" });
  private readonly status = new Announcer();
  private readonly list = html("ul", { class: "windows" });
  private readonly empty = html("p", { class: "gw-message is-warning" });
  private readonly refresh: (() => void)[] = [];

  private readonly guard = new UnsavedGuard(this, () => this.history?.isDirty ?? false);

  connectedCallback(): void {
    this.guard.update();
    if (this.history) return;
    this.t = translatorOf(this);
    this.classList.add("gw");
    try {
      const data: unknown = JSON.parse(this.querySelector('script[type="application/json"]')?.textContent ?? "{}");
      this.build(new History<readonly Window[]>(parseWindows(property(data, "windows") ?? [])));
    } catch (error) {
      this.append(html("p", { class: "gw-message is-danger", role: "alert" }, this.t("hours.unreadable", { reason: String(error) })));
    }
  }

  disconnectedCallback(): void {
    this.guard.update();
  }

  /** For pages that send the value without leaving: the server has the present windows. */
  markSaved(): void {
    this.history?.markSaved(this.history.state);
    this.guard.update();
  }

  /** The windows as JSON text, as the form sends them. */
  get value(): string {
    return JSON.stringify(windowsToJson(this.history?.state ?? []));
  }

  private build(history: History<readonly Window[]>): void {
    const { t } = this;
    const isReadOnly = this.hasAttribute("readonly");
    this.history = history;
    this.view = new GridView({
      t,
      isReadOnly,
      grid: () => gridOf(history.state),
      edit: (grid) => this.commit(windowsOf(grid, history.state)),
      say: (text) => this.status.say(text),
    });
    this.input.name = this.getAttribute("name") ?? "";
    const undo = this.button("undo", "edit.undo", () => history.undo());
    const redo = this.button("redo", "edit.redo", () => history.redo());
    this.refresh.push(() => {
      undo.disabled = !history.canUndo;
      redo.disabled = !history.canRedo;
    });
    const title = html("h3", { id: uniqueId("windows") }, t("hours.windows"));
    this.list.setAttribute("aria-labelledby", title.id);
    setText(this.empty, t("hours.never"));
    this.append(
      isReadOnly ? "" : html("div", { class: "hours-tools" }, undo, redo, html("p", { class: "gw-hint" }, t("hours.hint"))),
      this.view.element,
      html("p", { class: "gw-hint" }, t("hours.hint.calendar")),
      title,
      this.empty,
      this.list,
      ...(isReadOnly ? [] : [this.form()]),
      this.status.element,
      this.input,
    );
    this.addEventListener("keydown", (event) => this.shortcut(event));
    keepEnter(this);
    for (const type of ["change", "input"]) {
      this.addEventListener(type, (event) => {
        if (event.target !== this) event.stopPropagation();
      });
    }
    this.lastValue = this.value;
    this.render();
  }

  private commit(windows: readonly Window[]): void {
    this.history?.commit(windows);
    this.render();
  }

  private render(): void {
    const { history, t } = this;
    if (!history) return;
    this.view?.render();
    this.guard.update();
    for (const refresh of this.refresh) refresh();
    const windows = history.state;
    this.empty.hidden = windows.length > 0;
    reconcile(
      this.list,
      windows,
      (window, index) => `${index}:${JSON.stringify(window)}`,
      (window) => this.entry(window),
      () => undefined,
    );
    const value = this.value;
    this.input.value = value;
    if (value === this.lastValue) return;
    this.lastValue = value;
    const words = windows.map((window) => windowText(t, window));
    this.dispatchEvent(new CustomEvent("change", { bubbles: true, detail: { windows: windowsToJson(windows), words } }));
  }

  private entry(window: Window): HTMLLIElement {
    const { t } = this;
    const isKept = keptWindows([window]).length > 0;
    const text = windowText(t, window);
    const remove = html(
      "button",
      { type: "button", class: "gw-button is-quiet", title: t("hours.remove", { text }) },
      icon("remove"),
      html("span", { class: "gw-hidden" }, t("hours.remove", { text })),
    );
    remove.addEventListener("click", () => {
      this.commit((this.history?.state ?? []).filter((other) => other !== window));
      this.status.say(t("hours.removed", { text }));
      this.list.querySelector<HTMLButtonElement>("button")?.focus();
    });
    return html(
      "li",
      { class: isKept ? "is-kept" : "" },
      html("span", { class: "text" }, text),
      isKept ? html("span", { class: "tag" }, t("hours.not_in_grid")) : null,
      ...(this.hasAttribute("readonly") ? [] : [remove]),
    );
  }

  /** Adds a window of any form, as the grid has no seasons and no times between half hours. */
  private form(): HTMLElement {
    const { t } = this;
    const boxes = ROWS.map((row) => html("input", { type: "checkbox", value: row }));
    const days = html(
      "div",
      { class: "days", role: "group", "aria-label": t("hours.days.label") },
      ...boxes.map((box, index) => html("label", { class: "gw-check" }, box, html("span", {}, rowText(t, ROWS[index]!)))),
    );
    const error = html("p", { class: "gw-message is-danger", role: "alert" });
    const field = (key: TextKey, placeholder: string) => {
      const input = html("input", { class: "gw-input", type: "text", placeholder, maxlength: 12, autocomplete: "off" });
      return { input, label: html("label", { class: "gw-field" }, html("span", {}, t(key)), input) };
    };
    const [from, to, season] = [field("hours.from", "06:15"), field("hours.to", "24:00"), field("hours.season", "04-01..10-31")];
    const add = html("button", { type: "button", class: "gw-button" }, icon("add"), html("span", {}, t("hours.add")));
    add.addEventListener("click", () => {
      const chosen = boxes.filter((box) => box.checked).map((box) => box.value);
      const window: Window = {
        days: chosen,
        from: from.input.value.trim(),
        to: to.input.value.trim(),
        season: season.input.value.trim() || null,
        isDaysImplied: false,
        other: {},
      };
      const faults = windowFaults(window);
      setText(error, faults.map((fault) => t(`hours.fault.${fault}`)).join(" "));
      for (const [name, { input }] of [
        ["from", from],
        ["to", to],
        ["season", season],
      ] as const)
        input.setAttribute("aria-invalid", String(faults.includes(name)));
      if (faults.length > 0) return;
      this.commit([...(this.history?.state ?? []), window]);
      this.status.say(t("hours.added", { text: windowText(t, window) }));
      for (const { input } of [from, to, season]) input.value = "";
      for (const box of boxes) box.checked = false;
    });
    return html(
      "details",
      { class: "hours-form" },
      html("summary", {}, t("hours.add_other")),
      html("div", { class: "fields" }, days, from.label, to.label, season.label, add),
      error,
    );
  }

  private button(name: IconName, key: "edit.undo" | "edit.redo", action: () => boolean): HTMLButtonElement {
    const button = html(
      "button",
      { type: "button", class: "gw-button", title: this.t(key) },
      icon(name),
      html("span", { class: "gw-hidden" }, this.t(key)),
    );
    button.addEventListener("click", () => {
      action();
      this.render();
    });
    return button;
  }

  private shortcut(event: KeyboardEvent): void {
    if (!(event.ctrlKey || event.metaKey) || event.altKey || event.target instanceof HTMLInputElement || this.hasAttribute("readonly"))
      return;
    const key = event.key.toLowerCase();
    if (key === "z" && !event.shiftKey) this.history?.undo();
    else if (key === "y" || (key === "z" && event.shiftKey)) this.history?.redo();
    else return;
    event.preventDefault();
    this.render();
  }
}
