// The list of zones beside the picture: everything that the picture offers, for keyboard and screen reader, and each zone's properties.

import { html, reconcile, setText, uniqueId } from "../lib/dom";
import { clamp } from "../lib/geometry";
import type { Translate } from "../lib/i18n";
import { icon } from "../lib/icons";
import { KINDS, type Zone, type ZoneKind, zoneWarnings } from "./model";
import type { ZoneStore } from "./store";
import { faultText, kindText, percent, warningText } from "./texts";

export interface PanelHost {
  readonly store: ZoneStore;
  readonly t: Translate;
  say(text: string): void;
  focusCorner(corner: number): void;
}

interface Entry {
  readonly item: HTMLLIElement;
  readonly button: HTMLButtonElement;
  update(zone: Zone): void;
}

export class ZonePanel {
  readonly element: HTMLElement;
  private readonly list = html("ul", { class: "zone-list" });
  private readonly empty: HTMLElement;
  private readonly entries = new WeakMap<Element, Entry>();

  constructor(private readonly host: PanelHost) {
    const { t } = host;
    const title = html("h3", { id: uniqueId("zones") }, t("zone.list"));
    this.list.setAttribute("aria-labelledby", title.id);
    this.empty = html("p", { class: "gw-hint" }, t("zone.none"));
    this.element = html("div", { class: "zone-panel" }, title, this.empty, this.list);
    host.store.subscribe(() => this.render());
    this.render();
  }

  focusEntry(key: number): boolean {
    const item = Array.from(this.list.children).find((child) => (child as HTMLElement).dataset["key"] === String(key));
    const entry = item && this.entries.get(item);
    entry?.button.focus();
    return entry !== undefined;
  }

  private render(): void {
    const { store } = this.host;
    this.empty.hidden = store.zones.length > 0;
    reconcile(
      this.list,
      store.zones,
      ({ key }) => String(key),
      (zone) => this.createEntry(zone.key).item,
      (item, zone) => this.entries.get(item)?.update(zone),
    );
  }

  private createEntry(key: number): Entry {
    const { store, t } = this.host;
    const place = html("div", { id: uniqueId("zone-form") });
    let form: ZoneForm | null = null;
    let shown: { readonly zone: Zone; readonly faults: number } | null = null;
    const id = html("span", { class: "zone-id" });
    const kind = html("span", { class: "zone-kind" });
    const badge = html("span", { class: "zone-badge" });
    const button = html(
      "button",
      { type: "button", class: "zone-name", "aria-controls": place.id },
      html("span", { class: "swatch", "aria-hidden": "true" }),
      id,
      kind,
      badge,
    );
    button.addEventListener("click", () => store.select(store.selected?.key === key ? null : key));
    const item = html("li", { "data-key": key }, button, place);
    const entry: Entry = {
      item,
      button,
      update: (zone) => {
        const isOpen = store.selected?.key === key;
        const faults = store.faultsFor(zone).length;
        // Nothing of a closed entry has changed while another zone is dragged.
        if (!isOpen && !form && shown?.zone === zone && shown.faults === faults) return;
        shown = { zone, faults };
        item.className = ["zone-entry", `kind-${zone.kind}`, isOpen && "is-open"].filter(Boolean).join(" ");
        button.setAttribute("aria-expanded", String(isOpen));
        setText(id, zone.id || t("zone.unnamed"));
        setText(kind, kindText(t, zone.kind));
        setText(badge, faults > 0 ? t("zone.faults", { count: faults }) : "");
        badge.hidden = faults === 0;
        if (isOpen && !form) {
          form = new ZoneForm(this.host, key);
          place.append(form.element);
        } else if (!isOpen && form) {
          form.element.remove();
          form = null;
        }
        form?.update(zone);
      },
    };
    this.entries.set(item, entry);
    return entry;
  }
}

/** Properties of one zone, while its entry is open. Every input is a step of the history. */
class ZoneForm {
  readonly element = html("div", { class: "zone-form" });
  private readonly id: HTMLInputElement;
  private readonly kind: HTMLSelectElement;
  private readonly schedule: HTMLSelectElement;
  private readonly scheduleField: HTMLElement;
  private readonly rules: HTMLElement;
  private readonly corners = html("tbody");
  private readonly cornerCount = html("summary");
  private readonly messages = html("ul", { class: "zone-messages" });

  constructor(
    private readonly host: PanelHost,
    private readonly key: number,
  ) {
    const { store, t } = host;
    const messagesId = uniqueId("zone-messages");
    this.messages.id = messagesId;
    this.id = html("input", {
      class: "gw-input",
      type: "text",
      maxlength: 64,
      autocomplete: "off",
      spellcheck: "false",
      "data-field": "id",
      "aria-describedby": messagesId,
    });
    this.id.addEventListener("input", () => {
      store.change(key, (zone) => ({ ...zone, id: this.id.value.trim() }), `id:${key}`);
    });
    this.kind = select(
      "kind",
      KINDS.map((kind) => ({ id: kind, label: kindText(t, kind) })),
    );
    this.kind.addEventListener("change", () => this.changeKind(this.kind.value as ZoneKind));
    this.schedule = select("schedule", [{ id: "", label: t("zone.schedule.choose") }, ...store.context.schedules]);
    this.schedule.addEventListener("change", () => {
      store.change(key, (zone) => ({ ...zone, schedule: this.schedule.value || null }));
    });
    this.scheduleField = field(t("zone.schedule"), this.schedule);
    this.rules = html("div", { class: "zone-rules" });
    const details = html(
      "details",
      { class: "zone-corners" },
      this.cornerCount,
      html(
        "table",
        {},
        html(
          "thead",
          {},
          html(
            "tr",
            {},
            ...[t("zone.corner"), "x %", "y %", ""].map((text) => html(text ? "th" : "td", text ? { scope: "col" } : {}, text)),
          ),
        ),
        this.corners,
      ),
    );
    const buttons = html(
      "div",
      { class: "zone-buttons" },
      this.button("copy", t("zone.duplicate"), () => store.duplicateZone(key)),
      this.button("remove", t("zone.delete"), () => this.remove(), "is-danger"),
    );
    this.element.append(
      html(
        "fieldset",
        { disabled: store.isReadOnly },
        this.messages,
        field(t("zone.id"), this.id),
        field(t("zone.kind"), this.kind),
        html("p", { class: "gw-hint zone-about" }),
        this.scheduleField,
        html("div", { role: "group", "aria-label": t("zone.rules") }, html("span", { class: "gw-legend" }, t("zone.rules")), this.rules),
        details,
        buttons,
      ),
    );
  }

  update(zone: Zone): void {
    const { store, t } = this.host;
    const faults = store.faultsFor(zone);
    if (this.id.value.trim() !== zone.id) this.id.value = zone.id;
    this.id.setAttribute("aria-invalid", String(faults.some(({ code }) => code === "id" || code === "duplicate")));
    this.kind.value = zone.kind;
    setText(this.element.querySelector(".zone-about")!, t(`zone.about.${zone.kind}`));
    this.scheduleField.hidden = zone.kind !== "permitted" && zone.schedule === null;
    this.showSchedule(
      zone,
      faults.some(({ code }) => code === "no_schedule" || code === "unknown_schedule"),
    );
    this.showRules(zone);
    this.showCorners(zone);
    const messages = [
      ...faults.map((fault) => ({ kind: "danger", text: faultText(t, fault, zone.polygon.length) })),
      ...zoneWarnings(zone, store.context).map((warning) => ({ kind: "warning", text: warningText(t, warning) })),
    ];
    reconcile(
      this.messages,
      messages,
      ({ kind, text }) => `${kind}:${text}`,
      ({ kind, text }) => html("li", { class: `gw-message is-${kind}` }, text),
      () => undefined,
    );
    this.messages.hidden = messages.length === 0;
  }

  /** A schedule that the page does not list stays selected, so that it is not lost by opening the zone. */
  private showSchedule(zone: Zone, isInvalid: boolean): void {
    const value = zone.schedule ?? "";
    if (!Array.from(this.schedule.options).some((option) => option.value === value)) this.schedule.append(html("option", { value }, value));
    this.schedule.value = value;
    this.schedule.setAttribute("aria-invalid", String(isInvalid));
  }

  private showRules(zone: Zone): void {
    const { store, t } = this.host;
    const known = store.context.rules;
    const unknown = zone.rules.filter((id) => !known.some((rule) => rule.id === id)).map((id) => ({ id, label: id }));
    reconcile(
      this.rules,
      [...known, ...unknown],
      ({ id }) => id,
      ({ id, label }) => {
        const box = html("input", { type: "checkbox", value: id, "data-field": "rule" });
        box.addEventListener("change", () => {
          // In the order of the configuration, then those that it lacks.
          const wanted = (zone: Zone) => [...known.map((rule) => rule.id), ...zone.rules.filter((r) => !known.some((k) => k.id === r))];
          store.change(this.key, (zone) => ({
            ...zone,
            rules: [...new Set(wanted(zone))].filter((rule) => (rule === id ? box.checked : zone.rules.includes(rule))),
          }));
        });
        return html("label", { class: "gw-check" }, box, html("span", {}, label));
      },
      (label, { id }) => {
        const box = label.querySelector("input")!;
        box.checked = zone.rules.includes(id);
      },
    );
    let note = this.rules.querySelector(".gw-hint");
    if (!note) {
      note = html("p", { class: "gw-hint" });
      this.rules.append(note);
    }
    setText(note, zone.rules.length === 0 ? t("zone.rules.all") : t("zone.rules.some", { count: zone.rules.length }));
  }

  private showCorners(zone: Zone): void {
    const { t, store } = this.host;
    setText(this.cornerCount, t("zone.corners", { count: zone.polygon.length }));
    reconcile(
      this.corners,
      zone.polygon,
      (_, index) => String(index),
      (_, index) => {
        const go = html(
          "button",
          { type: "button", class: "gw-button is-quiet", "aria-label": t("zone.corner.show", { n: index + 1 }) },
          String(index + 1),
        );
        go.addEventListener("click", () => this.host.focusCorner(index));
        return html(
          "tr",
          {},
          html("th", { scope: "row" }, go),
          ...(["x", "y"] as const).map((axis) => html("td", {}, this.coordinate(index, axis))),
          html("td", { class: "zone-corner-buttons" }, ...this.cornerButtons(index)),
        );
      },
      (row, point) => {
        row.querySelectorAll("input").forEach((input, axis) => {
          const text = percent(point[axis]!);
          if (document.activeElement !== input || Number(input.value) !== Number(text)) input.value = text;
        });
        row.querySelector<HTMLButtonElement>("[data-remove]")!.disabled = store.isReadOnly || zone.polygon.length <= 3;
      },
    );
  }

  private coordinate(index: number, axis: "x" | "y"): HTMLInputElement {
    const { store, t } = this.host;
    const input = html("input", {
      class: "gw-input",
      type: "number",
      min: 0,
      max: 100,
      step: "0.01",
      "aria-label": t("zone.corner.coordinate", { n: index + 1, axis }),
    });
    // `change` and not `input`: half-typed numbers would throw the corner about.
    input.addEventListener("change", () => {
      const value = input.valueAsNumber;
      const zone = store.zones.find(({ key }) => key === this.key);
      const at = zone?.polygon[index];
      if (!at) return;
      const fraction = clamp(Math.round(value * 100) / 1e4, 0, 1);
      // Not a number, or what it shows already: a coordinate may have more decimals than are shown.
      if (!Number.isFinite(value) || percent(at[axis === "x" ? 0 : 1]) === percent(fraction)) {
        store.notify();
        return;
      }
      store.moveCorner(this.key, index, axis === "x" ? [fraction, at[1]] : [at[0], fraction]);
    });
    return input;
  }

  private cornerButtons(index: number): HTMLElement[] {
    const { store, t, say } = this.host;
    const insert = this.button("add", t("zone.corner.insert", { n: index + 1 }), () => {
      const polygon = store.zones.find(({ key }) => key === this.key)?.polygon;
      const [a, b] = [polygon?.[index], polygon?.[(index + 1) % polygon.length]];
      if (!a || !b) return;
      store.insertCorner(this.key, index, [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2]);
      say(t("zone.corner.inserted", { n: index + 2, count: (polygon?.length ?? 0) + 1 }));
    });
    const remove = this.button("remove", t("zone.corner.remove", { n: index + 1 }), () => store.removeCorner(this.key, index));
    remove.dataset["remove"] = "";
    for (const button of [insert, remove]) {
      button.classList.add("is-quiet");
      button.lastElementChild?.classList.add("gw-hidden");
    }
    return [insert, remove];
  }

  private changeKind(kind: ZoneKind): void {
    const { schedules } = this.host.store.context;
    const only = schedules.length === 1 ? schedules[0]!.id : null;
    // A schedule is only allowed on permitted ground.
    this.host.store.change(this.key, (zone) => ({ ...zone, kind, schedule: kind === "permitted" ? (zone.schedule ?? only) : null }));
  }

  private remove(): void {
    const { store, t, say } = this.host;
    const index = store.committed.findIndex(({ key }) => key === this.key);
    const next = store.committed[index + 1] ?? store.committed[index - 1];
    const id = store.committed[index]?.id ?? "";
    store.removeZone(this.key);
    say(t("zone.removed", { id }));
    this.element.dispatchEvent(new CustomEvent("entry-removed", { bubbles: true, detail: next?.key ?? -1 }));
  }

  private button(name: Parameters<typeof icon>[0], text: string, action: () => void, look = ""): HTMLButtonElement {
    const button = html("button", { type: "button", class: `gw-button ${look}`.trim(), title: text }, icon(name), html("span", {}, text));
    button.addEventListener("click", action);
    return button;
  }
}

function field(label: string, control: HTMLElement): HTMLLabelElement {
  return html("label", { class: "gw-field" }, html("span", {}, label), control);
}

function select(name: string, options: readonly { readonly id: string; readonly label: string }[]): HTMLSelectElement {
  return html("select", { class: "gw-input", "data-field": name }, ...options.map(({ id, label }) => html("option", { value: id }, label)));
}
