// Zones, faults and positions in words.

import type { Point } from "../lib/geometry";
import type { Translate } from "../lib/i18n";
import type { Zone, ZoneFault, ZoneKind, ZoneWarning } from "./model";

/** A fraction as a percentage with at most two decimals, the precision of a coordinate. */
export function percent(fraction: number): string {
  return String(Math.round(fraction * 1e4) / 100);
}

export function kindText(t: Translate, kind: ZoneKind): string {
  return t(`zone.kind.${kind}`);
}

export function positionText(t: Translate, [x, y]: Point): string {
  return t("zone.position", { x: percent(x), y: percent(y) });
}

export function cornerText(t: Translate, zone: Zone, corner: number): string {
  const [x, y] = zone.polygon[corner] ?? [0, 0];
  return t("zone.corner.label", { n: corner + 1, count: zone.polygon.length, x: percent(x), y: percent(y) });
}

/** Corners are counted from 1 where people read them. */
export function faultText(t: Translate, fault: ZoneFault, corners: number): string {
  const edge = (first: number) => t("zone.edge", { a: first + 1, b: ((first + 1) % corners) + 1 });
  switch (fault.code) {
    case "few":
      return t("zone.fault.few", { count: fault.points });
    case "outside":
      return t("zone.fault.outside", { n: fault.point + 1 });
    case "identical":
      return t("zone.fault.identical", { a: fault.first + 1, b: fault.second + 1 });
    case "cross":
      return t("zone.fault.cross", { a: edge(fault.first), b: edge(fault.second) });
    case "area":
      return t("zone.fault.area", { percent: (fault.area * 100).toFixed(4) });
    case "id":
      return t("zone.fault.id");
    case "duplicate":
      return t("zone.fault.duplicate", { id: fault.id });
    case "no_schedule":
      return t("zone.fault.no_schedule");
    case "unknown_schedule":
      return t("zone.fault.unknown_schedule", { id: fault.id });
    case "unknown_rule":
      return t("zone.fault.unknown_rule", { id: fault.id });
  }
}

export function warningText(t: Translate, warning: ZoneWarning): string {
  return t(`zone.warning.${warning}`);
}
