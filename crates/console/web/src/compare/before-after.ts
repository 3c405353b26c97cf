// Two pictures of one view, one over the other, with a divider that moves. Without JavaScript the two pictures stand one below the other.
//
//     <before-after><img src="…" alt="…" data-label="06:10"><img src="…" alt="…" data-label="09:42"></before-after>

import { html, uniqueId } from "../lib/dom";
import { translatorOf } from "../lib/i18n";

export class BeforeAfter extends HTMLElement {
  private frame: HTMLElement | null = null;

  connectedCallback(): void {
    const [before, after] = Array.from(this.querySelectorAll("img"));
    if (this.frame || !before || !after) return;
    const t = translatorOf(this);
    this.classList.add("gw");
    before.className = "before";
    after.className = "after";
    before.draggable = false;
    after.draggable = false;
    const id = uniqueId("before-after");
    const range = html("input", { type: "range", min: 0, max: 100, step: 1, value: 50, id, "aria-label": t("compare.position") });
    const label = (image: HTMLImageElement, key: "compare.before" | "compare.after") => {
      const when = image.dataset["label"];
      return when ? `${t(key)} · ${when}` : t(key);
    };
    const frame = html(
      "div",
      { class: "frame" },
      before,
      after,
      html("span", { class: "label before" }, label(before, "compare.before")),
      html("span", { class: "label after" }, label(after, "compare.after")),
      html("div", { class: "divider" }),
    );
    const show = () => {
      this.style.setProperty("--split", `${range.value}%`);
      range.setAttribute("aria-valuetext", t("compare.value", { percent: range.value }));
    };
    range.addEventListener("input", show);
    const follow = (event: PointerEvent) => {
      const box = frame.getBoundingClientRect();
      range.value = String(((event.clientX - box.left) / box.width) * 100);
      show();
    };
    frame.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      frame.setPointerCapture(event.pointerId);
      follow(event);
      range.focus({ preventScroll: true });
      event.preventDefault();
    });
    frame.addEventListener("pointermove", (event) => {
      if (frame.hasPointerCapture(event.pointerId)) follow(event);
    });
    this.replaceChildren(frame, range);
    this.frame = frame;
    show();
  }
}
