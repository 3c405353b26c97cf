// <zone-editor>: draws and edits the zones of one view over its picture. See README.md for its attributes, JSON and events.

import { Announcer } from "../lib/announcer";
import { html, setText } from "../lib/dom";
import { keepEnter } from "../lib/enter";
import { awaitPicture } from "../lib/first-picture";
import { type Translate, translatorOf } from "../lib/i18n";
import { type IconName, icon } from "../lib/icons";
import { getJson, property, sendJson, textProperty } from "../lib/request";
import { UnsavedGuard } from "../lib/unsaved";
import type { Size } from "../picture/view";
import { ZoneCanvas } from "./canvas";
import { resolveConflict } from "./conflict";
import { Layers } from "./layers";
import { type Choice, KINDS, type Zone, type ZoneKind, parseZones, zonesToJson } from "./model";
import { ZonePanel } from "./panel";
import { ZoneStore } from "./store";
import { faultText, kindText } from "./texts";

/** Between two questions whether a box that gave no answer is there again. */
const ASK_AGAIN_MS = 2000;

export class ZoneEditor extends HTMLElement {
  private store: ZoneStore | null = null;
  private canvas: ZoneCanvas | null = null;
  private panel: ZonePanel | null = null;
  private t: Translate = () => "";
  private revision: string | null = null;
  private pictureUrl: string | null = null;
  private isSaving = false;
  /** Counts the saves, so that what is found out about one is not said after the next. */
  private saves = 0;
  private lastValue = "";
  private knownFaults = "";
  private readonly status = new Announcer();
  private readonly alarm = new Announcer();
  private readonly input = html("input", { type: "hidden" });
  private readonly message = html("p", { class: "gw-message", role: "status" });
  private readonly refresh: (() => void)[] = [];
  private kindChoice: HTMLSelectElement | null = null;
  private newButton: HTMLButtonElement | null = null;

  private readonly guard = new UnsavedGuard(this, () => this.isDirty);

  connectedCallback(): void {
    this.canvas?.stage.connect();
    if (this.store) {
      this.update();
      return;
    }
    this.t = translatorOf(this);
    this.classList.add("gw");
    try {
      this.build(JSON.parse(this.querySelector('script[type="application/json"]')?.textContent ?? "{}"));
    } catch (error) {
      // Editing what was not understood would lose it when saved.
      this.append(html("p", { class: "gw-message is-danger", role: "alert" }, this.t("zone.unreadable", { reason: String(error) })));
    }
  }

  disconnectedCallback(): void {
    this.guard.update();
    this.canvas?.stage.disconnect();
  }

  /** The zones as JSON text, as the form sends them. */
  get value(): string {
    return JSON.stringify(zonesToJson(this.store?.committed ?? []));
  }

  /** Whether there are edits that were not saved. */
  get isDirty(): boolean {
    return this.store?.isDirty ?? false;
  }

  /** Whether a zone has a fault that the server would refuse. */
  get hasFaults(): boolean {
    return this.store?.hasFaults ?? false;
  }

  /** For pages that save by a form of their own: the server has the present zones, as `revision`. */
  markSaved(revision: string): void {
    this.revision = revision;
    this.store?.markSaved();
  }

  /** Shows the other version and lets the operator merge. Resolves when that is done or put off. */
  async showConflict(reply: unknown): Promise<void> {
    const { store, canvas } = this;
    if (!store || !canvas) return;
    const theirs = parseZones(property(reply, "zones"));
    const revision = textProperty(reply, "revision");
    const zones = await resolveConflict(
      this,
      {
        base: store.base,
        mine: store.committed,
        theirs,
        by: textProperty(reply, "by"),
        at: textProperty(reply, "at"),
        picture: this.pictureUrl,
        size: canvas.stage.size,
      },
      this.t,
    );
    if (!zones) {
      this.say("warning", this.t("save.conflict_open"));
      return;
    }
    this.revision = revision;
    store.takeMerged(zones, theirs);
    this.say("success", this.t("save.merged"));
  }

  private build(data: unknown): void {
    const context = { rules: choices(property(data, "rules")), schedules: choices(property(data, "schedules")) };
    const store = new ZoneStore(parseZones(property(data, "zones") ?? []), context, this.hasAttribute("readonly"));
    this.store = store;
    this.revision = textProperty(data, "revision");
    const layers = new Layers(this.t);
    const host = {
      store,
      t: this.t,
      say: (text: string) => this.status.say(text),
      focusEntry: (key: number) => this.focusEntry(key),
      focusCorner: (corner: number) => this.canvas?.focusCorner(corner),
      viewChanged: (size: Size) => layers.layOut(size),
    };
    const canvas = new ZoneCanvas(host);
    const panel = new ZonePanel(host);
    [this.canvas, this.panel] = [canvas, panel];
    const fallback = this.querySelector("img");
    this.input.name = this.getAttribute("name") ?? "";
    const picture = html("div", { class: "gw-picture" }, canvas.stage.root, canvas.loupe.element);
    const side = html("div", { class: "zone-side" }, panel.element, this.message);
    this.append(
      html("div", { class: "zone-main" }, this.toolbar(store, canvas, layers), picture, this.help()),
      side,
      this.status.element,
      this.alarm.element,
      this.input,
    );
    if (this.hasAttribute("save-url") && !store.isReadOnly) side.append(this.saveButtons());
    if (fallback) fallback.hidden = true;
    const [width, height] = [property(data, "width"), property(data, "height")];
    if (typeof width === "number" && typeof height === "number") canvas.stage.setSize({ width, height });
    if (this.hasAttribute("picture-url")) void awaitPicture(this, (url) => this.replacePicture(url));
    else void this.showPicture(textProperty(data, "picture") ?? fallback?.currentSrc ?? fallback?.src ?? null);
    canvas.setBehind(layers.drawing);
    layers.setData(data, canvas.stage.size);
    void this.loadLayers(layers, canvas);
    this.addEventListener("keydown", (event) => this.shortcut(event));
    keepEnter(this);
    this.addEventListener("entry-removed", (event) => this.focusEntry((event as CustomEvent<number>).detail));
    // The fields' own events would look like the editor's.
    for (const type of ["change", "input"]) {
      this.addEventListener(type, (event) => {
        if (event.target !== this) event.stopPropagation();
      });
    }
    this.lastValue = this.value;
    this.input.value = this.lastValue;
    store.subscribe(() => this.update());
    store.notify();
  }

  /** Shows a newer picture of the same view. */
  async showPicture(url: string | null): Promise<void> {
    if (!url || !(await this.replacePicture(url))) this.say("warning", this.t("picture.failed"));
  }

  private async replacePicture(url: string): Promise<boolean> {
    if (!(await this.canvas?.stage.show(url))) return false;
    this.pictureUrl = url;
    this.canvas?.render();
    return true;
  }

  private update(): void {
    const store = this.store;
    if (!store) return;
    this.guard.update();
    for (const refresh of this.refresh) refresh();
    const faults = store.zones.flatMap((zone) =>
      store.faultsFor(zone).map((fault) => `${zone.id}: ${faultText(this.t, fault, zone.polygon.length)}`),
    );
    const text = faults.join(". ");
    if (text !== this.knownFaults) this.alarm.say(faults[0] ? text : this.t("zone.no_faults"));
    this.knownFaults = text;
    const value = this.value;
    if (value === this.lastValue) return;
    this.lastValue = value;
    this.input.value = value;
    this.dispatchEvent(
      new CustomEvent("change", { bubbles: true, detail: { zones: zonesToJson(store.committed), hasFaults: store.hasFaults } }),
    );
  }

  // Toolbar

  private toolbar(store: ZoneStore, canvas: ZoneCanvas, layers: Layers): HTMLElement {
    const { t } = this;
    const kind = html(
      "select",
      { class: "gw-input", "aria-label": t("zone.new_kind") },
      ...KINDS.map((name) => html("option", { value: name }, kindText(t, name))),
    );
    this.kindChoice = kind;
    const create = this.button("add", "zone.new", () => this.startDrawing(), { text: true });
    create.classList.add("is-primary");
    this.newButton = create;
    const cancel = this.button("close", "zone.cancel", () => store.cancelDraft());
    const undo = this.button("undo", "edit.undo", () => store.undo());
    const redo = this.button("redo", "edit.redo", () => store.redo());
    const snap = this.button("snap", "zone.snap", () => {
      store.isSnapping = !store.isSnapping;
      store.notify();
    });
    const out = this.button("zoomOut", "picture.zoom_out", () => canvas.stage.zoomOut());
    const fit = this.button("fit", "picture.fit", () => canvas.stage.fit());
    const into = this.button("zoomIn", "picture.zoom_in", () => canvas.stage.zoomIn());
    const hint = html("span", { class: "gw-hint zone-drawing" });
    this.refresh.push(() => {
      const draft = store.draft;
      undo.disabled = !store.canUndo;
      redo.disabled = !store.canRedo;
      snap.setAttribute("aria-pressed", String(store.isSnapping));
      cancel.hidden = draft === null;
      hint.hidden = draft === null;
      create.hidden = draft !== null;
      kind.hidden = draft !== null;
      if (draft) setText(hint, t(draft.points.length < 3 ? "zone.draw.start" : "zone.draw.close", { count: draft.points.length }));
    });
    const group = (...children: HTMLElement[]) => html("div", { class: "tool-group" }, ...children);
    const editing = store.isReadOnly ? [] : [group(kind, create, hint, cancel), group(undo, redo, snap)];
    return html(
      "div",
      { class: "zone-tools", role: "group", "aria-label": t("zone.tools") },
      ...editing,
      group(out, fit, into),
      layers.controls,
    );
  }

  private startDrawing(): void {
    this.store?.startDraft((this.kindChoice?.value ?? "watch") as ZoneKind);
    this.canvas?.focusCross();
    this.status.say(this.t("zone.draw.started"));
  }

  private button(
    name: IconName,
    key: "zone.new" | "zone.cancel" | "edit.undo" | "edit.redo" | "zone.snap" | "picture.zoom_in" | "picture.zoom_out" | "picture.fit",
    action: () => void,
    options: { text?: boolean } = {},
  ): HTMLButtonElement {
    const text = this.t(key);
    const button = html(
      "button",
      { type: "button", class: "gw-button", title: text, "data-action": key },
      icon(name),
      html("span", options.text ? {} : { class: "gw-hidden" }, text),
    );
    button.addEventListener("click", action);
    return button;
  }

  private help(): HTMLElement {
    const { t } = this;
    const rows = (["mouse", "corners", "insert", "draw", "zoom", "undo"] as const).map((name) =>
      html("div", {}, html("dt", {}, t(`help.${name}`)), html("dd", {}, t(`help.${name}.keys`))),
    );
    return html("details", { class: "zone-help" }, html("summary", {}, t("help.title")), html("dl", {}, ...rows));
  }

  private shortcut(event: KeyboardEvent): void {
    if (!(event.ctrlKey || event.metaKey) || event.altKey || !this.store || this.store.isReadOnly) return;
    // While two versions are compared, neither changes.
    if (event.target instanceof Element && event.target.closest("dialog")) return;
    const key = event.key.toLowerCase();
    if (key === "z" && !event.shiftKey) this.store.undo();
    else if (key === "y" || (key === "z" && event.shiftKey)) this.store.redo();
    else if (key === "s" && this.hasAttribute("save-url")) void this.save();
    else return;
    event.preventDefault();
  }

  /** The list's entry of a zone; where there is none, the button for a new one. */
  private focusEntry(key: number): void {
    if (!this.panel?.focusEntry(key)) this.newButton?.focus();
  }

  /** What lies behind the zones may come later, so that the page is there first. */
  private async loadLayers(layers: Layers, canvas: ZoneCanvas): Promise<void> {
    const url = this.getAttribute("layers-url");
    if (!url) return;
    try {
      const response = await fetch(url, { credentials: "same-origin", headers: { Accept: "application/json" } });
      if (!response.ok) throw new Error(String(response.status));
      layers.setData(await response.json(), canvas.stage.size);
    } catch {
      this.say("warning", this.t("layer.failed"));
    }
  }

  // Saving

  private saveButtons(): HTMLElement {
    const { t } = this;
    const save = html("button", { type: "button", class: "gw-button is-primary", "data-action": "save" }, t("save.save"));
    const state = html("span", { class: "gw-hint" });
    save.addEventListener("click", () => void this.save());
    this.refresh.push(() => {
      save.disabled = this.isSaving || !this.store?.isDirty;
      setText(state, this.store?.isDirty ? t("save.unsaved") : t("save.saved"));
    });
    return html("div", { class: "zone-save" }, save, state);
  }

  private async save(): Promise<void> {
    const { store, t } = this;
    if (!store || this.isSaving || !store.isDirty) return;
    if (store.hasFaults) {
      this.say("danger", t("save.faults"));
      this.showFirstFault();
      return;
    }
    this.isSaving = true;
    this.saves += 1;
    store.notify();
    const sent = store.committed;
    const url = this.getAttribute("save-url") ?? "";
    const { status, body } = await sendJson("PUT", url, { revision: this.revision, zones: zonesToJson(sent) }, this.getAttribute("csrf"));
    this.isSaving = false;
    if (status >= 200 && status < 300) {
      this.revision = textProperty(body, "revision") ?? this.revision;
      // What was edited while the reply was under way is still unsaved.
      store.markSaved(sent);
      this.say("success", t("save.done"));
      this.dispatchEvent(new CustomEvent("zones-saved", { bubbles: true, detail: { revision: this.revision } }));
    } else if (status === 409) {
      await this.showConflict(body).catch(() => this.say("danger", t("save.failed", { status })));
    } else if (status === 422) {
      const faults = property(body, "faults");
      const texts = (Array.isArray(faults) ? faults : []).map((fault: unknown) =>
        [textProperty(fault, "path"), textProperty(fault, "message")].filter(Boolean).join(": "),
      );
      this.say("danger", [t("save.refused"), ...texts].join(" "));
    } else if (status === 401 || status === 403) {
      this.say("danger", t("save.login"));
    } else if (status === 0) {
      void this.findOut(store, sent, url);
    } else {
      this.say("danger", t("save.failed", { status }));
    }
    store.notify();
  }

  /** After a save without an answer, as of a box that lost its power: asks until the box answers, and says whether it had saved. */
  private async findOut(store: ZoneStore, sent: readonly Zone[], url: string): Promise<void> {
    const { t, saves } = this;
    this.say("danger", t("save.unreachable"));
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN_MS));
      if (this.saves !== saves || !this.isConnected) return;
      const { status, body } = await getJson(url);
      if (this.saves !== saves) return;
      if (status === 200) {
        const asText = (zones: readonly Zone[]) => JSON.stringify(zonesToJson(zones));
        const present = asText(parseZones(property(body, "zones")));
        if (present === asText(sent)) {
          this.revision = textProperty(body, "revision") ?? this.revision;
          store.markSaved(sent);
          this.say("success", t("save.found_saved"));
          this.dispatchEvent(new CustomEvent("zones-saved", { bubbles: true, detail: { revision: this.revision } }));
        } else {
          this.say("warning", present === asText(store.base) ? t("save.found_unsaved") : t("save.conflict_open"));
        }
        return;
      }
      if (status === 401 || status === 403) {
        this.say("danger", t("save.login"));
        return;
      }
      // It may be starting, or a proxy may answer for it.
    }
  }

  private showFirstFault(): void {
    const { store } = this;
    const zone = store?.zones.find((candidate) => store.faultsFor(candidate).length > 0);
    if (!store || !zone) return;
    store.select(zone.key);
    this.focusEntry(zone.key);
  }

  private say(kind: "success" | "warning" | "danger", text: string): void {
    this.message.className = `gw-message is-${kind}`;
    this.message.textContent = text;
  }
}

function choices(value: unknown): Choice[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((item: unknown) => {
    const id = textProperty(item, "id");
    return id === null ? [] : [{ id, label: textProperty(item, "label") ?? id }];
  });
}
