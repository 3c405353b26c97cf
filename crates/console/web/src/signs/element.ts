// <sign-editor>: which of the signs in the picture are approved, by whom and until when. See README.md.

import { Announcer } from "../lib/announcer";
import { html, reconcile, setAttributes, setText } from "../lib/dom";
import { keepEnter } from "../lib/enter";
import { History } from "../lib/history";
import { type TextKey, type Translate, translatorOf } from "../lib/i18n";
import { type IconName, icon } from "../lib/icons";
import { property, textProperty } from "../lib/request";
import { UnsavedGuard } from "../lib/unsaved";
import { SignCanvas } from "./canvas";
import {
  type Box,
  type Found,
  type Label,
  MAX_SIGNS,
  type Sign,
  isExpired,
  newSign,
  parseFound,
  parseLabels,
  parseSigns,
  signsToJson,
  unapproved,
} from "./model";

/** Where a sign that is added by keyboard begins: in the middle, as large as a shop's board. */
const BY_HAND: Box = [0.4, 0.4, 0.6, 0.5];

export class SignEditor extends HTMLElement {
  private history: History<readonly Sign[]> | null = null;
  private canvas: SignCanvas | null = null;
  private t: Translate = () => "";
  private found: readonly Found[] = [];
  private labels: readonly Label[] = [];
  private today = "";
  private selected: number | null = null;
  private isDrawing = false;
  private lastValue = "";
  private readonly status = new Announcer();
  private readonly input = html("input", { type: "hidden" });
  private readonly list = html("ol", { class: "sign-list" });
  private readonly others = html("ul", { class: "sign-list" });
  private readonly othersTitle = html("h2", {});
  private readonly signsTitle = html("h2", {});
  private readonly refresh: (() => void)[] = [];

  private readonly guard = new UnsavedGuard(this, () => this.history?.isDirty ?? false);

  connectedCallback(): void {
    this.guard.update();
    this.canvas?.stage.connect();
    if (this.history) return;
    this.t = translatorOf(this);
    this.classList.add("gw");
    try {
      this.build(JSON.parse(this.querySelector('script[type="application/json"]')?.textContent ?? "{}"));
    } catch (error) {
      this.append(html("p", { class: "gw-message is-danger", role: "alert" }, this.t("sign.unreadable", { reason: String(error) })));
    }
  }

  disconnectedCallback(): void {
    this.guard.update();
    this.canvas?.stage.disconnect();
  }

  /** The signs as JSON text, as the form sends them. */
  get value(): string {
    return JSON.stringify(signsToJson(this.history?.state ?? []));
  }

  private get isReadOnly(): boolean {
    return this.hasAttribute("readonly");
  }

  private build(data: unknown): void {
    const { t } = this;
    const history = new History<readonly Sign[]>(parseSigns(property(data, "signs")));
    this.history = history;
    this.found = parseFound(property(data, "found"));
    this.labels = parseLabels(property(data, "labels"));
    this.today = textProperty(data, "today") ?? "";
    const canvas = new SignCanvas({
      t,
      isReadOnly: this.isReadOnly,
      signs: () => history.state,
      found: () => unapproved(this.found, history.state),
      selected: () => this.selected,
      isExpired: (sign) => isExpired(sign, this.today),
      isDrawing: () => this.isDrawing,
      select: (key) => this.select(key),
      approve: (found) => this.approve(found),
      drawn: (box) => this.add(box),
      change: (key, box, mergeKey) => this.change(key, { box }, mergeKey),
      remove: (key) => this.removeSign(key),
      say: (text) => this.status.say(text),
      name: (label) => this.name(label),
    });
    this.canvas = canvas;
    this.input.name = this.getAttribute("name") ?? "";
    const fallback = this.querySelector("img");
    if (fallback) fallback.hidden = true;
    this.append(
      html(
        "div",
        { class: "sign-main" },
        this.tools(history, canvas),
        html("div", { class: "gw-picture" }, canvas.stage.root, canvas.loupe.element),
        html("p", { class: "gw-hint" }, t("sign.hint")),
      ),
      html("div", { class: "sign-side" }, this.othersTitle, this.others, this.signsTitle, this.list),
      this.status.element,
      this.input,
    );
    const [width, height] = [property(data, "width"), property(data, "height")];
    if (typeof width === "number" && typeof height === "number") canvas.stage.setSize({ width, height });
    const picture = textProperty(data, "picture") ?? fallback?.src ?? null;
    if (picture) {
      void canvas.stage.show(picture).then((shown) => {
        if (!shown) this.status.say(t("picture.failed"));
        canvas.render();
      });
    }
    this.addEventListener("keydown", (event) => this.shortcut(event));
    keepEnter(this);
    for (const type of ["change", "input"]) {
      this.addEventListener(type, (event) => {
        if (event.target !== this) event.stopPropagation();
      });
    }
    this.lastValue = this.value;
    this.update();
  }

  private tools(history: History<readonly Sign[]>, canvas: SignCanvas): HTMLElement {
    const draw = this.button("box", "sign.draw", () => {
      this.isDrawing = !this.isDrawing;
      if (this.isDrawing) this.status.say(this.t("sign.draw_now"));
    });
    const add = this.button("add", "sign.add", () => this.add(BY_HAND));
    const all = this.button("done", "sign.approve_all", () => {
      const found = unapproved(this.found, history.state);
      this.commit([...history.state, ...found.map(({ box, label }) => newSign(box, label))].slice(0, MAX_SIGNS));
    });
    for (const button of [draw, add, all]) button.lastElementChild!.classList.remove("gw-hidden");
    const undo = this.button("undo", "edit.undo", () => history.undo());
    const redo = this.button("redo", "edit.redo", () => history.redo());
    this.refresh.push(() => {
      undo.disabled = !history.canUndo;
      redo.disabled = !history.canRedo;
      all.disabled = unapproved(this.found, history.state).length === 0;
      add.disabled = draw.disabled = history.state.length >= MAX_SIGNS || this.labels.length === 0;
      setAttributes(draw, { "aria-pressed": String(this.isDrawing) });
    });
    const zoom = [
      this.button("zoomOut", "picture.zoom_out", () => canvas.stage.zoomOut()),
      this.button("fit", "picture.fit", () => canvas.stage.fit()),
      this.button("zoomIn", "picture.zoom_in", () => canvas.stage.zoomIn()),
    ];
    return html(
      "div",
      { class: "sign-tools", role: "group", "aria-label": this.t("zone.tools") },
      ...(this.isReadOnly ? [] : [draw, add, all, undo, redo]),
      ...zoom,
    );
  }

  private button(name: IconName, key: TextKey, action: () => void): HTMLButtonElement {
    const text = this.t(key);
    const button = html(
      "button",
      { type: "button", class: "gw-button", title: text, "data-action": key },
      icon(name),
      html("span", { class: "gw-hidden" }, text),
    );
    button.addEventListener("click", () => {
      action();
      this.update();
    });
    return button;
  }

  private shortcut(event: KeyboardEvent): void {
    if (event.key === "Escape" && this.isDrawing) {
      this.isDrawing = false;
      this.update();
      return;
    }
    if (!(event.ctrlKey || event.metaKey) || event.altKey || this.isReadOnly) return;
    if (event.target instanceof HTMLInputElement) return;
    const key = event.key.toLowerCase();
    if (key === "z" && !event.shiftKey) this.history?.undo();
    else if (key === "y" || (key === "z" && event.shiftKey)) this.history?.redo();
    else return;
    event.preventDefault();
    this.update();
  }

  private name(label: string): string {
    return this.labels.find(({ id }) => id === label)?.label ?? label;
  }

  private select(key: number): void {
    if (this.selected === key) return;
    this.selected = key;
    this.history?.seal();
    this.render();
  }

  private approve(found: Found): void {
    const sign = newSign(found.box, found.label);
    this.commit([...(this.history?.state ?? []), sign]);
    this.selected = sign.key;
    this.update();
    this.canvas?.focusSign(sign.key);
    this.status.say(this.t("sign.approved", { label: this.name(found.label) }));
  }

  private add(box: Box): void {
    const label = this.labels[0]?.id;
    if (label === undefined) return;
    this.isDrawing = false;
    const sign = newSign(box, label);
    this.commit([...(this.history?.state ?? []), sign]);
    this.selected = sign.key;
    this.update();
    this.canvas?.focusSign(sign.key);
  }

  private removeSign(key: number): void {
    const signs = this.history?.state ?? [];
    const index = signs.findIndex((sign) => sign.key === key);
    this.commit(signs.filter((sign) => sign.key !== key));
    this.update();
    const next = this.history?.state[Math.min(index, signs.length - 2)];
    if (next) this.canvas?.focusSign(next.key);
    this.status.say(this.t("sign.removed"));
  }

  private change(key: number, change: Partial<Sign>, mergeKey: string | null): void {
    const signs = this.history?.state ?? [];
    this.history?.commit(
      signs.map((sign) => (sign.key === key ? { ...sign, ...change } : sign)),
      mergeKey,
    );
    this.update();
  }

  private commit(signs: readonly Sign[]): void {
    this.history?.commit(signs);
  }

  private update(): void {
    this.render();
    this.guard.update();
    const value = this.value;
    if (value === this.lastValue) return;
    this.lastValue = value;
    this.dispatchEvent(new CustomEvent("change", { bubbles: true, detail: { signs: JSON.parse(value) as unknown } }));
  }

  private render(): void {
    const { t, history } = this;
    if (!history) return;
    this.input.value = this.value;
    for (const refresh of this.refresh) refresh();
    this.canvas?.render();
    const others = unapproved(this.found, history.state);
    setText(this.othersTitle, t("sign.others", { n: others.length }));
    setText(this.signsTitle, t("sign.signs", { n: history.state.length }));
    reconcile(
      this.others,
      others,
      ({ key }) => String(key),
      (found) => {
        const approve = html("button", { type: "button", class: "gw-button" }, icon("done"), html("span", {}, t("sign.approve")));
        approve.addEventListener("click", () => this.approve(found));
        return html("li", {}, html("span", { class: "what" }), ...(this.isReadOnly ? [] : [approve]));
      },
      (item, found) => {
        const text = t("sign.found", { label: this.name(found.label), percent: Math.round(found.score * 100) });
        setText(item.firstElementChild!, text);
        item.querySelector("button")?.setAttribute("aria-label", `${t("sign.approve")} ${text}`);
      },
    );
    reconcile(
      this.list,
      history.state,
      ({ key }) => String(key),
      (sign) => this.row(sign.key),
      (row, sign, index) => this.updateRow(row, sign, index),
    );
  }

  /** The fields of a sign. */
  private row(key: number): HTMLLIElement {
    const { t } = this;
    const field = (name: "note" | "permit" | "validUntil", text: TextKey, attributes: Readonly<Record<string, string | number>>) => {
      const input = html("input", { class: "gw-input", "data-field": name, autocomplete: "off", disabled: this.isReadOnly, ...attributes });
      input.addEventListener("input", () => this.change(key, { [name]: input.value }, `${name}:${key}`));
      input.addEventListener("focus", () => this.select(key));
      return html("label", { class: "gw-field" }, html("span", {}, t(text)), input);
    };
    const label = html("select", { class: "gw-input", "data-field": "label", disabled: this.isReadOnly });
    label.addEventListener("change", () => this.change(key, { label: label.value }, null));
    label.addEventListener("focus", () => this.select(key));
    const remove = html("button", { type: "button", class: "gw-button" }, icon("remove"), html("span", {}, t("sign.remove")));
    remove.addEventListener("click", () => this.removeSign(key));
    return html(
      "li",
      {},
      html("p", { class: "what" }),
      html("label", { class: "gw-field" }, html("span", {}, t("sign.label")), label),
      field("note", "sign.note", { maxlength: 500 }),
      field("permit", "sign.permit", { maxlength: 100 }),
      field("validUntil", "sign.valid_until", { type: "date" }),
      ...(this.isReadOnly ? [] : [remove]),
    );
  }

  private updateRow(row: HTMLLIElement, sign: Sign, index: number): void {
    const { t } = this;
    row.classList.toggle("is-selected", this.selected === sign.key);
    const expired = isExpired(sign, this.today);
    row.classList.toggle("is-expired", expired);
    const name = `${index + 1}. ${this.name(sign.label)}`;
    setText(row.querySelector(".what")!, expired ? `${name} · ${t("sign.expired")}` : name);
    setAttributes(row.querySelector("button") ?? row, row.querySelector("button") ? { "aria-label": `${t("sign.remove")} ${name}` } : {});
    const label = row.querySelector<HTMLSelectElement>('[data-field="label"]')!;
    const known = this.labels.some(({ id }) => id === sign.label);
    const choices = known ? this.labels : [...this.labels, { id: sign.label, label: sign.label }];
    if (label.options.length !== choices.length) label.replaceChildren(...choices.map(({ id, label: text }) => html("option", { value: id }, text)));
    label.value = sign.label;
    for (const field of ["note", "permit", "validUntil"] as const) {
      const input = row.querySelector<HTMLInputElement>(`[data-field="${field}"]`)!;
      // Not while it is typed in: setting a value moves the cursor.
      if (input.value !== sign[field]) input.value = sign[field];
    }
  }
}
