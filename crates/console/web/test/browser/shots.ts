// Screenshots for people to look at: `npm run shots` writes them to shots/.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { launch, openPage } from "../harness/browser";
import { answerFit } from "../harness/camera";
import { Harness, WEB } from "../harness/server";

const only = process.argv[2] ?? "";
const folder = join(WEB, "shots");
await mkdir(folder, { recursive: true });
const harness = await Harness.start();
const browser = await launch();
const shot = async (
  name: string,
  path: string,
  options = {},
  act: (page: import("playwright-core").Page) => Promise<void> = async () => {},
) => {
  if (!name.includes(only)) return;
  const { page, faults } = await openPage(browser, harness.origin + path, options);
  await page.waitForLoadState("networkidle");
  await act(page);
  await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
  for (const fault of faults) console.error(`${name}: ${fault}`);
  await page.context().close();
};
const phone = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true };
const openZone = (id: string) => async (page: import("playwright-core").Page) => {
  await page.getByRole("button", { name: new RegExp(`^${id}`) }).click();
};
await shot("zones-light-zh", "/zone-editor?lang=zh&theme=light", {}, openZone("stalls"));
await shot("zones-dark-en", "/zone-editor?theme=dark", {}, async (page) => {
  await openZone("bins")(page);
  const corner = page.locator('[data-corner="1"]');
  const box = (await corner.locator(".dot").boundingBox())!;
  await page.mouse.move(box.x + 6, box.y + 6);
  await page.mouse.down();
  await page.mouse.move(box.x - 250, box.y + 150, { steps: 5 });
  await page.mouse.move(box.x - 260, box.y + 160);
});
await shot("zones-phone-zh", "/zone-editor?lang=zh&theme=light", phone, openZone("stalls"));
await shot("zones-draw", "/zone-editor?theme=light&zones=none", {}, async (page) => {
  await page.getByRole("button", { name: "New zone" }).click();
  const box = (await page.locator(".gw-stage").boundingBox())!;
  for (const [x, y] of [
    [0.1, 0.75],
    [0.4, 0.74],
    [0.45, 0.95],
    [0.2, 0.96],
  ])
    await page.mouse.click(box.x + box.width * x!, box.y + box.height * y!);
  await page.mouse.move(box.x + box.width * 0.12, box.y + box.height * 0.85);
});
await shot("zones-faults-zh", "/zone-editor?lang=zh&theme=light", {}, async (page) => {
  await openZone("stalls")(page);
  await page.locator('[data-field="id"]').fill("bins");
  await page.locator('[data-field="schedule"]').selectOption("");
  await page.locator('[data-corner="1"]').focus();
  for (let i = 0; i < 24; i += 1) await page.keyboard.press("Shift+ArrowLeft");
  await page.locator(".is-open summary").click();
});
await shot("zones-zoomed", "/zone-editor?theme=dark", {}, async (page) => {
  await openZone("bins")(page);
  for (let i = 0; i < 3; i += 1) await page.getByRole("button", { name: "Zoom in" }).click();
  await page.locator('[data-corner="2"]').focus();
  await page.keyboard.press("ArrowRight");
});
harness.json("PUT /api/zones", 409, {
  revision: "r2",
  by: "王工",
  at: "10:32",
  zones: [
    {
      id: "pavement",
      kind: "watch",
      polygon: [
        [0, 0.68],
        [0.99, 0.66],
        [1, 1],
        [0, 1],
      ],
    },
    {
      id: "doorstep",
      kind: "exclude",
      polygon: [
        [0.04, 0.7],
        [0.22, 0.7],
        [0.22, 0.78],
        [0.03, 0.78],
      ],
      rules: ["garbage"],
    },
    {
      id: "bins",
      kind: "exclude",
      polygon: [
        [0.56, 0.72],
        [0.86, 0.73],
        [0.86, 0.9],
        [0.58, 0.9],
      ],
    },
    {
      id: "window",
      kind: "privacy",
      polygon: [
        [0.77, 0.04],
        [0.88, 0.04],
        [0.88, 0.56],
        [0.78, 0.55],
      ],
    },
  ],
});
await shot("zones-conflict-zh", "/zone-editor?lang=zh&theme=light", {}, async (page) => {
  await openZone("bins")(page);
  await page.locator('[data-corner="2"]').focus();
  for (let i = 0; i < 4; i += 1) await page.keyboard.press("Shift+ArrowDown");
  await page.locator('[data-action="save"]').click();
  await page.locator("dialog[open]").waitFor();
});
await shot("zones-conflict-phone", "/zone-editor?theme=dark", phone, async (page) => {
  await openZone("bins")(page);
  await page.locator('[data-corner="2"]').focus();
  for (let i = 0; i < 4; i += 1) await page.keyboard.press("Shift+ArrowDown");
  await page.locator('[data-action="save"]').click();
  await page.locator("dialog[open]").waitFor();
});
await shot("before-after", "/before-after?lang=zh");
await shot("hours-light-zh", "/week-grid?lang=zh&theme=light");
await shot("hours-dark-en", "/week-grid?theme=dark");
await shot("hours-phone-zh", "/week-grid?lang=zh&theme=light", phone);
harness.on("POST /api/fit", answerFit);
const fitted = async (page: import("playwright-core").Page) => page.locator(".ground path").first().waitFor({ state: "attached" });
await shot("calibration-light-zh", "/calibration?lang=zh&theme=light", {}, fitted);
await shot("calibration-dark-en", "/calibration?theme=dark", {}, fitted);
await shot("calibration-phone", "/calibration?theme=light", phone, fitted);
await shot("live-unsupported-zh", "/live-player?lang=zh&theme=light&codecs=hvc1.1.6.L120.90", {}, async (page) =>
  page.getByRole("button").click(),
);
await shot("signs-light-zh", "/sign-editor?lang=zh&theme=light", {}, async (page) => page.locator("g.sign").first().focus());
await shot("signs-dark-en", "/sign-editor?theme=dark");
await shot("signs-phone-zh", "/sign-editor?lang=zh&theme=light", phone);
await browser.close();
harness.stop();
