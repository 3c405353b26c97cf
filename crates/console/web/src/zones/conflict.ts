// Two versions of a view's zones side by side, after someone else saved first. A person chooses zone by zone; nothing is overwritten unseen.

import { html, setAttributes, svg, uniqueId } from "../lib/dom";
import { type Point, area, clearLabelPoint } from "../lib/geometry";
import type { Translate } from "../lib/i18n";
import type { Size } from "../picture/view";
import { type ZoneDifference, differences, merged } from "./diff";
import type { Zone } from "./model";
import { kindText } from "./texts";

export interface Conflict {
  readonly base: readonly Zone[];
  readonly mine: readonly Zone[];
  readonly theirs: readonly Zone[];
  /** Who saved theirs, and when, as the server words it. */
  readonly by: string | null;
  readonly at: string | null;
  readonly picture: string | null;
  readonly size: Size;
}

type Side = "mine" | "theirs";

/** Shows the conflict in a modal dialog inside `host`. Resolves with the merged zones, or `null` to go on editing without a decision. */
export function resolveConflict(host: HTMLElement, conflict: Conflict, t: Translate): Promise<Zone[] | null> {
  const found = differences(conflict.base, conflict.mine, conflict.theirs);
  const choice = new Map<string, Side>();
  for (const { id, proposed } of found) if (proposed) choice.set(id, proposed);
  const title = html("h2", { id: uniqueId("conflict") }, t("conflict.title"));
  const dialog = html("dialog", { class: "gw zone-conflict", "aria-labelledby": title.id });
  const pictures = html("div", { class: "sides" }, side("mine", conflict, found, t), side("theirs", conflict, found, t));
  const apply = html("button", { type: "button", class: "gw-button is-primary" }, t("conflict.apply"));
  const rows = found.map((difference) => new Row(difference, choice, t, () => update()));
  const update = () => {
    const open = found.filter(({ id }) => !choice.has(id)).length;
    apply.disabled = open > 0;
    apply.textContent = open > 0 ? t("conflict.open", { count: open }) : t("conflict.apply");
    for (const row of rows) row.update();
    for (const name of ["mine", "theirs"] as const) {
      for (const group of pictures.querySelectorAll<SVGElement>(`[data-side="${name}"] [data-zone]`)) {
        group.classList.toggle("is-chosen", choice.get(group.dataset["zone"] ?? "") === name);
      }
    }
  };
  const takeAll = (name: Side) => {
    for (const { id } of found) choice.set(id, name);
    update();
  };
  const button = (text: string, action: () => void) => {
    const element = html("button", { type: "button", class: "gw-button" }, text);
    element.addEventListener("click", action);
    return element;
  };
  const list = html("ul", { class: "differences" }, ...rows.map(({ element }) => element));
  const highlight = (event: Event) => {
    const id = event.target instanceof Element ? event.target.closest<HTMLElement>("[data-difference]")?.dataset["difference"] : undefined;
    for (const group of pictures.querySelectorAll<SVGElement>("[data-zone]"))
      group.classList.toggle("is-pointed", group.dataset["zone"] === id);
  };
  list.addEventListener("pointerover", highlight);
  list.addEventListener("focusin", highlight);
  return new Promise((resolve) => {
    const close = (zones: Zone[] | null) => {
      dialog.close();
      dialog.remove();
      resolve(zones);
    };
    apply.addEventListener("click", () => close(merged(conflict.mine, conflict.theirs, found, choice)));
    dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      close(null);
    });
    dialog.append(
      title,
      html("p", {}, explanation(conflict, t)),
      pictures,
      found.length > 0 ? list : html("p", { class: "gw-message" }, t("conflict.same")),
      html(
        "div",
        { class: "conflict-buttons" },
        button(t("conflict.all_theirs"), () => takeAll("theirs")),
        button(t("conflict.all_mine"), () => takeAll("mine")),
        html("span", { class: "spacer" }),
        button(t("conflict.back"), () => close(null)),
        apply,
      ),
    );
    host.append(dialog);
    update();
    dialog.showModal();
  });
}

function explanation({ by, at }: Conflict, t: Translate): string {
  const who = by ?? t("conflict.someone");
  return at ? t("conflict.by_at", { by: who, at }) : t("conflict.by", { by: who });
}

/** One difference, with the choice between the two versions. */
class Row {
  readonly element: HTMLLIElement;
  private readonly inputs: Record<Side, HTMLInputElement>;

  constructor(
    private readonly difference: ZoneDifference,
    private readonly choice: Map<string, Side>,
    private readonly t: Translate,
    changed: () => void,
  ) {
    const name = uniqueId("version");
    const input = (side: Side) => {
      const radio = html("input", { type: "radio", name, value: side });
      radio.addEventListener("change", () => {
        choice.set(difference.id, side);
        changed();
      });
      return radio;
    };
    this.inputs = { mine: input("mine"), theirs: input("theirs") };
    const { mine, theirs } = difference;
    const kind = (mine ?? theirs)!.kind;
    this.element = html(
      "li",
      { class: `kind-${kind}`, "data-difference": difference.id },
      html(
        "fieldset",
        {},
        html("legend", {}, html("span", { class: "swatch", "aria-hidden": "true" }), html("strong", {}, difference.id)),
        ...(["mine", "theirs"] as const).map((side) =>
          html(
            "label",
            {},
            html("span", { class: "gw-check" }, this.inputs[side], html("span", {}, t(`conflict.${side}`))),
            html("span", { class: "what" }, this.describe(side)),
          ),
        ),
      ),
    );
  }

  update(): void {
    const chosen = this.choice.get(this.difference.id);
    this.inputs.mine.checked = chosen === "mine";
    this.inputs.theirs.checked = chosen === "theirs";
    this.element.classList.toggle("is-open", chosen === undefined);
  }

  private describe(side: Side): string {
    const { t, difference } = this;
    const zone = difference[side];
    const before = difference.base;
    if (!zone) return before ? t("conflict.removed") : t("conflict.absent");
    if (!before) return t("conflict.added");
    if (difference.fields.length === 0) return t("conflict.kept");
    return difference.fields
      .map((field) => {
        switch (field) {
          case "kind":
            return `${t("zone.kind")}: ${kindText(t, zone.kind)}`;
          case "rules":
            return `${t("zone.rules")}: ${zone.rules.join(", ") || t("zone.rules.all")}`;
          case "schedule":
            return `${t("zone.schedule")}: ${zone.schedule ?? t("conflict.none")}`;
          case "polygon":
            return shapeText(before.polygon, zone.polygon, t);
          case "other":
            return JSON.stringify(zone.other);
        }
      })
      .join(" · ");
  }
}

function shapeText(before: readonly Point[], now: readonly Point[], t: Translate): string {
  if (before.length !== now.length) return t("conflict.corners", { before: before.length, count: now.length });
  const moved = now.filter((point, index) => point[0] !== before[index]![0] || point[1] !== before[index]![1]).length;
  return moved === 0 ? t("conflict.unmoved") : t("conflict.moved", { count: moved });
}

function side(name: Side, conflict: Conflict, found: readonly ZoneDifference[], t: Translate): HTMLElement {
  const { width, height } = conflict.size;
  const zones = conflict[name];
  const points = (polygon: readonly Point[]) => polygon.map(([x, y]) => `${x * width},${y * height}`).join(" ");
  // Texts are drawn in pixels of the picture; a side is about a third of a window wide.
  const fontSize = Math.round(width / 40);
  const drawing = svg("svg", {
    class: "conflict-picture",
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-label": t(`conflict.${name}`),
  });
  if (conflict.picture) drawing.append(svg("image", { href: conflict.picture, width, height, preserveAspectRatio: "none" }));
  for (const zone of zones) {
    const difference = found.find(({ id }) => id === zone.id);
    const smaller = zones.filter((other) => other !== zone && area(other.polygon) < area(zone.polygon)).map(({ polygon }) => polygon);
    const half: Point = [(zone.id.length * fontSize * 0.6) / 2 / width, fontSize / 2 / height];
    const [x, y] = clearLabelPoint(zone.polygon, smaller, half);
    const group = svg("g", { class: `zone kind-${zone.kind}${difference ? " differs" : ""}`, "data-zone": zone.id });
    const other = difference && (name === "mine" ? difference.theirs : difference.mine);
    if (other && difference.fields.includes("polygon"))
      group.append(svg("polygon", { class: "other-version", points: points(other.polygon) }));
    group.append(
      svg("polygon", { class: "casing", points: points(zone.polygon) }),
      svg("polygon", { class: "area", points: points(zone.polygon) }),
    );
    if (difference) {
      const label = svg("text", { x: x * width, y: y * height }, zone.id);
      label.style.fontSize = `${fontSize}px`;
      group.append(label);
      for (const corner of movedCorners(zone, other ?? null)) {
        group.append(svg("circle", { class: "moved", cx: corner[0] * width, cy: corner[1] * height, r: fontSize / 3 }));
      }
    }
    drawing.append(group);
  }
  const figure = html("figure", { "data-side": name }, html("figcaption", {}, t(`conflict.${name}`)), drawing);
  setAttributes(figure, { class: "side" });
  return figure;
}

/** Corners that the other version does not have. */
function movedCorners(zone: Zone, other: Zone | null): readonly Point[] {
  if (!other) return [];
  return zone.polygon.filter(([x, y]) => !other.polygon.some((point) => point[0] === x && point[1] === y));
}
