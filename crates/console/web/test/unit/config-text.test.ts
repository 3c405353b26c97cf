import assert from "node:assert/strict";
import { it } from "node:test";
import { lineCount, lineRange } from "../../src/pages/config-text";

it("a line is found by its number", () => {
  const text = "a\nbc\n\nd";
  assert.equal(lineCount(text), 4);
  assert.deepEqual(lineRange(text, 1), [0, 1]);
  assert.deepEqual(lineRange(text, 2), [2, 4]);
  assert.deepEqual(lineRange(text, 3), [5, 5]);
  assert.deepEqual(lineRange(text, 4), [6, 7]);
  assert.deepEqual(lineRange(text, 9), [7, 7]);
  assert.deepEqual(lineRange("", 1), [0, 0]);
});
