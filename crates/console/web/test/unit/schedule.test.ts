// The week grid against an oracle that says, as crates/engine/src/calendar.rs does, when a schedule is open.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import {
  DAY_KINDS,
  type Grid,
  ROWS,
  SLOTS,
  WEEKDAYS,
  type Window,
  dayNames,
  emptyGrid,
  gridOf,
  keptWindows,
  parseWindows,
  rowsOf,
  windowFaults,
  windowsOf,
  windowsToJson,
} from "../../src/hours/schedule";

/** Days in a row: weekday (Monday 0), what the calendar says of it, month and day. */
interface Day {
  readonly weekday: number;
  readonly kind: "holiday" | "working" | null;
  readonly date: number;
}

const minute = (time: string) => Number(time.slice(0, 2)) * 60 + Number(time.slice(3));
const number = (date: string) => Number(date.replace("-", ""));

/** Whether a window begins on the day. */
function begins(window: Window, day: Day): boolean {
  const isWorkday = day.kind === "working" || (day.kind === null && day.weekday < 5);
  const on = window.days.some((name) =>
    (rowsOf(name) ?? []).some((row) => {
      if (row === "workday") return isWorkday;
      if (row === "restday") return !isWorkday;
      if (row === "holiday") return day.kind === "holiday";
      return WEEKDAYS[day.weekday] === row;
    }),
  );
  if (!on || window.season === null) return on;
  const [from, to] = window.season.split("..").map(number) as [number, number];
  return from <= to ? day.date >= from && day.date <= to : day.date >= from || day.date <= to;
}

/** Open minutes of the days after the first, minute by minute. */
function open(windows: readonly Window[], days: readonly Day[]): string {
  const marks: boolean[][] = days.map(() => new Array<boolean>(1440).fill(false));
  days.forEach((day, index) => {
    for (const window of windows.filter((w) => begins(w, day))) {
      const [from, to] = [minute(window.from), minute(window.to)];
      for (let at = from; at < (to > from ? to : to + 1440); at += 1) {
        const line = marks[index + Math.floor(at / 1440)];
        if (line) line[at % 1440] = true;
      }
    }
  });
  return marks
    .slice(1)
    .map((line) => line.map((is) => (is ? "x" : ".")).join(""))
    .join("\n");
}

/** Three weeks with holidays and a make-up working Sunday, in and out of a season, begun a day early. */
const DAYS: Day[] = Array.from({ length: 22 }, (_, i) => ({
  weekday: (i + 6) % 7,
  kind: i >= 10 && i <= 12 ? "holiday" : i === 14 ? "working" : null,
  date: i < 9 ? 930 : 1005,
}));

const halfHour = fc.integer({ min: 0, max: 47 });
const time = (slot: number) => `${String(Math.floor(slot / 2)).padStart(2, "0")}:${slot % 2 ? "30" : "00"}`;
const dayName = fc.constantFrom("mon", "tue", "wed", "thu", "fri", "sat", "sun", "daily", "mon-fri", "sat-sun", "fri-mon", ...DAY_KINDS);
const window = fc
  .record({
    days: fc.uniqueArray(dayName, { minLength: 1, maxLength: 3 }),
    from: fc.oneof({ weight: 4, arbitrary: halfHour.map(time) }, { weight: 1, arbitrary: fc.constantFrom("06:15", "23:45") }),
    to: fc.oneof(
      { weight: 4, arbitrary: fc.integer({ min: 0, max: 48 }).map(time) },
      { weight: 1, arbitrary: fc.constantFrom("09:10", "00:01") },
    ),
    season: fc.oneof(
      { weight: 4, arbitrary: fc.constant(null) },
      { weight: 1, arbitrary: fc.constantFrom("10-01..12-31", "12-01..09-30") },
    ),
  })
  .filter(({ from, to }) => from !== to)
  .map((w): Window => ({ ...w, isDaysImplied: false, other: {} }));
const schedule = fc.array(window, { maxLength: 5 });
const grid = fc.array(fc.array(fc.boolean(), { minLength: SLOTS, maxLength: SLOTS }), { minLength: ROWS.length, maxLength: ROWS.length });
/** Ranges as people choose them: half of the slots from a start on. */
const coarseGrid = fc.array(fc.tuple(fc.nat(ROWS.length - 1), fc.nat(47), fc.nat(48)), { maxLength: 8 }).map((ranges): Grid => {
  const rows = emptyGrid().map((row) => [...row]);
  for (const [row, from, to] of ranges) for (let slot = from; slot < to; slot += 1) rows[row]![slot] = true;
  return rows;
});

describe("grid and schedule", () => {
  it("a grid comes back from its windows", () => {
    fc.assert(
      fc.property(fc.oneof(grid, coarseGrid), schedule, (wanted, before) => {
        assert.deepEqual(
          gridOf(windowsOf(wanted, before)),
          wanted.map((row) => [...row]),
        );
      }),
    );
  });

  it("without an edit nothing is rewritten", () => {
    fc.assert(
      fc.property(schedule, (windows) => {
        assert.deepEqual(windowsOf(gridOf(windows), windows), windows);
      }),
    );
  });

  it("rewritten by an edit and its reverse, a schedule is open when it was", () => {
    fc.assert(
      fc.property(schedule, fc.nat(ROWS.length - 1), fc.nat(SLOTS - 1), (windows, row, slot) => {
        const before = gridOf(windows);
        const flip = (g: Grid): Grid => g.map((line, r) => line.map((was, s) => (r === row && s === slot ? !was : was)));
        const edited = windowsOf(flip(before), windows);
        const back = windowsOf(before, edited);
        assert.equal(open(back, DAYS), open(windows, DAYS));
        assert.notDeepEqual(gridOf(edited), before);
      }),
      { numRuns: 150 },
    );
  });

  it("what the grid does not show survives any edit, word by word", () => {
    fc.assert(
      fc.property(schedule, coarseGrid, (windows, wanted) => {
        const kept = (list: readonly Window[]) => keptWindows(list).map(({ days, from, to, season }) => ({ days, from, to, season }));
        assert.deepEqual(kept(windowsOf(wanted, windows)), kept(windows));
      }),
    );
  });

  it("the grid's own windows are valid and mean what is shown", () => {
    fc.assert(
      fc.property(coarseGrid, (wanted) => {
        const windows = windowsOf(wanted, []);
        for (const w of windows) assert.deepEqual(windowFaults(w), []);
        const weekdays = windows.filter(({ days }) => !days.some((day) => (DAY_KINDS as readonly string[]).includes(day)));
        // A plain week, after the Sunday before it.
        const week: Day[] = Array.from({ length: 8 }, (_, i) => ({ weekday: (i + 6) % 7, kind: null, date: 601 }));
        const shown = WEEKDAYS.map((_, day) => wanted[day]!.map((is) => (is ? "x" : ".").repeat(30)).join("")).join("\n");
        assert.equal(open(weekdays, week), shown);
      }),
      { numRuns: 60 },
    );
  });
});

describe("windows in words of the configuration", () => {
  const read = (windows: unknown) => parseWindows(windows);
  const paint = (windows: Window[], edits: [(typeof ROWS)[number], number, number, boolean][]) => {
    const rows = gridOf(windows).map((row) => [...row]);
    for (const [name, from, to, is] of edits) for (let slot = from; slot < to; slot += 1) rows[ROWS.indexOf(name)]![slot] = is;
    return windowsToJson(windowsOf(rows, windows));
  };

  it("edge.toml's market: the summer nights are kept, the grid shows the rest", () => {
    const market = [
      { days: ["workday"], from: "06:00", to: "08:30" },
      { days: ["restday"], from: "06:00", to: "11:00" },
      { days: ["fri-sat"], from: "18:00", to: "02:00", season: "05-01..10-07" },
    ];
    const windows = read(market);
    assert.deepEqual(windowsToJson(keptWindows(windows)), [market[2]]);
    assert.deepEqual(paint(windows, [["workday", 17, 20, true]]), [
      { days: ["workday"], from: "06:00", to: "10:00" },
      market[1],
      market[2],
    ]);
  });

  it("nights over midnight are one window, and equal hours share one", () => {
    assert.deepEqual(
      paint(
        [],
        [
          ["fri", 44, 48, true],
          ["sat", 0, 4, true],
          ["sat", 44, 48, true],
          ["sun", 0, 4, true],
        ],
      ),
      [{ days: ["fri-sat"], from: "22:00", to: "02:00" }],
    );
    assert.deepEqual(
      paint(
        [],
        [
          ["sun", 44, 48, true],
          ["mon", 0, 4, true],
        ],
      ),
      [{ days: ["sun"], from: "22:00", to: "02:00" }],
    );
    assert.deepEqual(
      paint(
        [],
        WEEKDAYS.flatMap(
          (day) =>
            [
              [day, 0, 12, true],
              [day, 44, 48, true],
            ] as [typeof day, number, number, boolean][],
        ),
      ),
      [{ days: ["daily"], from: "22:00", to: "06:00" }],
    );
  });

  it("whole days end at 24:00", () => {
    assert.deepEqual(
      paint(
        [],
        [
          ["sat", 0, 48, true],
          ["sun", 0, 48, true],
        ],
      ),
      [{ days: ["sat-sun"], from: "00:00", to: "24:00" }],
    );
  });

  it("a window on kinds of days over midnight, or between half hours, is not shown", () => {
    const windows = read([
      { days: ["workday", "sat"], from: "22:00", to: "02:00" },
      { from: "06:15", to: "07:00" },
    ]);
    assert.deepEqual(windowsToJson(keptWindows(windows)), [
      { days: ["workday"], from: "22:00", to: "02:00" },
      { from: "06:15", to: "07:00" },
    ]);
    // The Saturday's night is edited away, the workdays' stays.
    assert.deepEqual(
      paint(windows, [
        ["sat", 44, 48, false],
        ["sun", 0, 4, false],
      ]),
      [
        { days: ["workday"], from: "22:00", to: "02:00" },
        { from: "06:15", to: "07:00" },
      ],
    );
  });

  it("runs of days have short names", () => {
    const names = (text: string) => dayNames([...text].map((c) => c === "x"));
    assert.deepEqual(names("xxxxxxx"), ["daily"]);
    assert.deepEqual(names("xxxxx.."), ["mon-fri"]);
    assert.deepEqual(names("x....xx"), ["sat-mon"]);
    assert.deepEqual(names("x.x.xx."), ["mon", "wed", "fri-sat"]);
  });

  it("fields that are not known, and days left out, come back", () => {
    const windows = [
      { from: "06:00", to: "09:30" },
      { days: ["mon"], from: "06:00", to: "07:00", note: "x" },
    ];
    assert.deepEqual(windowsToJson(read(windows)), windows);
  });

  it("faults are named", () => {
    const of = (days: string[], from: string, to: string, season: string | null = null) => windowFaults({ days, from, to, season });
    assert.deepEqual(of(["mon"], "06:00", "24:00"), []);
    assert.deepEqual(of([], "24:00", "24:00"), ["days", "from", "same"]);
    assert.deepEqual(of(["someday"], "6:00", "25:00"), ["days", "from", "to"]);
    assert.deepEqual(of(["mon"], "06:00", "07:00", "02-30..03-01"), ["season"]);
    assert.deepEqual(of(["mon"], "06:00", "07:00", "11-01..02-29"), []);
  });
});
