// Windows of a schedule in words.

import type { Translate } from "../lib/i18n";
import { type Row, ROWS, SLOTS, type Window } from "./schedule";

export function rowText(t: Translate, row: Row): string {
  return t(`hours.day.${row}`);
}

/** One entry of `days`; an unknown one as it is. */
function dayText(t: Translate, day: string): string {
  if (day === "daily") return t("hours.daily");
  const known = (name: string | undefined): Row | null => ROWS.find((row) => row === name) ?? null;
  const [first, last] = day.split("-");
  const [from, to] = [known(first), known(last ?? first)];
  if (!from || !to) return day;
  return last === undefined ? rowText(t, from) : t("hours.days", { from: rowText(t, from), to: rowText(t, to) });
}

export function windowText(t: Translate, { days, from, to, season }: Window): string {
  const isOvernight = to <= from && from !== "24:00";
  const hours = t(isOvernight ? "hours.range.overnight" : "hours.range", { from, to });
  const text = `${days.map((day) => dayText(t, day)).join(t("hours.and"))} ${hours}`;
  if (season === null) return text;
  const [begin = season, end = ""] = season.split("..");
  return t("hours.in_season", { text, from: begin, to: end });
}

/** A time of the grid's columns; the end of the last one is 24:00. */
export function slotText(slot: number): string {
  return `${String(Math.floor(slot / 2)).padStart(2, "0")}:${slot % 2 === 0 ? "00" : "30"}`;
}

export function cellText(t: Translate, row: number, slot: number): string {
  return t("hours.cell", { day: rowText(t, ROWS[row]!), from: slotText(slot), to: slotText(Math.min(slot + 1, SLOTS)) });
}
