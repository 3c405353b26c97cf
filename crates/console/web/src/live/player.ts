// Plays a fragmented MP4 that a fetch streams, by Media Source Extensions (https://www.w3.org/TR/media-source-2/). No DOM besides the video.

import { type TimeRange, codecName, codecsOf, steer, trimEnd } from "./latency";

/** Why nothing plays. */
export type Reason =
  /** `detail`: the codec's name. */
  | { readonly code: "unsupported"; readonly detail: string }
  | { readonly code: "no_mse" | "no_codec" | "stalled" | "ended" | "hidden" | "broken" }
  /** `detail`: the status, and the server's words for it. */
  | { readonly code: "refused"; readonly detail: string }
  | { readonly code: "unreachable" };

export interface PlayerEvents {
  playing(latency: number): void;
  stopped(reason: Reason | null): void;
}

/** Without data for this long the stream is dead: a camera with long keyframe intervals still sends every frame. */
const STALL_MS = 15_000;
/** Bytes waiting for the buffer at most: two seconds of 16 Mbit/s. More means that the browser does not keep up. */
const MAX_WAITING = 4 << 20;
/** A tab that nobody sees for this long does not need a stream. */
const HIDDEN_MS = 30_000;
/** Steps in which latency is looked at. */
const TICK_MS = 500;

type MediaSourceClass = typeof MediaSource;

/** Safari on phones has the managed variant only. */
function mediaSourceClass(): MediaSourceClass | null {
  const scope = window as unknown as { ManagedMediaSource?: MediaSourceClass; MediaSource?: MediaSourceClass };
  return scope.ManagedMediaSource ?? scope.MediaSource ?? null;
}

export class LivePlayer {
  private abort: AbortController | null = null;
  private objectUrl: string | null = null;
  private source: MediaSource | null = null;
  private buffer: SourceBuffer | null = null;
  private waiting: Uint8Array[] = [];
  private waitingBytes = 0;
  private ticker: ReturnType<typeof setInterval> | undefined;
  private lastData = 0;
  private hiddenSince: number | null = null;

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly events: PlayerEvents,
  ) {}

  get isRunning(): boolean {
    return this.abort !== null;
  }

  /** Starts, or starts over. `codecs`: those of the stream where the page knows them. */
  async start(url: string, codecs: string | null): Promise<void> {
    this.close();
    const Source = mediaSourceClass();
    if (!Source) return this.stop({ code: "no_mse" });
    if (codecs !== null && !isSupported(Source, codecs)) return this.stop({ code: "unsupported", detail: codecName(codecs) });
    const abort = new AbortController();
    this.abort = abort;
    this.lastData = performance.now();
    this.ticker = setInterval(() => this.tick(), TICK_MS);
    let response: Response;
    try {
      response = await fetch(url, { credentials: "same-origin", cache: "no-store", signal: abort.signal });
    } catch {
      if (!abort.signal.aborted) this.stop({ code: "unreachable" });
      return;
    }
    if (!response.ok || !response.body) return this.stop({ code: "refused", detail: await refusal(response) });
    const found = codecsOf(response.headers.get("Content-Type")) ?? codecs;
    if (found === null) return this.stop({ code: "no_codec" });
    if (!isSupported(Source, found)) return this.stop({ code: "unsupported", detail: codecName(found) });
    try {
      await this.open(Source, found, abort.signal);
      await this.receive(response.body, abort.signal);
      if (!abort.signal.aborted) this.stop({ code: "ended" });
    } catch {
      if (!abort.signal.aborted) this.stop({ code: "broken" });
    }
  }

  /** Ends the stream. `reason`: why, if it was not asked for. */
  stop(reason: Reason | null = null): void {
    this.close();
    this.events.stopped(reason);
  }

  private close(): void {
    this.abort?.abort();
    this.abort = null;
    clearInterval(this.ticker);
    this.buffer = null;
    this.source = null;
    this.waiting = [];
    this.waitingBytes = 0;
    this.hiddenSince = null;
    if (this.objectUrl) {
      this.video.removeAttribute("src");
      this.video.load();
      URL.revokeObjectURL(this.objectUrl);
      this.objectUrl = null;
    }
  }

  private async open(Source: MediaSourceClass, codecs: string, signal: AbortSignal): Promise<void> {
    const source = new Source();
    // Required by the managed variant.
    this.video.disableRemotePlayback = true;
    const opened = new Promise<void>((resolve) => source.addEventListener("sourceopen", () => resolve(), { once: true }));
    this.objectUrl = URL.createObjectURL(source);
    this.video.src = this.objectUrl;
    await opened;
    if (signal.aborted) return;
    this.source = source;
    this.buffer = source.addSourceBuffer(mediaType(codecs));
    this.buffer.addEventListener("updateend", () => this.append());
    this.buffer.addEventListener("error", () => this.stop({ code: "broken" }));
  }

  private async receive(body: ReadableStream<Uint8Array>, signal: AbortSignal): Promise<void> {
    const reader = body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || signal.aborted) return;
      this.lastData = performance.now();
      this.waiting.push(value);
      this.waitingBytes += value.length;
      if (this.waitingBytes > MAX_WAITING) throw new Error("the browser does not keep up");
      this.append();
    }
  }

  /** Hands over what waits. One operation at a time; `updateend` calls again. */
  private append(): void {
    const { buffer, video } = this;
    if (!buffer || buffer.updating || this.source?.readyState !== "open") return;
    const end = trimEnd(rangesOf(buffer.buffered), video.currentTime);
    if (end !== null) {
      buffer.remove(0, end);
      return;
    }
    const chunk = this.waiting.shift();
    if (!chunk) return;
    this.waitingBytes -= chunk.length;
    try {
      buffer.appendBuffer(chunk as Uint8Array<ArrayBuffer>);
    } catch (error) {
      if (!(error instanceof DOMException && error.name === "QuotaExceededError")) throw error;
      // The browser's limit is lower than the trimming allows for: drop all that was played.
      this.waiting.unshift(chunk);
      this.waitingBytes += chunk.length;
      if (video.currentTime > 1) buffer.remove(0, video.currentTime - 1);
      else this.stop({ code: "broken" });
    }
  }

  private tick(): void {
    const { video, buffer } = this;
    if (performance.now() - this.lastData > STALL_MS) return this.stop({ code: "stalled" });
    if (document.hidden) {
      this.hiddenSince ??= performance.now();
      if (performance.now() - this.hiddenSince > HIDDEN_MS) this.stop({ code: "hidden" });
      return;
    }
    this.hiddenSince = null;
    if (!buffer) return;
    const ranges = rangesOf(buffer.buffered);
    const { rate, seekTo } = steer(ranges, video.currentTime, video.playbackRate);
    if (seekTo !== null) video.currentTime = seekTo;
    if (video.playbackRate !== rate) video.playbackRate = rate;
    const last = ranges[ranges.length - 1];
    if (!last) return;
    // A muted video may start by itself; where the browser refuses, the next tick asks again.
    if (video.paused) void video.play().catch(() => undefined);
    this.events.playing(Math.max(0, last.end - video.currentTime));
  }
}

function mediaType(codecs: string): string {
  return `video/mp4; codecs="${codecs}"`;
}

function isSupported(Source: MediaSourceClass, codecs: string): boolean {
  return Source.isTypeSupported(mediaType(codecs));
}

function rangesOf(buffered: TimeRanges): TimeRange[] {
  return Array.from({ length: buffered.length }, (_, i) => ({ start: buffered.start(i), end: buffered.end(i) }));
}

/** The server's own words for a refusal, at most 200 characters of them. */
async function refusal(response: Response): Promise<string> {
  const body: unknown = await response.json().catch(() => null);
  const message = typeof body === "object" && body !== null ? (body as Record<string, unknown>)["message"] : null;
  return typeof message === "string" ? `${response.status}: ${message.slice(0, 200)}` : String(response.status);
}
