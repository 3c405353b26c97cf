import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import {
  type Box,
  MIN_SIDE,
  boxBetween,
  isExpired,
  movedBox,
  newSign,
  overlap,
  parseFound,
  parseSigns,
  signsToJson,
  unapproved,
  withCorner,
} from "../../src/signs/model";

const fraction = fc.double({ min: 0, max: 1, noNaN: true });
const isInside = ([left, top, right, bottom]: Box) =>
  left >= 0 && top >= 0 && right <= 1 && bottom <= 1 && right - left >= MIN_SIDE - 1e-9 && bottom - top >= MIN_SIDE - 1e-9;

describe("approved signs", () => {
  it("come back as they were read, without empty fields", () => {
    const signs = [
      { index: 0, box: [0.1, 0.2, 0.3, 0.4], label: "sign", note: "药店", permit: "2026-7", valid_until: "2027-06-30" },
      { index: 1, box: [0.5, 0.2, 0.6, 0.4], label: "banner" },
    ];
    assert.deepEqual(signsToJson(parseSigns(signs)), signs);
    assert.deepEqual(signsToJson([{ ...newSign([0, 0, 1, 1], "sign"), note: "  " }]), [{ box: [0, 0, 1, 1], label: "sign" }]);
  });

  it("that are none are told with their place", () => {
    assert.throws(() => parseSigns([{ box: [0, 0, 1], label: "sign" }]), /signs\[0\]\.box/);
    assert.throws(() => parseSigns([{ box: [0, 0, 1, 1] }]), /signs\[0\]\.label/);
    assert.throws(() => parseSigns({}), /not a list/);
    assert.throws(() => parseSigns(Array.from({ length: 501 }, () => null)), /at most 500/);
  });

  it("stay in the picture however they are drawn, moved and resized", () => {
    fc.assert(
      fc.property(fraction, fraction, fraction, fraction, fc.double({ min: -2, max: 2, noNaN: true }), (a, b, c, d, by) => {
        const box = boxBetween([a, b], [c, d]);
        assert.ok(isInside(box), String(box));
        assert.ok(isInside(movedBox(box, [by, -by])));
        assert.ok(isInside(withCorner(box, 0, [by, by])) && isInside(withCorner(box, 1, [by, 0.5])));
      }),
    );
  });

  it("take what was found at their place with half their size off the list", () => {
    const [sign] = parseSigns([{ box: [0.1, 0.1, 0.3, 0.2], label: "sign" }]);
    const found = parseFound([
      { box: [0.11, 0.1, 0.3, 0.2], label: "sign", score: 0.9 },
      { box: [0.1, 0.1, 0.15, 0.2], label: "sign", score: 0.9 },
      { box: [0.11, 0.1, 0.3, 0.2], label: "banner", score: 0.9 },
    ]);
    assert.deepEqual(unapproved(found, [sign!]), found.slice(1));
    assert.equal(overlap([0, 0, 0.1, 0.1], [0.2, 0.2, 0.3, 0.3]), 0);
    assert.equal(overlap([0, 0, 1, 1], [0, 0, 1, 1]), 1);
  });

  it("expire after their last day", () => {
    const sign = { ...newSign([0, 0, 1, 1], "sign"), validUntil: "2026-05-01" };
    assert.deepEqual(
      ["2026-04-30", "2026-05-01", "2026-05-02"].map((today) => isExpired(sign, today)),
      [false, false, true],
    );
  });
});
