import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import { isGroundInRange, parseFit, parseGround, parseNumber, parsePairs } from "../../src/calibration/pairs";
import { fill } from "../../src/lib/i18n";
import { codecName, codecsOf, steer, trimEnd } from "../../src/live/latency";
import { WHOLE, panned, revealing, viewBox, zoomed } from "../../src/picture/view";

const dictionaries = async () =>
  Promise.all(["en", "zh"].map(async (name) => JSON.parse(await readFile(join("i18n", `${name}.json`), "utf8")) as Record<string, string>));

describe("dictionaries", () => {
  it("have the same keys in the same order, and the same placeholders", async () => {
    const [en, zh] = (await dictionaries()) as [Record<string, string>, Record<string, string>];
    assert.deepEqual(Object.keys(zh), Object.keys(en));
    const placeholders = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map((match) => match[1]).sort();
    for (const key of Object.keys(en)) {
      assert.ok(en[key]!.length > 0 && zh[key]!.length > 0, key);
      assert.deepEqual(placeholders(zh[key]!), placeholders(en[key]!), key);
    }
  });

  it("have no key that no module uses", async () => {
    const [en] = await dictionaries();
    const sources: string[] = [];
    const read = async (folder: string): Promise<void> => {
      for (const entry of await readdir(folder, { withFileTypes: true })) {
        if (entry.isDirectory()) await read(join(folder, entry.name));
        else if (entry.name.endsWith(".ts")) sources.push(await readFile(join(folder, entry.name), "utf8"));
      }
    };
    await read("src");
    const text = sources.join("\n");
    // `zone.kind.watch` may be written as `zone.kind.${kind}`.
    const isUsed = (key: string) =>
      text.includes(`"${key}"`) || text.includes(`\`${key.replace(/\.[^.]+$/, ".$")}`) || /^help\.\w+\.keys$/.test(key);
    assert.deepEqual(
      Object.keys(en!).filter((key) => !isUsed(key)),
      [],
    );
  });

  it("are filled by name", () => {
    assert.equal(fill("{a} of {b}, {c}", { a: 1, b: "two" }), "1 of two, {c}");
  });
});

describe("zoom and pan", () => {
  const size = { width: 1920, height: 1080 };

  it("a zoom keeps the point under the pointer, and ends at the whole picture", () => {
    const view = zoomed(WHOLE, size, 4, [960, 540]);
    assert.equal(viewBox(view, size), "720 405 480 270");
    assert.deepEqual(zoomed(view, size, 0.01, [0, 0]), WHOLE);
  });

  it("pans stay in the picture", () => {
    const view = zoomed(WHOLE, size, 2, [0, 0]);
    assert.deepEqual(panned(view, size, -500, 5000), { x: 0, y: 540, zoom: 2 });
    assert.deepEqual(panned(WHOLE, size, 10, 10), WHOLE);
  });

  it("reveals a point with a margin, and does not move for one that is seen", () => {
    const view = zoomed(WHOLE, size, 4, [0, 0]);
    assert.deepEqual(revealing(view, size, [240, 135]), view);
    const moved = revealing(view, size, [1000, 135]);
    assert.ok(moved.x > 1000 - 480 && moved.x < 1000);
  });
});

describe("live", () => {
  it("starts where the stream does, catches up, jumps and bridges gaps", () => {
    assert.deepEqual(steer([], 0, 1), { rate: 1, seekTo: null });
    assert.deepEqual(steer([{ start: 100, end: 101 }], 0, 1), { rate: 1, seekTo: 100 });
    assert.deepEqual(steer([{ start: 100, end: 103 }], 102, 1), { rate: 1, seekTo: null });
    assert.deepEqual(steer([{ start: 100, end: 106 }], 102, 1), { rate: 1.1, seekTo: null });
    // Until it is back at the target.
    assert.deepEqual(steer([{ start: 100, end: 104.5 }], 102, 1.1), { rate: 1.1, seekTo: null });
    assert.deepEqual(steer([{ start: 100, end: 103.9 }], 102, 1.1), { rate: 1, seekTo: null });
    assert.deepEqual(steer([{ start: 100, end: 120 }], 102, 1), { rate: 1, seekTo: 118 });
    assert.deepEqual(
      steer(
        [
          { start: 100, end: 102 },
          { start: 103, end: 104 },
        ],
        102,
        1,
      ),
      { rate: 1, seekTo: 103 },
    );
  });

  it("a jump ends inside the last range", () => {
    assert.deepEqual(
      steer(
        [
          { start: 0, end: 5 },
          { start: 59.5, end: 60 },
        ],
        5,
        1,
      ),
      { rate: 1, seekTo: 59.5 },
    );
  });

  it("trims what was played, in large steps", () => {
    assert.equal(trimEnd([{ start: 0, end: 20 }], 19), null);
    assert.equal(trimEnd([{ start: 0, end: 26 }], 25), 15);
    assert.equal(trimEnd([], 25), null);
  });

  it("reads the codec from the media type", () => {
    assert.equal(codecsOf('video/mp4; codecs="avc1.640028"'), "avc1.640028");
    assert.equal(codecsOf("video/mp4;codecs=hvc1.1.6.L120.90"), "hvc1.1.6.L120.90");
    assert.equal(codecsOf("video/mp4"), null);
    assert.equal(codecsOf('video/mp4; codecs="a\\"b"'), null);
    assert.equal(codecsOf(null), null);
    assert.equal(codecName("hev1.1.6.L93"), "H.265");
    assert.equal(codecName("avc1.42E01E"), "H.264");
    assert.equal(codecName("av01.0.04M.08"), "av01.0.04M.08");
  });
});

describe("calibration", () => {
  it("reads coordinates as maps copy them", () => {
    assert.deepEqual(parseGround("113.6253,34.7466"), [113.6253, 34.7466]);
    assert.deepEqual(parseGround(" 113.6253 34.7466 "), [113.6253, 34.7466]);
    assert.deepEqual(parseGround("[113.6253， 34.7466]"), [113.6253, 34.7466]);
    assert.deepEqual(parseGround("-3.5;0"), [-3.5, 0]);
    for (const text of ["", "113.6253", "1,2,3", "1e5,2", "a,b", "0x10,2", "Infinity,2"]) assert.equal(parseGround(text), null, text);
    assert.equal(parseNumber("34.70"), 34.7);
    assert.equal(parseNumber("113.62°"), 113.62);
    assert.equal(parseNumber("."), null);
  });

  it("knows degrees from metres", () => {
    assert.ok(!isGroundInRange([34.7, 113.6], "EPSG:4490"));
    assert.ok(isGroundInRange([34.7, 113.6], "local:113.6,34.7,0"));
    assert.ok(isGroundInRange([113.6, 34.7], null));
  });

  it("takes only a reply that belongs to the pairs", () => {
    const reply = {
      residuals_m: [0.1, 0.2],
      rms_m: 0.15,
      grid: {
        step_m: 5,
        lines: [
          [
            [0, 0],
            [1, 1],
          ],
          [[0, 0]],
          "x",
        ],
      },
      cells: [
        {
          code: "c",
          lines: [
            [
              [0, 0],
              [2, -1],
            ],
          ],
        },
      ],
    };
    const fit = parseFit(reply, 2)!;
    assert.equal(fit.grid.length, 1);
    assert.deepEqual(fit.cells, [
      {
        code: "c",
        lines: [
          [
            [0, 0],
            [2, -1],
          ],
        ],
      },
    ]);
    assert.equal(parseFit(reply, 3), null);
    assert.equal(parseFit({ residuals_m: ["0.1"], rms_m: 1 }, 1), null);
    assert.equal(parseFit(null, 0), null);
  });

  it("refuses points that saving would lose", () => {
    assert.throws(() => parsePairs([{ picture: [0, 0], ground: [1] }]), /points\[0\]\.ground/);
    assert.throws(() => parsePairs({}), /points: not a list/);
  });
});
