// Schedules as crates/config/src/raw/calendar.rs has them, and their mapping to a grid of half hours and back. What the grid cannot show
// (seasons, times between half hours, windows over midnight on kinds of days) is kept as it is.

/** One window of a schedule, in the shape of `[[schedules]].windows`. */
export interface Window {
  /** Days on which it begins; never empty. */
  readonly days: readonly string[];
  /** `HH:MM`; 24:00 is only an end. */
  readonly from: string;
  readonly to: string;
  readonly season: string | null;
  /** Whether `days` was left out in the file, which means daily. */
  readonly isDaysImplied: boolean;
  /** Fields that this module does not know; written back as they were read. */
  readonly other: Readonly<Record<string, unknown>>;
}

export const WEEKDAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"] as const;
export const DAY_KINDS = ["workday", "restday", "holiday"] as const;
/** Rows of the grid: weekdays, whatever the calendar says of them; then kinds of days. */
export const ROWS = [...WEEKDAYS, ...DAY_KINDS] as const;
export type Row = (typeof ROWS)[number];

/** Half hours of a day. */
export const SLOTS = 48;
const SLOT_MINUTES = 30;
const DAY_MINUTES = SLOTS * SLOT_MINUTES;

/** Bound on what is accepted from a page; far above any real schedule. */
const MAX_WINDOWS = 500;

/** Whether the schedule is open, by row and half hour. */
export type Grid = readonly (readonly boolean[])[];

const TIME = /^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$/;
const SEASON = /^([0-9]{2})-([0-9]{2})\.\.([0-9]{2})-([0-9]{2})$/;

export function emptyGrid(): Grid {
  return ROWS.map(() => new Array<boolean>(SLOTS).fill(false));
}

/** Reads windows from JSON. What is not a window is an error that names its place, as nothing may be lost by saving. */
export function parseWindows(value: unknown): Window[] {
  if (!Array.isArray(value) || value.length > MAX_WINDOWS) throw new Error(`windows: not a list of at most ${MAX_WINDOWS}`);
  return value.map((item: unknown, index) => {
    const at = `windows[${index}]`;
    if (typeof item !== "object" || item === null) throw new Error(`${at}: not an object`);
    const { days, from, to, season, ...other } = item as Record<string, unknown>;
    if (typeof from !== "string" || typeof to !== "string") throw new Error(`${at}: from or to is not a string`);
    if (season !== undefined && season !== null && typeof season !== "string") throw new Error(`${at}.season: not a string`);
    const list: unknown = days ?? ["daily"];
    if (!Array.isArray(list) || !list.every((day) => typeof day === "string")) throw new Error(`${at}.days: not a list of strings`);
    return { days: list as string[], from, to, season: season ?? null, isDaysImplied: days === undefined || days === null, other };
  });
}

export function windowsToJson(windows: readonly Window[]): unknown[] {
  return windows.map(({ days, from, to, season, isDaysImplied, other }) => ({
    ...(isDaysImplied ? {} : { days }),
    from,
    to,
    ...(season === null ? {} : { season }),
    ...other,
  }));
}

/** Faults of a window that the server would refuse, as keys of texts. */
export type WindowFault = "days" | "from" | "to" | "same" | "season";

export function windowFaults({ days, from, to, season }: Pick<Window, "days" | "from" | "to" | "season">): WindowFault[] {
  const faults: WindowFault[] = [];
  if (days.length === 0 || days.some((day) => rowsOf(day) === null)) faults.push("days");
  if (!TIME.test(from) || from === "24:00") faults.push("from");
  if (!TIME.test(to)) faults.push("to");
  else if (from === to) faults.push("same");
  if (season !== null && !isSeason(season)) faults.push("season");
  return faults;
}

function isSeason(season: string): boolean {
  const match = SEASON.exec(season);
  if (!match) return false;
  const [from, to] = [match.slice(1, 3), match.slice(3, 5)].map(([month, day]) => [Number(month), Number(day)] as const);
  return [from, to].every(
    (date) => date !== undefined && date[0] >= 1 && date[0] <= 12 && date[1] >= 1 && date[1] <= DAYS_OF_MONTH[date[0] - 1]!,
  );
}

const DAYS_OF_MONTH = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] as const;

/** The rows that one entry of `days` names: `mon`, `sat-mon`, `daily`, `workday`. `null`: not known. */
export function rowsOf(day: string): readonly Row[] | null {
  if (day === "daily") return WEEKDAYS;
  const kind = DAY_KINDS.find((name) => name === day);
  if (kind) return [kind];
  const [first = "", last = first, ...rest] = day.split("-");
  const [from, to] = [first, last].map((name) => (WEEKDAYS as readonly string[]).indexOf(name)) as [number, number];
  if (from < 0 || to < 0 || rest.length > 0) return null;
  // `sat-mon` goes over the end of the week.
  return Array.from({ length: ((to - from + 7) % 7) + 1 }, (_, i) => WEEKDAYS[(from + i) % 7]!);
}

/** Minutes since 00:00, `null` if it is not a time. */
function minutes(time: string): number | null {
  return TIME.test(time) ? Number(time.slice(0, 2)) * 60 + Number(time.slice(3)) : null;
}

function timeOf(slot: number): string {
  const minute = slot * SLOT_MINUTES;
  return `${String(Math.floor(minute / 60)).padStart(2, "0")}:${String(minute % 60).padStart(2, "0")}`;
}

/** First slot and the one after the last, counted from the first day's 00:00; `null` if the window does not begin and end on half hours. */
function span({ from, to, season }: Window): readonly [number, number] | null {
  const [start, end] = [minutes(from), minutes(to)];
  if (season !== null || start === null || end === null || start === DAY_MINUTES || start === end) return null;
  if (start % SLOT_MINUTES !== 0 || end % SLOT_MINUTES !== 0) return null;
  return [start / SLOT_MINUTES, (end < start ? end + DAY_MINUTES : end) / SLOT_MINUTES];
}

/** Whether the grid shows this entry of the window's days. */
function isShown(window: Window, day: string): boolean {
  const [slots, rows] = [span(window), rowsOf(day)];
  if (!slots || !rows) return false;
  // After a holiday may come a holiday or not: a row cannot show its own next day.
  return slots[1] <= SLOTS || (WEEKDAYS as readonly string[]).includes(rows[0]!);
}

/** What the grid cannot show: windows, with only those of their days that it does not. */
export function keptWindows(windows: readonly Window[]): Window[] {
  return windows.flatMap((window) => {
    const days = window.days.filter((day) => !isShown(window, day));
    return days.length === 0 ? [] : [{ ...window, days }];
  });
}

/** The grid's view of the windows. */
export function gridOf(windows: readonly Window[]): Grid {
  const grid = emptyGrid().map((row) => [...row]);
  for (const window of windows) {
    for (const day of window.days.filter((d) => isShown(window, d))) {
      const [start, end] = span(window)!;
      for (const name of rowsOf(day)!) {
        const row = ROWS.indexOf(name);
        for (let slot = start; slot < end; slot += 1) {
          // Past midnight it is the next weekday's morning.
          grid[slot < SLOTS ? row : (row + 1) % WEEKDAYS.length]![slot % SLOTS] = true;
        }
      }
    }
  }
  return grid;
}

/** Rows that are edited together: a window over midnight ties weekdays to each other. */
const GROUPS: readonly (readonly Row[])[] = [WEEKDAYS, ...DAY_KINDS.map((kind): readonly Row[] => [kind])];

/**
 * The windows after the grid was edited: those of rows whose cells are as before stay as they were written, in their places; the others are
 * replaced by the fewest that say the same. What the grid does not show always stays.
 */
export function windowsOf(grid: Grid, before: readonly Window[]): Window[] {
  const old = gridOf(before);
  const edited = GROUPS.filter((group) => group.some((name) => !isSameRow(grid, old, name)));
  const isEdited = (name: Row) => edited.some((group) => group.includes(name));
  const result: Window[] = [];
  const written = new Set<readonly Row[]>();
  const write = (group: readonly Row[]) => {
    if (written.has(group)) return;
    written.add(group);
    result.push(...(group === WEEKDAYS ? weekdayWindows(grid) : kindWindows(grid, group[0]!)));
  };
  for (const window of before) {
    const stays = window.days.filter((day) => !isShown(window, day) || !rowsOf(day)!.some(isEdited));
    if (stays.length === window.days.length) result.push(window);
    else {
      for (const day of window.days) {
        const group = GROUPS.find((names) => names.includes(rowsOf(day)?.[0] as Row));
        if (group && edited.includes(group) && isShown(window, day)) write(group);
      }
      if (stays.length > 0) result.push({ ...window, days: stays, isDaysImplied: false });
    }
  }
  for (const group of edited) write(group);
  return result;
}

function isSameRow(a: Grid, b: Grid, name: Row): boolean {
  const row = ROWS.indexOf(name);
  return a[row]!.every((open, slot) => open === b[row]![slot]);
}

/** Open ranges of a row as [first slot, slot after the last]. */
function ranges(row: readonly boolean[]): (readonly [number, number])[] {
  const found: [number, number][] = [];
  row.forEach((open, slot) => {
    if (!open) return;
    const last = found[found.length - 1];
    if (last && last[1] === slot) last[1] = slot + 1;
    else found.push([slot, slot + 1]);
  });
  return found;
}

function kindWindows(grid: Grid, kind: Row): Window[] {
  return ranges(grid[ROWS.indexOf(kind)]!).map(([from, to]) => window([kind], from, to));
}

/** Windows of the seven weekdays: an evening that goes on in the next morning is one window, equal hours share one. */
function weekdayWindows(grid: Grid): Window[] {
  const rows = WEEKDAYS.map((_, day) => ranges(grid[day]!));
  const joined = rows.map((own, day): (readonly [number, number])[] => {
    const next = rows[(day + 1) % 7]!;
    return own.flatMap(([from, to]): (readonly [number, number])[] => {
      if (to === SLOTS && continues(from, next[0])) return [[from, SLOTS + next[0]![1]]];
      const last = rows[(day + 6) % 7]!;
      const evening = last[last.length - 1];
      const isTail = from === 0 && evening?.[1] === SLOTS && continues(evening[0], own[0]);
      return isTail ? [] : [[from, to]];
    });
  });
  const groups = new Map<string, { readonly span: readonly [number, number]; readonly days: boolean[] }>();
  joined.forEach((own, day) => {
    for (const slots of own) {
      const key = slots.join("-");
      const group = groups.get(key) ?? { span: slots, days: new Array<boolean>(7).fill(false) };
      group.days[day] = true;
      groups.set(key, group);
    }
  });
  return [...groups.values()]
    .sort((a, b) => a.days.indexOf(true) - b.days.indexOf(true) || a.span[0] - b.span[0])
    .map(({ span: [from, to], days }) => window(dayNames(days), from, to));
}

/** Whether a range from `from` to midnight and the next day's `morning` make one window: it must be shorter than a day. */
function continues(from: number, morning: readonly [number, number] | undefined): boolean {
  return morning !== undefined && morning[0] === 0 && morning[1] < from;
}

function window(days: readonly string[], from: number, to: number): Window {
  const end = to > SLOTS ? to - SLOTS : to;
  return { days, from: timeOf(from), to: timeOf(end), season: null, isDaysImplied: false, other: {} };
}

/** The shortest names of a set of weekdays: `daily`, ranges of two or more, single days. */
export function dayNames(days: readonly boolean[]): string[] {
  if (days.every(Boolean)) return ["daily"];
  const found: string[] = [];
  for (let day = 0; day < 7; day += 1) {
    if (!days[day] || days[(day + 6) % 7]) continue;
    // A run begins here; it may go over the end of the week.
    let length = 1;
    while (days[(day + length) % 7]) length += 1;
    const [first, last] = [WEEKDAYS[day]!, WEEKDAYS[(day + length - 1) % 7]!];
    found.push(length === 1 ? first : `${first}-${last}`);
  }
  return found;
}
