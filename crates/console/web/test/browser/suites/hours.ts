import assert from "node:assert/strict";
import { it } from "node:test";
import type { Page } from "playwright-core";
import { axe, openPage } from "../../harness/browser";
import type { Given } from "./zones";

const EMPTY = "/week-grid?theme=light&windows=none";
const SEASONAL = { days: ["fri-sat"], from: "18:00", to: "02:00", season: "05-01..10-07" };
const QUARTER = { from: "12:15", to: "13:00" };

async function windowsOf(page: Page): Promise<unknown[]> {
  return JSON.parse(await page.locator('input[name="windows"]').inputValue()) as unknown[];
}

const cell = (page: Page, row: number, slot: number) => page.locator(`[role="gridcell"][data-row="${row}"][data-slot="${slot}"]`);

export function hoursSuite(given: Given): void {
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

  test("hours are painted and cleared by mouse", EMPTY, async (page) => {
    await cell(page, 0, 12).hover();
    await page.mouse.down();
    await cell(page, 4, 18).hover();
    await page.mouse.up();
    assert.deepEqual(await windowsOf(page), [{ days: ["mon-fri"], from: "06:00", to: "09:30" }]);
    await cell(page, 2, 18).hover();
    await page.mouse.down();
    await cell(page, 2, 12).hover();
    await page.mouse.up();
    assert.deepEqual(await windowsOf(page), [{ days: ["mon-tue", "thu-fri"], from: "06:00", to: "09:30" }]);
    const held = () => page.evaluate(() => !window.dispatchEvent(new Event("beforeunload", { cancelable: true })));
    assert.ok(await held());
    await page.keyboard.press("Control+z");
    await page.keyboard.press("Control+z");
    assert.deepEqual(await windowsOf(page), []);
    assert.ok(!(await held()), "nothing is unsaved");
    await page.getByText("Never open").waitFor();
    await page.keyboard.press("Control+y");
    assert.equal((await windowsOf(page)).length, 1);
  });

  test("hours are chosen by keyboard alone, over midnight", EMPTY, async (page) => {
    await page.keyboard.press("Tab"); // undo and redo are disabled: the grid is first
    await page.keyboard.press("Home");
    for (let i = 0; i < 4; i += 1) await page.keyboard.press("ArrowDown"); // Friday
    await page.keyboard.press("End");
    await page.keyboard.press("Space");
    for (let i = 0; i < 3; i += 1) await page.keyboard.press("Shift+ArrowLeft");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Home");
    await page.keyboard.press("Space");
    await page.keyboard.press("Shift+ArrowRight");
    assert.deepEqual(await windowsOf(page), [{ days: ["fri"], from: "22:00", to: "01:00" }]);
    await page.getByText("Fri 22:00–01:00 on the next day").first().waitFor();
    // The day's header switches the whole day.
    await page.keyboard.press("Home");
    await page.keyboard.press("ArrowLeft");
    await page.keyboard.press("Enter");
    assert.deepEqual(await windowsOf(page), [
      { days: ["fri"], from: "22:00", to: "24:00" },
      { days: ["sat"], from: "00:00", to: "24:00" },
    ]);
  });

  test("what the grid cannot show is kept, and can be added and removed", "/week-grid?theme=light", async (page) => {
    await cell(page, 9, 20).click();
    let windows = await windowsOf(page);
    for (const kept of [SEASONAL, QUARTER]) assert.ok(windows.some((w) => JSON.stringify(w) === JSON.stringify(kept)));
    assert.equal(await page.locator(".is-kept").count(), 2);
    await page.locator(".hours-form summary").click();
    await page.locator(".hours-form").getByLabel("Workdays").check();
    await page.getByLabel("From").fill("22:00");
    await page.getByLabel("To", { exact: true }).fill("25:00");
    await page.getByRole("button", { name: "Add" }).click();
    await page.getByText("To: a time such as").waitFor();
    await page.getByLabel("To", { exact: true }).fill("02:00");
    await page.getByLabel("Season").fill("11-01..02-28");
    await page.getByRole("button", { name: "Add" }).click();
    windows = await windowsOf(page);
    assert.deepEqual(windows[windows.length - 1], { days: ["workday"], from: "22:00", to: "02:00", season: "11-01..02-28" });
    await page.getByRole("button", { name: "Remove Daily 12:15–13:00" }).click();
    assert.ok(!(await windowsOf(page)).some((w) => JSON.stringify(w) === JSON.stringify(QUARTER)));
  });

  test(
    "by touch a tap switches one half hour, and holding paints",
    EMPTY,
    async (page) => {
      await cell(page, 0, 12).tap();
      assert.deepEqual(await windowsOf(page), [{ days: ["mon"], from: "06:00", to: "06:30" }]);
      const session = await page.context().newCDPSession(page);
      const touch = async (type: "touchStart" | "touchMove" | "touchEnd", target: ReturnType<typeof cell> | null) => {
        const box = target && (await target.boundingBox())!;
        await session.send("Input.dispatchTouchEvent", {
          type,
          touchPoints: box ? [{ x: box.x + box.width / 2, y: box.y + box.height / 2 }] : [],
        });
      };
      await touch("touchStart", cell(page, 1, 12));
      // Held long enough, the cell is painted before the finger moves.
      await page.locator('[role="gridcell"][data-row="1"][data-slot="12"][aria-selected="true"]').waitFor();
      await touch("touchMove", cell(page, 2, 14));
      await touch("touchMove", cell(page, 2, 15));
      await touch("touchEnd", null);
      assert.deepEqual(await windowsOf(page), [
        { days: ["mon"], from: "06:00", to: "06:30" },
        { days: ["tue-wed"], from: "06:00", to: "08:00" },
      ]);
    },
    { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true },
  );

  test("a viewer changes nothing", "/week-grid?theme=light&readonly", async (page) => {
    const before = await windowsOf(page);
    await cell(page, 3, 30).click();
    await cell(page, 3, 30).focus();
    await page.keyboard.press("Space");
    assert.deepEqual(await windowsOf(page), before);
    assert.equal(await page.getByRole("button").count(), 0);
  });

  for (const theme of ["light", "dark"]) {
    for (const [device, viewport] of [
      ["a desktop", { width: 1366, height: 900 }],
      ["a phone", { width: 390, height: 844 }],
    ] as const) {
      test(
        `axe finds nothing in the ${theme} theme on ${device}`,
        `/week-grid?lang=zh&theme=${theme}`,
        async (page) => {
          await page.locator(".hours-form summary").click();
          assert.deepEqual(await axe(page), []);
          assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth), 0);
        },
        { viewport },
      );
    }
  }
}
