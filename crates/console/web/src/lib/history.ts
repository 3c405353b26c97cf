// Undo and redo over immutable states.

/** States kept; a state shares what did not change with its neighbours, so 500 cost little. */
const LIMIT = 500;

interface Entry<S> {
  readonly state: S;
  /** Commits in a row with the same merge key are one step: typing in a field, holding an arrow key. */
  readonly mergeKey: string | null;
}

export class History<S> {
  private past: Entry<S>[] = [];
  private future: Entry<S>[] = [];
  private present: Entry<S>;
  private saved: S;

  constructor(initial: S) {
    this.present = { state: initial, mergeKey: null };
    this.saved = initial;
  }

  get state(): S {
    return this.present.state;
  }

  get canUndo(): boolean {
    return this.past.length > 0;
  }

  get canRedo(): boolean {
    return this.future.length > 0;
  }

  /** Whether the state differs from the one that was last marked as saved. */
  get isDirty(): boolean {
    return this.present.state !== this.saved;
  }

  /** Makes `state` the present one. The same object as before is no step. */
  commit(state: S, mergeKey: string | null = null): void {
    if (state === this.present.state) return;
    const merges = mergeKey !== null && mergeKey === this.present.mergeKey;
    if (!merges) {
      this.past.push(this.present);
      if (this.past.length > LIMIT) this.past.shift();
    }
    this.present = { state, mergeKey };
    this.future = [];
  }

  /** Ends a sequence of merged commits: the next commit is a step of its own. */
  seal(): void {
    this.present = { state: this.present.state, mergeKey: null };
  }

  undo(): boolean {
    const before = this.past.pop();
    if (!before) return false;
    this.future.push(this.present);
    this.present = { state: before.state, mergeKey: null };
    return true;
  }

  redo(): boolean {
    const after = this.future.pop();
    if (!after) return false;
    this.past.push(this.present);
    this.present = { state: after.state, mergeKey: null };
    return true;
  }

  /** What the server has is `state`. */
  markSaved(state: S): void {
    this.saved = state;
    this.seal();
  }
}
