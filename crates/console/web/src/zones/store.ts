// State of the zone editor: the zones with their history, what is selected, the polygon that is being drawn. No DOM.

import { History } from "../lib/history";
import type { Point } from "../lib/geometry";
import {
  type Context,
  type Zone,
  type ZoneFault,
  type ZoneKind,
  duplicateOf,
  insertCorner,
  moveCorner,
  newZone,
  removeCorner,
  replaceZone,
  translated,
  zoneFaults,
  zonesToJson,
} from "./model";

/** A polygon that is being drawn. */
export interface Draft {
  readonly kind: ZoneKind;
  readonly points: readonly Point[];
  /** Where the pointer or the keyboard's cross is. */
  readonly cursor: Point;
}

export class ZoneStore {
  private history: History<readonly Zone[]>;
  private listeners: (() => void)[] = [];
  private faultsOf: { readonly zones: readonly Zone[]; readonly faults: ZoneFault[][] } | null = null;
  /** Zones while something is dragged; becomes a step of the history when it is dropped. */
  private previewed: readonly Zone[] | null = null;
  private selectedKey: number | null = null;
  private drawing: Draft | null = null;
  /** The zones as the server has them, which changes by others are compared with. */
  base: readonly Zone[];
  isSnapping = true;

  constructor(
    zones: readonly Zone[],
    readonly context: Context,
    readonly isReadOnly: boolean,
  ) {
    this.history = new History(zones);
    this.base = zones;
  }

  subscribe(listener: () => void): void {
    this.listeners.push(listener);
  }

  get zones(): readonly Zone[] {
    return this.previewed ?? this.history.state;
  }

  /** The zones without a drag that has not ended. */
  get committed(): readonly Zone[] {
    return this.history.state;
  }

  get faults(): ZoneFault[][] {
    if (this.faultsOf?.zones !== this.zones) {
      this.faultsOf = { zones: this.zones, faults: zoneFaults(this.zones, this.context) };
    }
    return this.faultsOf.faults;
  }

  faultsFor(zone: Zone): ZoneFault[] {
    return this.faults[this.zones.indexOf(zone)] ?? [];
  }

  get hasFaults(): boolean {
    return this.faults.some((faults) => faults.length > 0);
  }

  get selected(): Zone | null {
    return this.zones.find(({ key }) => key === this.selectedKey) ?? null;
  }

  get draft(): Draft | null {
    return this.drawing;
  }

  get canUndo(): boolean {
    return (this.drawing?.points.length ?? 0) > 0 || this.history.canUndo;
  }

  get canRedo(): boolean {
    return this.drawing === null && this.history.canRedo;
  }

  get isDirty(): boolean {
    return this.history.isDirty;
  }

  commit(zones: readonly Zone[], mergeKey: string | null = null): void {
    this.previewed = null;
    if (!this.isReadOnly) this.history.commit(zones, mergeKey);
    this.notify();
  }

  preview(zones: readonly Zone[] | null): void {
    this.previewed = zones;
    this.notify();
  }

  select(key: number | null): void {
    if (key === this.selectedKey && this.drawing === null) return;
    this.selectedKey = key;
    this.drawing = null;
    this.history.seal();
    this.notify();
  }

  undo(): void {
    this.step(() => this.history.undo());
  }

  redo(): void {
    if (this.drawing) return;
    this.step(() => this.history.redo());
  }

  /** The server has these zones, by default the present ones. */
  markSaved(zones: readonly Zone[] = this.history.state): void {
    this.history.markSaved(zones);
    this.base = zones;
    this.notify();
  }

  /** Takes zones that were merged with the server's version `theirs`, as a step that can be undone. */
  takeMerged(zones: readonly Zone[], theirs: readonly Zone[]): void {
    this.commit(zones);
    this.base = theirs;
    // Equal contents are saved contents, whichever objects they are.
    const isTheirs = JSON.stringify(zonesToJson(zones)) === JSON.stringify(zonesToJson(theirs));
    this.history.markSaved(isTheirs ? zones : theirs);
    this.notify();
  }

  change(key: number, change: (zone: Zone) => Zone, mergeKey: string | null = null): void {
    this.commit(replaceZone(this.committed, key, change), mergeKey);
  }

  moveCorner(key: number, corner: number, to: Point, mergeKey: string | null = null): void {
    this.change(key, (zone) => moveCorner(zone, corner, to), mergeKey);
  }

  insertCorner(key: number, after: number, at: Point): void {
    this.change(key, (zone) => insertCorner(zone, after, at));
  }

  /** Removes a corner; a polygon of three keeps them. Returns whether it was removed. */
  removeCorner(key: number, corner: number): boolean {
    const zone = this.committed.find((z) => z.key === key);
    if (!zone || zone.polygon.length <= 3) return false;
    this.change(key, (z) => removeCorner(z, corner));
    return true;
  }

  moveZone(key: number, by: Point, mergeKey: string | null = null): void {
    this.change(key, (zone) => ({ ...zone, polygon: translated(zone.polygon, by) }), mergeKey);
  }

  removeZone(key: number): void {
    if (this.selectedKey === key) this.selectedKey = null;
    this.commit(this.committed.filter((zone) => zone.key !== key));
  }

  duplicateZone(key: number): void {
    const index = this.committed.findIndex((zone) => zone.key === key);
    const zone = this.committed[index];
    if (!zone) return;
    const copy = duplicateOf(this.committed, zone);
    this.selectedKey = copy.key;
    this.commit([...this.committed.slice(0, index + 1), copy, ...this.committed.slice(index + 1)]);
  }

  startDraft(kind: ZoneKind): void {
    if (this.isReadOnly) return;
    this.drawing = { kind, points: [], cursor: [0.5, 0.5] };
    this.selectedKey = null;
    this.notify();
  }

  moveCursor(cursor: Point): void {
    this.setDraft((draft) => ({ ...draft, cursor }));
  }

  addDraftPoint(point: Point): void {
    this.setDraft((draft) => ({ ...draft, points: [...draft.points, point], cursor: point }));
  }

  removeDraftPoint(): void {
    this.setDraft((draft) => ({ ...draft, points: draft.points.slice(0, -1) }));
  }

  cancelDraft(): void {
    this.drawing = null;
    this.notify();
  }

  /** Makes the draft a zone and selects it; `null` while it has fewer than three points. */
  finishDraft(): Zone | null {
    const draft = this.drawing;
    if (!draft || draft.points.length < 3) return null;
    const created = newZone(this.committed, draft.kind, draft.points);
    const schedules = this.context.schedules;
    const zone = created.kind === "permitted" && schedules.length === 1 ? { ...created, schedule: schedules[0]!.id } : created;
    this.drawing = null;
    this.selectedKey = zone.key;
    this.commit([...this.committed, zone]);
    return zone;
  }

  seal(): void {
    this.history.seal();
  }

  private step(step: () => boolean): void {
    if (this.drawing && this.drawing.points.length > 0) {
      this.removeDraftPoint();
      return;
    }
    this.previewed = null;
    if (step()) this.notify();
  }

  private setDraft(change: (draft: Draft) => Draft): void {
    if (!this.drawing) return;
    this.drawing = change(this.drawing);
    this.notify();
  }

  notify(): void {
    for (const listener of this.listeners) listener();
  }
}
