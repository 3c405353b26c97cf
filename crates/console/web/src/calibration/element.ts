// <ground-calibration>: pairs of picture and ground points, with the server's residuals, ground grid and cell borders. See README.md.

import { Announcer } from "../lib/announcer";
import { html, reconcile, setText } from "../lib/dom";
import { keepEnter } from "../lib/enter";
import { awaitPicture } from "../lib/first-picture";
import type { Point } from "../lib/geometry";
import { History } from "../lib/history";
import { type TextKey, type Translate, translatorOf } from "../lib/i18n";
import { type IconName, icon } from "../lib/icons";
import { property, sendJson, textProperty } from "../lib/request";
import { UnsavedGuard } from "../lib/unsaved";
import { CalibrationCanvas } from "./canvas";
import {
  type Fit,
  type Ground,
  MIN_PAIRS,
  type Pair,
  isGroundInRange,
  isLocal,
  newPair,
  pairsToJson,
  parseFit,
  parseGround,
  parseNumber,
  parsePairs,
} from "./pairs";

/** Wait after the last change before the server is asked: a drag or typing is over. */
const QUIET_MS = 250;

/** What the server says of the pairs. */
type State =
  | { readonly kind: "few" | "waiting" }
  | { readonly kind: "fit"; readonly fit: Fit; readonly keys: readonly number[] }
  /** `keys`: the pairs that the fault is about. */
  | { readonly kind: "fault"; readonly message: string; readonly keys: readonly number[] };

export class GroundCalibration extends HTMLElement {
  private history: History<readonly Pair[]> | null = null;
  private canvas: CalibrationCanvas | null = null;
  private t: Translate = () => "";
  private state: State = { kind: "few" };
  /** Fields of `calibration` besides the points, which the server needs for the fit. */
  private settings: Record<string, unknown> = {};
  private crs: string | null = null;
  /** Pairs whose coordinates are being typed and are no numbers in range. */
  private readonly unreadable = new Set<number>();
  private lastValue = "";
  private asked = "";
  private timer: ReturnType<typeof setTimeout> | undefined;
  private request: AbortController | null = null;
  private readonly status = new Announcer();
  private readonly input = html("input", { type: "hidden" });
  private readonly message = html("p", { class: "gw-message", role: "status" });
  private readonly rows = html("tbody");
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
      this.append(html("p", { class: "gw-message is-danger", role: "alert" }, this.t("calibration.unreadable", { reason: String(error) })));
    }
  }

  disconnectedCallback(): void {
    this.guard.update();
    this.canvas?.stage.disconnect();
    clearTimeout(this.timer);
    this.request?.abort();
  }

  /** The pairs as JSON text, as the form sends them; pairs without a ground point are left out. */
  get value(): string {
    return JSON.stringify(pairsToJson(this.history?.state ?? []));
  }

  /** For pages that send the value without leaving: the server has the present pairs. */
  markSaved(): void {
    this.history?.markSaved(this.history.state);
    this.guard.update();
  }

  /** For a map: sets the ground point of a pair, counted from 0. */
  setGround(index: number, ground: Ground): void {
    const pair = this.history?.state[index];
    if (pair) this.change(pair.key, (before) => ({ ...before, ground }), null);
  }

  private build(data: unknown): void {
    const { t } = this;
    const history = new History<readonly Pair[]>(parsePairs(property(data, "points") ?? []));
    this.history = history;
    this.crs = textProperty(data, "crs");
    for (const name of ["crs", "distortion", "max_uncertainty_m"]) {
      const value = property(data, name);
      if (value !== undefined && value !== null) this.settings[name] = value;
    }
    const isReadOnly = this.hasAttribute("readonly");
    const canvas = new CalibrationCanvas({
      t,
      isReadOnly,
      pairs: () => history.state,
      fit: () => (this.state.kind === "fit" ? this.state.fit : null),
      isWrong: (pair) => this.isWrong(pair),
      add: (point) => this.addPair(point),
      move: (key, to, mergeKey) => this.change(key, (pair) => ({ ...pair, picture: to }), mergeKey),
      remove: (key) => this.removePair(key),
      selected: (key) => this.select(key),
      say: (text) => this.status.say(text),
    });
    this.canvas = canvas;
    this.input.name = this.getAttribute("name") ?? "";
    const columns: TextKey[] = [
      "calibration.number",
      isLocal(this.crs) ? "calibration.x" : "calibration.lon",
      isLocal(this.crs) ? "calibration.y" : "calibration.lat",
      "calibration.residual",
    ];
    const table = html(
      "table",
      {},
      html("caption", { class: "gw-hidden" }, t("calibration.table")),
      html("thead", {}, html("tr", {}, ...columns.map((key) => html("th", { scope: "col" }, t(key))), html("td"))),
      this.rows,
    );
    const fallback = this.querySelector("img");
    if (fallback) fallback.hidden = true;
    this.append(
      html(
        "div",
        { class: "calibration-main" },
        this.tools(isReadOnly, history, canvas),
        html("div", { class: "gw-picture" }, canvas.stage.root, canvas.loupe.element),
        html(
          "ul",
          { class: "legend" },
          ...(["grid", "cell", "limit"] as const).map((name) =>
            html(
              "li",
              {},
              html("span", { class: `sample ${name}`, "aria-hidden": "true" }),
              html("span", {}, t(`calibration.legend.${name}`)),
            ),
          ),
        ),
        html("p", { class: "gw-hint" }, t("calibration.hint")),
      ),
      html("div", { class: "calibration-side" }, this.message, html("div", { class: "table" }, table)),
      this.status.element,
      this.input,
    );
    const [width, height] = [property(data, "width"), property(data, "height")];
    if (typeof width === "number" && typeof height === "number") canvas.stage.setSize({ width, height });
    const picture = textProperty(data, "picture") ?? fallback?.src ?? null;
    const show = async (url: string) => {
      const isShown = await canvas.stage.show(url);
      canvas.render();
      return isShown;
    };
    if (this.hasAttribute("picture-url")) void awaitPicture(this, show);
    else if (picture) void show(picture).then((isShown) => isShown || this.status.say(t("picture.failed")));
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

  private tools(isReadOnly: boolean, history: History<readonly Pair[]>, canvas: CalibrationCanvas): HTMLElement {
    const add = this.button("add", "calibration.add", () => {
      this.addPair([0.5, 0.7]);
      canvas.focusMark(history.state[history.state.length - 1]!.key);
    });
    add.lastElementChild!.classList.remove("gw-hidden");
    const undo = this.button("undo", "edit.undo", () => history.undo());
    const redo = this.button("redo", "edit.redo", () => history.redo());
    this.refresh.push(() => {
      undo.disabled = !history.canUndo;
      redo.disabled = !history.canRedo;
    });
    const zoom = [
      this.button("zoomOut", "picture.zoom_out", () => canvas.stage.zoomOut()),
      this.button("fit", "picture.fit", () => canvas.stage.fit()),
      this.button("zoomIn", "picture.zoom_in", () => canvas.stage.zoomIn()),
    ];
    return html(
      "div",
      { class: "calibration-tools", role: "group", "aria-label": this.t("zone.tools") },
      ...(isReadOnly ? [] : [add, undo, redo]),
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
    if (!(event.ctrlKey || event.metaKey) || event.altKey || this.hasAttribute("readonly")) return;
    const key = event.key.toLowerCase();
    if (key === "z" && !event.shiftKey) this.history?.undo();
    else if (key === "y" || (key === "z" && event.shiftKey)) this.history?.redo();
    else return;
    event.preventDefault();
    this.update();
  }

  // Edits

  private addPair(point: Point): void {
    const pair = newPair(point);
    this.commit([...(this.history?.state ?? []), pair]);
    // The coordinates come next.
    this.rows.querySelector<HTMLInputElement>(`[data-row="${pair.key}"] input`)?.focus({ preventScroll: true });
  }

  private removePair(key: number): void {
    const pairs = this.history?.state ?? [];
    const index = pairs.findIndex((pair) => pair.key === key);
    this.commit(pairs.filter((pair) => pair.key !== key));
    const next = pairs[index + 1] ?? pairs[index - 1];
    if (next) this.canvas?.focusMark(next.key);
    this.status.say(this.t("calibration.removed", { n: index + 1 }));
  }

  private change(key: number, change: (pair: Pair) => Pair, mergeKey: string | null): void {
    this.commit(
      (this.history?.state ?? []).map((pair) => (pair.key === key ? change(pair) : pair)),
      mergeKey,
    );
  }

  private commit(pairs: readonly Pair[], mergeKey: string | null = null): void {
    this.history?.commit(pairs, mergeKey);
    this.update();
  }

  private select(key: number): void {
    const index = this.history?.state.findIndex((pair) => pair.key === key) ?? -1;
    const pair = this.history?.state[index];
    for (const row of this.rows.children) row.classList.toggle("is-selected", (row as HTMLElement).dataset["row"] === String(key));
    if (pair)
      this.dispatchEvent(new CustomEvent("pair-select", { bubbles: true, detail: { index, picture: pair.picture, ground: pair.ground } }));
  }

  // Display

  private update(): void {
    for (const refresh of this.refresh) refresh();
    this.guard.update();
    this.ask();
    this.render();
    const value = this.value;
    this.input.value = value;
    if (value === this.lastValue) return;
    this.lastValue = value;
    this.dispatchEvent(new CustomEvent("change", { bubbles: true, detail: { points: pairsToJson(this.history?.state ?? []) } }));
  }

  private render(): void {
    this.canvas?.render();
    reconcile(
      this.rows,
      this.history?.state ?? [],
      ({ key }) => String(key),
      (pair) => this.createRow(pair.key),
      (row, pair, index) => this.updateRow(row, pair, index),
    );
    const [kind, text] = this.summary();
    this.message.className = `gw-message ${kind}`;
    setText(this.message, text);
  }

  private summary(): readonly [string, string] {
    const { state, t } = this;
    const complete = this.complete().length;
    const unreadable = (this.history?.state ?? []).findIndex(({ key, ground }) => ground === null && this.unreadable.has(key));
    if (unreadable >= 0) {
      return ["is-danger", t(isLocal(this.crs) ? "calibration.unreadable_m" : "calibration.unreadable_degrees", { n: unreadable + 1 })];
    }
    switch (state.kind) {
      case "few":
        return ["", t("calibration.few", { count: complete, min: MIN_PAIRS })];
      case "waiting":
        return ["", t("calibration.waiting")];
      case "fault":
        return ["is-danger", state.message];
      case "fit": {
        const rms = t("calibration.rms", { rms: state.fit.rms.toFixed(2), step: state.fit.gridStep });
        const wrong = (this.history?.state ?? []).findIndex((pair) => this.isWrong(pair));
        if (wrong >= 0) return ["is-warning", `${t("calibration.suspect", { n: wrong + 1 })} ${rms}`];
        return complete === MIN_PAIRS ? ["is-warning", `${rms} ${t("calibration.exact")}`] : ["is-success", rms];
      }
    }
  }

  private createRow(key: number): HTMLTableRowElement {
    const { t } = this;
    const isReadOnly = this.hasAttribute("readonly");
    const show = html("button", { type: "button", class: "gw-button is-quiet" });
    show.addEventListener("click", () => this.canvas?.focusMark(key));
    const inputs = [0, 1].map(() => {
      const input = html("input", {
        class: "gw-input",
        type: "text",
        inputmode: "decimal",
        maxlength: 40,
        autocomplete: "off",
        readonly: isReadOnly,
      });
      // Two numbers in one field are taken apart when they have come at once, or are complete: while they are typed, every digit would look like the last one.
      input.addEventListener("input", (event) => {
        const isTyped = event instanceof InputEvent && (event.data ?? "").length <= 1 && /^(insertText|delete)/.test(event.inputType);
        this.typed(key, inputs as [HTMLInputElement, HTMLInputElement], !isTyped);
      });
      input.addEventListener("change", () => this.typed(key, inputs as [HTMLInputElement, HTMLInputElement], true));
      input.addEventListener("paste", (event) => {
        const both = parseGround(event.clipboardData?.getData("text") ?? "");
        if (!both || isReadOnly) return;
        event.preventDefault();
        this.change(key, (pair) => ({ ...pair, ground: both }), null);
      });
      input.addEventListener("focus", () => this.select(key));
      return input;
    });
    const remove = html("button", { type: "button", class: "gw-button is-quiet" }, icon("remove"), html("span", { class: "gw-hidden" }));
    remove.addEventListener("click", () => this.removePair(key));
    return html(
      "tr",
      { "data-row": key },
      html("th", { scope: "row" }, show),
      ...inputs.map((input) => html("td", {}, input)),
      html("td", { class: "residual" }, t("calibration.none")),
      html("td", {}, isReadOnly ? null : remove),
    );
  }

  private typed(key: number, [x, y]: [HTMLInputElement, HTMLInputElement], isWhole: boolean): void {
    // Two numbers in one field are a pair, as from a map.
    const both = isWhole ? (parseGround(x.value) ?? (x.value.trim() === "" ? parseGround(y.value) : null)) : null;
    const [lon, lat] = both ?? [parseNumber(x.value), parseNumber(y.value)];
    const ground: Ground | null = lon !== null && lat !== null && isGroundInRange([lon, lat], this.crs) ? [lon, lat] : null;
    const isBad = (input: HTMLInputElement, value: Ground | null) =>
      input.value.trim() !== "" &&
      (value === null ? isWhole || parseGround(input.value) === null : !isGroundInRange(value, this.crs));
    x.setAttribute("aria-invalid", String(isBad(x, lon === null ? null : [lon, 0])));
    y.setAttribute("aria-invalid", String(isBad(y, lat === null ? null : [0, lat])));
    if (x.matches("[aria-invalid=true]") || y.matches("[aria-invalid=true]")) this.unreadable.add(key);
    else this.unreadable.delete(key);
    this.change(key, (pair) => ({ ...pair, ground }), `ground:${key}`);
  }

  private updateRow(row: HTMLTableRowElement, pair: Pair, index: number): void {
    const { t } = this;
    const [x, y] = Array.from(row.querySelectorAll("input")) as [HTMLInputElement, HTMLInputElement];
    const show = row.querySelector("button")!;
    setText(show, String(index + 1));
    show.setAttribute("aria-label", t("calibration.show", { n: index + 1 }));
    x.setAttribute("aria-label", t(isLocal(this.crs) ? "calibration.x_of" : "calibration.lon_of", { n: index + 1 }));
    y.setAttribute("aria-label", t(isLocal(this.crs) ? "calibration.y_of" : "calibration.lat_of", { n: index + 1 }));
    const remove = row.querySelector("td:last-child span");
    if (remove) setText(remove, t("calibration.remove", { n: index + 1 }));
    if (pair.ground) {
      // What is typed stays as it is typed while it means the same: `34.70`.
      if (parseNumber(x.value) !== pair.ground[0]) x.value = String(pair.ground[0]);
      if (parseNumber(y.value) !== pair.ground[1]) y.value = String(pair.ground[1]);
    } else if (![x, y].some((input) => parseNumber(input.value) === null || input.getAttribute("aria-invalid") === "true")) {
      // Undone: the pair has no ground point any more.
      x.value = "";
      y.value = "";
    }
    // A form that was sent without this pair would lose it.
    const missing = pair.ground ? "" : t("calibration.incomplete", { n: index + 1 });
    const isFirst = x.value.trim() === "" || x.getAttribute("aria-invalid") === "true";
    x.setCustomValidity(isFirst ? missing : "");
    y.setCustomValidity(isFirst ? "" : missing);
    const residual = this.residual(pair);
    setText(
      row.querySelector(".residual")!,
      residual === null ? t("calibration.none") : t("calibration.metres", { value: residual.toFixed(2) }),
    );
    row.classList.toggle("is-wrong", this.isWrong(pair));
  }

  private residual(pair: Pair): number | null {
    if (this.state.kind !== "fit") return null;
    return this.state.fit.residuals[this.state.keys.indexOf(pair.key)] ?? null;
  }

  /** The pair that a fault names; or one that misses by 2 m and twice what the pairs do on average. */
  private isWrong(pair: Pair): boolean {
    if (this.state.kind === "fault") return this.state.keys.includes(pair.key);
    const residual = this.residual(pair);
    return this.state.kind === "fit" && residual !== null && residual > 2 && residual > 2 * this.state.fit.rms;
  }

  private complete(): readonly Pair[] {
    return (this.history?.state ?? []).filter(({ ground }) => ground !== null);
  }

  // Server

  /** Asks for the fit of the pairs once they rest. A reply to other pairs is not shown. */
  private ask(): void {
    const pairs = this.complete();
    const body = { points: pairsToJson(pairs), ...this.settings };
    const text = JSON.stringify(body);
    if (text === this.asked) return;
    this.asked = text;
    clearTimeout(this.timer);
    this.request?.abort();
    if (pairs.length < MIN_PAIRS) {
      this.state = { kind: "few" };
      return;
    }
    const url = this.getAttribute("fit-url");
    if (!url) return;
    // The last residuals stay while the pairs move, so that the table does not flicker.
    if (this.state.kind !== "fit") this.state = { kind: "waiting" };
    const request = new AbortController();
    this.request = request;
    this.timer = setTimeout(() => {
      void sendJson("POST", url, body, this.getAttribute("csrf"), request.signal).then(({ status, body: reply }) => {
        if (request.signal.aborted) return;
        this.state = this.stateOf(
          status,
          reply,
          pairs.map(({ key }) => key),
        );
        if (status !== 200 && status !== 422) this.asked = "";
        this.render();
      });
    }, QUIET_MS);
  }

  private stateOf(status: number, reply: unknown, keys: readonly number[]): State {
    const { t } = this;
    const fit = status === 200 ? parseFit(reply, keys.length) : null;
    if (fit) return { kind: "fit", fit, keys };
    if (status === 422) {
      const named = property(reply, "pairs");
      const wrong = (Array.isArray(named) ? named : []).flatMap((index: unknown) => (typeof index === "number" ? (keys[index] ?? []) : []));
      return { kind: "fault", message: textProperty(reply, "message") ?? t("calibration.refused"), keys: wrong };
    }
    return { kind: "fault", message: t("calibration.failed", { status }), keys: [] };
  }
}
