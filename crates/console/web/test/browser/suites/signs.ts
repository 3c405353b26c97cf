import assert from "node:assert/strict";
import { it } from "node:test";
import type { Page } from "playwright-core";
import { axe, openPage } from "../../harness/browser";
import type { Given } from "./zones";

interface SignValue {
  readonly index?: number;
  readonly box: readonly number[];
  readonly label: string;
  readonly note?: string;
  readonly permit?: string;
  readonly valid_until?: string;
}

async function signsOf(page: Page): Promise<SignValue[]> {
  return JSON.parse(await page.locator('input[name="signs"]').inputValue()) as SignValue[];
}

export function signsSuite(given: Given): void {
  const test = (name: string, path: string, body: (page: Page) => Promise<void>, options = {}) =>
    it(name, async () => {
      const { browser, harness } = given();
      const { page, faults } = await openPage(browser, harness.origin + path, options);
      try {
        await body(page);
        assert.deepEqual(faults, []);
      } finally {
        await page.context().close();
      }
    });

  test("what was found is approved by mouse, described and taken back", "/sign-editor?theme=light", async (page) => {
    assert.equal((await signsOf(page)).length, 2);
    await page.locator("g.found").first().click();
    let signs = await signsOf(page);
    assert.deepEqual([signs.length, signs[2]!.label, signs[2]!.index], [3, "banner", undefined]);
    const row = page.locator("ol.sign-list > li").nth(2);
    await row.getByLabel("Owner").fill("Pharmacy");
    await row.getByLabel("Permit number").fill("2026-118");
    await row.getByLabel("Approved until").fill("2027-06-30");
    signs = await signsOf(page);
    assert.deepEqual([signs[2]!.note, signs[2]!.permit, signs[2]!.valid_until], ["Pharmacy", "2026-118", "2027-06-30"]);
    assert.ok(await page.evaluate(() => !window.dispatchEvent(new Event("beforeunload", { cancelable: true }))), "unsaved");
    await row.getByRole("button").click();
    assert.equal((await signsOf(page)).length, 2);
    await page.getByRole("button", { name: "Undo" }).click();
    assert.equal((await signsOf(page))[2]!.note, "Pharmacy");
  });

  test("a sign is approved, moved, resized and removed by keyboard alone", "/sign-editor?theme=light", async (page) => {
    await page.locator("g.found").first().focus();
    await page.keyboard.press("Enter");
    const before = (await signsOf(page))[2]!.box;
    assert.equal(await page.evaluate(() => document.activeElement?.getAttribute("aria-pressed")), "true", "the new sign has the focus");
    for (let i = 0; i < 3; i += 1) await page.keyboard.press("Shift+ArrowRight");
    const moved = (await signsOf(page))[2]!.box;
    assert.ok(Math.abs(moved[0]! - before[0]! - 0.03) < 1e-3 && Math.abs(moved[2]! - before[2]! - 0.03) < 1e-3);
    await page.locator('[data-corner="1"]').focus();
    await page.keyboard.press("Shift+ArrowDown");
    const resized = (await signsOf(page))[2]!.box;
    assert.ok(Math.abs(resized[3]! - moved[3]! - 0.01) < 1e-3 && resized[1] === moved[1]);
    await page.locator("g.sign").nth(2).focus();
    await page.keyboard.press("Delete");
    assert.equal((await signsOf(page)).length, 2);
  });

  test("one is drawn by hand, and all that was found is approved at once", "/sign-editor?theme=light", async (page) => {
    await page.getByRole("button", { name: "Draw a sign" }).click();
    const stage = (await page.locator(".gw-stage").boundingBox())!;
    await page.mouse.move(stage.x + stage.width * 0.7, stage.y + stage.height * 0.7);
    await page.mouse.down();
    await page.mouse.move(stage.x + stage.width * 0.75, stage.y + stage.height * 0.75, { steps: 3 });
    await page.mouse.move(stage.x + stage.width * 0.8, stage.y + stage.height * 0.8);
    await page.mouse.up();
    const signs = await signsOf(page);
    assert.equal(signs.length, 3);
    assert.ok(Math.abs(signs[2]!.box[0]! - 0.7) < 0.02 && Math.abs(signs[2]!.box[3]! - 0.8) < 0.02, String(signs[2]!.box));
    await page.getByRole("button", { name: "Approve all found" }).click();
    assert.equal((await signsOf(page)).length, 4);
    assert.equal(await page.locator("g.found").count(), 0);
  });

  test("an expired approval is not struck out and says so", "/sign-editor?theme=light", async (page) => {
    assert.equal(await page.locator("g.sign.is-expired").count(), 1);
    await page.getByText("approval expired").first().waitFor();
    assert.equal(await page.locator("g.sign.is-expired path").getAttribute("d"), "");
    assert.notEqual(await page.locator("g.sign:not(.is-expired) path").getAttribute("d"), "");
  });

  test("a viewer changes nothing", "/sign-editor?theme=light&readonly", async (page) => {
    const before = await signsOf(page);
    await page.locator("g.found").first().click();
    await page.locator("g.sign").first().focus();
    await page.keyboard.press("Delete");
    assert.deepEqual(await signsOf(page), before);
    assert.equal(await page.locator("li button").count(), 0);
  });

  for (const theme of ["light", "dark"]) {
    for (const [device, viewport] of [
      ["a desktop", { width: 1366, height: 900 }],
      ["a phone", { width: 390, height: 844 }],
    ] as const) {
      test(
        `axe finds nothing in the ${theme} theme on ${device}`,
        `/sign-editor?lang=zh&theme=${theme}`,
        async (page) => {
          await page.locator("g.sign").first().focus();
          assert.deepEqual(await axe(page), []);
          assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth), 0);
        },
        { viewport },
      );
    }
  }
}
