// An aria-live region. Announcements in quick succession are reduced to the last one.

import { html } from "./dom";

/** Holding an arrow key moves 30 times a second; a screen reader should hear where it ended. */
const QUIET_MS = 300;

export class Announcer {
  readonly element = html("div", { class: "gw-hidden", role: "status", "aria-live": "polite" });
  private timer: ReturnType<typeof setTimeout> | undefined;

  say(text: string): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      // The same text again is only announced if it changes.
      this.element.textContent = this.element.textContent === text ? `${text}\u00a0` : text;
    }, QUIET_MS);
  }
}
