// The difference between two versions of a view's zones, and their merge. Zones are the same if they have the same id.

import { type Zone, isSameZone } from "./model";

export type Field = "kind" | "polygon" | "rules" | "schedule" | "other";

/** A zone in the versions that know it; `null` where a version lacks it. */
export interface ZoneDifference {
  readonly id: string;
  readonly base: Zone | null;
  readonly mine: Zone | null;
  readonly theirs: Zone | null;
  /** Fields in which mine and theirs differ; empty if only one of them has the zone. */
  readonly fields: readonly Field[];
  /** The version that holds the only change since the common base; `null` if both changed it, which only a person can decide. */
  readonly proposed: "mine" | "theirs" | null;
}

/** Zones that differ between mine and theirs: mine in their order, then those that only they have. */
export function differences(base: readonly Zone[], mine: readonly Zone[], theirs: readonly Zone[]): ZoneDifference[] {
  const ids = [...new Set([...mine, ...theirs].map(({ id }) => id))];
  return ids.flatMap((id) => {
    const [b, m, t] = [base, mine, theirs].map((zones) => zones.find((zone) => zone.id === id) ?? null) as [
      Zone | null,
      Zone | null,
      Zone | null,
    ];
    if (isSame(m, t)) return [];
    const proposed = isSame(m, b) ? "theirs" : isSame(t, b) ? "mine" : null;
    return [{ id, base: b, mine: m, theirs: t, fields: m && t ? fieldsOf(m, t) : [], proposed }];
  });
}

/** Theirs with the zones that were chosen from mine, in their order; zones that only mine has come last. */
export function merged(
  mine: readonly Zone[],
  theirs: readonly Zone[],
  found: readonly ZoneDifference[],
  choice: ReadonlyMap<string, "mine" | "theirs">,
): Zone[] {
  const chosen = (zone: Zone): Zone | null => {
    const difference = found.find(({ id }) => id === zone.id);
    return difference && choice.get(zone.id) === "mine" ? difference.mine : zone;
  };
  const kept = theirs.flatMap((zone) => chosen(zone) ?? []);
  const added = mine.filter(({ id }) => choice.get(id) === "mine" && !theirs.some((zone) => zone.id === id));
  return [...kept, ...added];
}

function isSame(a: Zone | null, b: Zone | null): boolean {
  return a === null || b === null ? a === b : isSameZone(a, b);
}

function fieldsOf(a: Zone, b: Zone): Field[] {
  const fields: readonly Field[] = ["kind", "polygon", "rules", "schedule", "other"];
  return fields.filter((field) => JSON.stringify(a[field]) !== JSON.stringify(b[field]));
}
