// The list of cases by keyboard: j and k move the focus from case to case, Enter opens it, as with every link.

import { pageKey } from "./keys";

function links(): HTMLAnchorElement[] {
  return Array.from(document.querySelectorAll<HTMLAnchorElement>("[data-cases] a"));
}

export function start(): void {
  document.addEventListener("keydown", (event) => {
    const key = pageKey(event);
    if (key !== "j" && key !== "k") return;
    const all = links();
    const current = all.findIndex((link) => link === document.activeElement);
    const next = current < 0 ? 0 : Math.min(Math.max(current + (key === "j" ? 1 : -1), 0), all.length - 1);
    const link = all[next];
    if (!link) return;
    event.preventDefault();
    link.focus();
    link.scrollIntoView({ block: "nearest" });
  });
}
