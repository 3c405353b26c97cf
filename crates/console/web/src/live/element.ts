// <live-player>: a live view on demand; where it cannot play, the newest looks as pictures, and why. See README.md.

import { html, setText } from "../lib/dom";
import { type Translate, translatorOf } from "../lib/i18n";
import { icon } from "../lib/icons";
import { LivePlayer, type Reason } from "./player";

/** Looks come every few seconds; asking more often shows nothing new. */
const LOOK_EVERY_S = 10;
/** Attempts after a stream that played has ended, before looks are shown. */
const RETRIES = 3;
/** After a stream has broken, this long passes before it is asked whether the camera delivers again: what the page shows of it may be older. */
const READY_AFTER_MS = 5000;

export class LivePlayerElement extends HTMLElement {
  private t: Translate = () => "";
  private player: LivePlayer | null = null;
  private retries = 0;
  private retryTimer: ReturnType<typeof setTimeout> | undefined;
  private lookTimer: ReturnType<typeof setInterval> | undefined;
  private readyTimer: ReturnType<typeof setInterval> | undefined;
  /** From when it plays until the operator stops it. */
  private isWanted = false;
  private readonly video = html("video", { muted: true, playsinline: true, tabindex: -1 });
  private readonly look = html("img", { class: "look", alt: "" });
  private readonly text = html("span", { class: "text", role: "status" });
  private readonly latency = html("span", { class: "latency", "aria-hidden": "true" });
  private readonly toggle = html("button", { type: "button", class: "gw-button" });

  connectedCallback(): void {
    if (this.player) return;
    const t = translatorOf(this);
    this.t = t;
    this.classList.add("gw");
    // The attribute alone does not mute a video that a script made.
    this.video.muted = true;
    const given = this.querySelector("img");
    const source = given?.getAttribute("src") ?? this.getAttribute("look");
    if (source) this.look.src = source;
    this.look.alt = given?.alt || t("live.look");
    this.video.setAttribute("aria-label", t("live.video"));
    this.player = new LivePlayer(this.video, { playing: (latency) => this.playing(latency), stopped: (reason) => this.stopped(reason) });
    this.toggle.addEventListener("click", () => {
      this.isWanted = false;
      clearTimeout(this.retryTimer);
      const state = this.dataset["state"];
      if (state === "connecting" || state === "playing") this.player?.stop();
      else this.start();
    });
    this.replaceChildren(
      html("div", { class: "frame" }, this.look, this.video, this.latency),
      html("div", { class: "controls" }, this.toggle, this.text),
    );
    this.show("idle", "");
    if (this.hasAttribute("autoplay")) this.start();
  }

  disconnectedCallback(): void {
    clearTimeout(this.retryTimer);
    clearInterval(this.lookTimer);
    clearInterval(this.readyTimer);
    this.player?.stop();
    this.player = null;
  }

  private start(): void {
    this.retries = 0;
    this.connect();
  }

  private connect(): void {
    clearTimeout(this.retryTimer);
    clearInterval(this.readyTimer);
    this.show("connecting", this.t("live.connecting"));
    void this.player?.start(this.getAttribute("src") ?? "", this.getAttribute("codecs"));
  }

  private playing(latency: number): void {
    if (this.dataset["state"] !== "playing") this.show("playing", this.t("live.playing"));
    this.retries = 0;
    this.isWanted = true;
    setText(this.latency, this.t("live.latency", { seconds: latency.toFixed(1) }));
  }

  private stopped(reason: Reason | null): void {
    if (!this.isConnected) return;
    const wasPlaying = this.dataset["state"] === "playing" || this.retries > 0;
    const isPassing = reason?.code === "ended" || reason?.code === "stalled" || reason?.code === "unreachable";
    if (wasPlaying && isPassing && this.retries < RETRIES) {
      this.retries += 1;
      this.show("connecting", this.t("live.reconnecting"), reason);
      this.retryTimer = setTimeout(() => this.connect(), 1000 * 2 ** (this.retries - 1));
      return;
    }
    this.show(reason ? "looks" : "idle", reason ? `${this.reasonText(reason)} ${this.t("live.looks")}` : "", reason);
    if (reason && this.isWanted) this.awaitCamera();
  }

  /** Requests a stream that the operator has not stopped again, once the page shows that the camera delivers. */
  private awaitCamera(): void {
    const selector = this.getAttribute("ready-when");
    if (!selector) return;
    const since = performance.now();
    clearInterval(this.readyTimer);
    this.readyTimer = setInterval(() => {
      if (performance.now() - since < READY_AFTER_MS || document.hidden || !document.querySelector(selector)) return;
      this.start();
    }, 1000);
  }

  private reasonText(reason: Reason): string {
    const { t } = this;
    switch (reason.code) {
      case "unsupported":
        return t("live.reason.unsupported", { codec: reason.detail });
      case "refused":
        return t("live.reason.refused", { detail: reason.detail });
      default:
        return t(`live.reason.${reason.code}`);
    }
  }

  /** `looks`: pictures instead of the stream, renewed while somebody sees them. */
  private show(state: "idle" | "connecting" | "playing" | "looks", text: string, reason: Reason | null = null): void {
    const { t } = this;
    this.dataset["state"] = state;
    setText(this.text, text);
    const isOn = state === "connecting" || state === "playing";
    this.toggle.replaceChildren(icon(isOn ? "stop" : "play"), html("span", {}, t(isOn ? "live.stop" : "live.start")));
    if (state !== "playing") setText(this.latency, "");
    clearInterval(this.lookTimer);
    if (state === "looks") {
      this.renewLook();
      const every = Number(this.getAttribute("look-every")) || LOOK_EVERY_S;
      this.lookTimer = setInterval(() => this.renewLook(), Math.max(1, every) * 1000);
    }
    this.dispatchEvent(new CustomEvent("live-state", { bubbles: true, detail: { state, reason } }));
  }

  private renewLook(): void {
    if (document.hidden || !this.look.src) return;
    const url = new URL(this.look.src);
    url.searchParams.set("at", String(Date.now()));
    // Shown once it is there, so that the old one does not blink away.
    const next = new Image();
    next.src = url.href;
    next.decode().then(
      () => {
        this.look.src = next.src;
      },
      () => undefined,
    );
  }
}
