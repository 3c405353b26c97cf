// A magnified circle of the stage beside the pointer, so that neither hand nor handle hides where a corner goes.

import { setAttributes, svg, uniqueId } from "../lib/dom";
import type { Point } from "../lib/geometry";
import type { Stage } from "./stage";

const DIAMETER = 136;
/** Distance of the loupe's rim from the pointer; a finger covers about 40 pixels around its centre. */
const OFFSET = { mouse: 28, touch: 64 } as const;
const MAGNIFICATION = 4;

export class Loupe {
  readonly element = svg("svg", { class: "gw-loupe", width: DIAMETER, height: DIAMETER, "aria-hidden": "true" });

  constructor(private readonly stage: Stage) {
    stage.content.id ||= uniqueId("stage-content");
    const centre = DIAMETER / 2;
    this.element.append(
      svg("svg", { class: "gw-loupe-view", width: DIAMETER, height: DIAMETER }, svg("use", { href: `#${stage.content.id}` })),
      svg("path", {
        class: "gw-loupe-cross",
        d: `M${centre} ${centre - 22}v16M${centre} ${centre + 6}v16M${centre - 22} ${centre}h16M${centre + 6} ${centre}h16`,
      }),
    );
    this.hide();
  }

  /** Shows what is at `point`, beside the pointer that is at (`clientX`, `clientY`). */
  show(point: Point, clientX: number, clientY: number, pointerType: string): void {
    const host = this.element.parentElement;
    if (!host) return;
    const [x, y] = this.stage.units(point);
    const extent = (DIAMETER * this.stage.unit) / MAGNIFICATION;
    setAttributes(this.element.firstElementChild!, { viewBox: `${x - extent / 2} ${y - extent / 2} ${extent} ${extent}` });
    const box = host.getBoundingClientRect();
    const offset = pointerType === "mouse" ? OFFSET.mouse : OFFSET.touch;
    const [px, py] = [clientX - box.left, clientY - box.top];
    // Above the pointer; below it where there is no room.
    const top = py - offset - DIAMETER >= 0 ? py - offset - DIAMETER : py + offset;
    const side = pointerType === "mouse" ? px + offset : px - DIAMETER / 2;
    const left = Math.min(Math.max(side, 0), Math.max(0, box.width - DIAMETER));
    this.element.style.transform = `translate(${left}px, ${top}px)`;
    this.element.style.display = "block";
  }

  hide(): void {
    this.element.style.display = "none";
  }
}
