import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { History } from "../../src/lib/history";

describe("history", () => {
  it("merges steps with one key until it is sealed", () => {
    const history = new History("");
    for (const text of ["a", "ab", "abc"]) history.commit(text, "id");
    history.seal();
    history.commit("abcd", "id");
    assert.ok(history.undo());
    assert.equal(history.state, "abc");
    assert.ok(history.undo());
    assert.equal(history.state, "");
    assert.ok(!history.undo());
    assert.ok(history.redo() && history.redo() && !history.redo());
    assert.equal(history.state, "abcd");
  });

  it("is clean again when undo comes back to what was saved", () => {
    const history = new History({ n: 0 });
    const one = { n: 1 };
    history.commit(one);
    history.markSaved(one);
    assert.ok(!history.isDirty);
    history.commit({ n: 2 });
    assert.ok(history.isDirty);
    history.undo();
    assert.ok(!history.isDirty);
    history.undo();
    assert.ok(history.isDirty);
  });

  it("does not merge into what was saved", () => {
    const history = new History("");
    history.commit("a", "id");
    history.markSaved("a");
    history.commit("ab", "id");
    history.undo();
    assert.equal(history.state, "a");
  });

  it("does what a list of states and an index do", () => {
    const action = fc.oneof(
      fc.nat(1000).map((n) => ({ commit: n })),
      fc.constant("undo" as const),
      fc.constant("redo" as const),
    );
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
        const history = new History<{ n: number }>({ n: -1 });
        let [states, at] = [[-1], 0];
        for (const step of actions) {
          if (step === "undo") {
            assert.equal(history.undo(), at > 0);
            at = Math.max(0, at - 1);
          } else if (step === "redo") {
            assert.equal(history.redo(), at < states.length - 1);
            at = Math.min(states.length - 1, at + 1);
          } else {
            history.commit({ n: step.commit });
            states = [...states.slice(0, at + 1), step.commit];
            at += 1;
          }
          assert.equal(history.state.n, states[at]);
          assert.equal(history.canUndo, at > 0);
          assert.equal(history.canRedo, at < states.length - 1);
        }
      }),
    );
  });

  it("keeps a bounded number of steps", () => {
    const history = new History(0);
    for (let n = 1; n <= 2000; n += 1) history.commit(n);
    let steps = 0;
    while (history.undo()) steps += 1;
    assert.equal(steps, 500);
  });
});
