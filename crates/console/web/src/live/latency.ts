// Decisions of the live player about time: pure, in seconds.

/** A delay that a person does not notice beside a street, and that bridges a keyframe interval's jitter. */
const TARGET = 2;
/** Above this the player runs faster until it is back at the target; 10 % is not visible in a street. */
const CATCH_UP_FROM = 3;
const CATCH_UP_RATE = 1.1;
/** Above this it jumps: a tab that was in the background, a box that stalled. */
const JUMP_FROM = 8;

/** Seconds behind the playback position that stay in the buffer, and those at which it is trimmed to that. */
const KEEP_BEHIND = 10;
const TRIM_FROM = 20;

export interface Steering {
  readonly rate: number;
  /** Position to jump to; `null`: play on. */
  readonly seekTo: number | null;
}

export interface TimeRange {
  readonly start: number;
  readonly end: number;
}

/** How to play on, given the buffered ranges (in order), the position and the present rate. */
export function steer(ranges: readonly TimeRange[], position: number, rate: number): Steering {
  const last = ranges[ranges.length - 1];
  if (!last) return { rate: 1, seekTo: null };
  const latency = last.end - position;
  const here = ranges.find(({ start, end }) => start <= position && position < end);
  if (latency > JUMP_FROM) return { rate: 1, seekTo: Math.max(last.start, last.end - TARGET) };
  // Before the first range at the start, or in a gap that lost data left: go on where there is something.
  const next = ranges.find(({ start }) => start > position);
  if (!here && next) return { rate: 1, seekTo: next.start };
  if (latency > CATCH_UP_FROM) return { rate: CATCH_UP_RATE, seekTo: null };
  return { rate: latency <= TARGET ? 1 : rate, seekTo: null };
}

/** The end of what can be removed from the start of the buffer; `null`: nothing yet. */
export function trimEnd(ranges: readonly TimeRange[], position: number): number | null {
  const first = ranges[0];
  if (!first || position - first.start < TRIM_FROM) return null;
  return position - KEEP_BEHIND;
}

/** The codecs in an MP4's media type, `avc1.640028` of `video/mp4; codecs="avc1.640028"`; `null` without. */
export function codecsOf(mediaType: string | null): string | null {
  const match = /^video\/mp4\s*;\s*codecs\s*=\s*"?([A-Za-z0-9.,\s-]{1,100}?)"?\s*$/i.exec(mediaType ?? "");
  return match?.[1] ?? null;
}

/** The name that people know a codec by (RFC 6381 prefixes). */
export function codecName(codecs: string): string {
  const prefix = codecs.slice(0, 4).toLowerCase();
  if (prefix === "hvc1" || prefix === "hev1") return "H.265";
  if (prefix === "avc1" || prefix === "avc3") return "H.264";
  return codecs;
}
