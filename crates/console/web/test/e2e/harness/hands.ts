// The two ways in which an operator works with a page: by mouse, and by keyboard alone.
import assert from "node:assert/strict";
import type { Locator, Page } from "playwright-core";

export type Point = readonly [number, number];

export interface Hands {
  /** Presses a button or follows a link. */
  press(target: Locator): Promise<void>;
  /** Replaces what a text field holds. */
  type(field: Locator, text: string): Promise<void>;
  /** Switches a checkbox. */
  check(box: Locator): Promise<void>;
  /** Draws a zone in the zone editor, which shows its picture. */
  drawZone(corners: readonly Point[]): Promise<void>;
  /** Sets a point of the calibration and types its coordinates. `index` counts from 0. */
  setPair(index: number, picture: Point, ground: Point): Promise<void>;
  /** Switches whole days of a week grid, by their rows. */
  switchDays(grid: Locator, rows: readonly number[]): Promise<void>;
}

export class Mouse implements Hands {
  constructor(private readonly page: Page) {}

  async press(target: Locator): Promise<void> {
    await target.click();
  }

  async type(field: Locator, text: string): Promise<void> {
    await field.click();
    await field.press("Control+a");
    await this.page.keyboard.type(text);
  }

  async check(box: Locator): Promise<void> {
    await box.click();
  }

  async drawZone(corners: readonly Point[]): Promise<void> {
    await this.page.locator('[data-action="zone.new"]').click();
    for (const corner of [...corners, corners[0]!]) await this.clickAt(corner);
  }

  async setPair(index: number, picture: Point, ground: Point): Promise<void> {
    await this.clickAt(picture);
    await this.page.locator("[data-row]").nth(index).locator("input").first().waitFor();
    // The field of its first coordinate has the focus. Both numbers at once, as they are copied from a map.
    await this.page.keyboard.insertText(ground.join(", "));
  }

  async switchDays(grid: Locator, rows: readonly number[]): Promise<void> {
    for (const row of rows) await grid.locator(`[role="rowheader"][data-row="${row}"]`).click();
  }

  /** Clicks a place of the picture, given in fractions of it. */
  private async clickAt([x, y]: Point): Promise<void> {
    const image = this.page.locator(".gw-stage image").first();
    await image.scrollIntoViewIfNeeded();
    const box = (await image.boundingBox())!;
    await this.page.mouse.click(box.x + box.width * x, box.y + box.height * y);
  }
}

/** Presses of Tab after which a page is taken to have no way to something. */
const MAX_TABS = 200;

export class Keyboard implements Hands {
  constructor(private readonly page: Page) {}

  async press(target: Locator): Promise<void> {
    await this.goTo(target);
    await this.page.keyboard.press("Enter");
  }

  async type(field: Locator, text: string): Promise<void> {
    await this.goTo(field);
    await this.page.keyboard.press("Control+a");
    await this.page.keyboard.type(text);
  }

  async check(box: Locator): Promise<void> {
    await this.goTo(box);
    await this.page.keyboard.press("Space");
  }

  async drawZone(corners: readonly Point[]): Promise<void> {
    await this.press(this.page.locator('[data-action="zone.new"]'));
    let at: Point = [0.5, 0.5];
    for (const corner of corners) {
      await this.move(at, corner);
      await this.page.keyboard.press("Space");
      at = corner;
    }
    await this.page.keyboard.press("Enter");
  }

  async setPair(index: number, picture: Point, ground: Point): Promise<void> {
    await this.press(this.page.locator('[data-action="calibration.add"]'));
    // The new point has the focus.
    await this.move([0.5, 0.7], picture);
    await this.type(this.page.locator("[data-row]").nth(index).locator("input").first(), ground.join(", "));
    await this.page.keyboard.press("Tab");
  }

  async switchDays(grid: Locator, rows: readonly number[]): Promise<void> {
    await this.goTo(grid.locator('[role="grid"] [tabindex="0"]'));
    await this.page.keyboard.press("Home");
    await this.page.keyboard.press("ArrowLeft");
    const row = async () => Number(await this.page.evaluate(() => (document.activeElement as HTMLElement).dataset["row"]));
    for (const wanted of rows) {
      while ((await row()) < wanted) await this.page.keyboard.press("ArrowDown");
      while ((await row()) > wanted) await this.page.keyboard.press("ArrowUp");
      await this.page.keyboard.press("Space");
    }
  }

  /** Goes there with Tab, as far as it takes, and checks that one sees where one is. */
  private async goTo(target: Locator): Promise<void> {
    await target.waitFor();
    const isThere = () => target.evaluate((element) => element === document.activeElement);
    for (let tabs = 0; !(await isThere()); tabs += 1) {
      assert.ok(tabs < MAX_TABS, `Tab does not lead to ${target}`);
      await this.page.keyboard.press("Tab");
    }
    const isShown = await target.evaluate((element) => {
      const style = getComputedStyle(element);
      return style.outlineStyle !== "none" || style.boxShadow !== "none";
    });
    assert.ok(isShown, `${target} does not show that it has the focus`);
  }

  /** Moves what has the focus over the picture by arrow keys: a hundredth with Shift, a thousandth without. */
  private async move([x, y]: Point, [toX, toY]: Point): Promise<void> {
    for (const [by, less, more] of [
      [toX - x, "ArrowLeft", "ArrowRight"],
      [toY - y, "ArrowUp", "ArrowDown"],
    ] as const) {
      const steps = Math.round(Math.abs(by) * 1000);
      const key = by < 0 ? less : more;
      for (let i = 0; i < Math.floor(steps / 10); i += 1) await this.page.keyboard.press(`Shift+${key}`);
      for (let i = 0; i < steps % 10; i += 1) await this.page.keyboard.press(key);
    }
  }
}
