// The review of cases by keyboard: each key presses the button, follows the link or opens the details that carries it in `data-key`. The page
// works without this.

import { pageKey } from "./keys";

export function start(): void {
  let isSent = false;
  document.addEventListener("submit", (event) => {
    // A second press while the first is on its way would review the next case unseen.
    if (isSent) event.preventDefault();
    isSent = true;
  });
  // Back from the browser's cache: the page is used again.
  window.addEventListener("pageshow", () => {
    isSent = false;
  });
  document.addEventListener("keydown", (event) => {
    const key = pageKey(event);
    if (key === null || event.repeat || !/^[a-z]$/.test(key)) return;
    const target = document.querySelector<HTMLElement>(`[data-key="${key}"]`);
    if (!target) return;
    event.preventDefault();
    if (target instanceof HTMLDetailsElement) {
      target.open = true;
      target.querySelector<HTMLInputElement>('input:not([type="hidden"])')?.focus();
    } else {
      target.click();
    }
  });
  // The next picture is there when it is asked for.
  const next = document.querySelector<HTMLElement>("[data-review]")?.dataset["nextPicture"];
  if (next) new Image().src = next;
}
