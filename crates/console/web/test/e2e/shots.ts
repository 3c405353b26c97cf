// Makes the pictures of docs/console.md: each page of a box with cases, as an operator sees it.
import { mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { BrowserContextOptions, Page } from "playwright-core";
import { logIn } from "./harness/people";
import { onStage } from "./harness/stage";
import { ROOT, skipReason } from "./harness/tools";
import { TOUR_STAGE, furnish, visit, visits } from "./tour";

const OUT = join(ROOT, "docs", "images", "console");
const WIDTH = 1280;
const PHONE = { width: 390, height: 844 };
/** Longer pages are cut: their beginning shows what they are about. */
const MAX_HEIGHT = 1100;
/** Of WebP; texts stay sharp. */
const QUALITY = 80;

/** Visits of the tour. */
const SHOTS = [
  "login",
  "wall",
  "camera",
  "zone-chosen",
  "calibration",
  "view",
  "looks",
  "add-camera",
  "add-camera-probed",
  "cases",
  "cases-timeline",
  "map",
  "case",
  "not-filed",
  "thresholds-tried",
  "review",
  "hours",
  "configuration",
  "configuration-changes",
  "system",
  "models",
  "metrics",
  "users",
] as const;

const missing = skipReason();
if (missing) {
  console.error(missing);
  process.exit(1);
}

await onStage("shots", TOUR_STAGE, async (stage) => {
  const sights = await furnish(stage);
  mkdirSync(OUT, { recursive: true });
  for (const name of readdirSync(OUT)) rmSync(join(OUT, name));
  let total = 0;
  const shoot = async (page: Page, name: string, maxHeight = MAX_HEIGHT) => {
    const devtools = await page.context().newCDPSession(page);
    const { width, height } = await page.evaluate(() => ({ width: innerWidth, height: document.documentElement.scrollHeight }));
    const clip = { x: 0, y: 0, width, height: Math.min(height, maxHeight), scale: 1 };
    // The driver itself has no WebP.
    const { data } = await devtools.send("Page.captureScreenshot", { format: "webp", quality: QUALITY, clip, captureBeyondViewport: true });
    await devtools.detach();
    const file = join(OUT, `${name}.webp`);
    writeFileSync(file, Buffer.from(data, "base64"));
    total += statSync(file).size;
    console.log(`${name}.webp: ${width} x ${clip.height}, ${statSync(file).size} bytes`);
  };
  const options: BrowserContextOptions = { locale: "en-GB", colorScheme: "light", viewport: { width: WIDTH, height: 900 } };
  const guest = await stage.pages.goto("/login", options);
  const user = await logIn(stage, "wang", options);
  const all = visits(sights);
  for (const name of SHOTS) {
    const target = all.find((found) => found.name === name);
    if (!target) throw new Error(`the tour has no visit ${name}`);
    const page = target.isPublic ? guest : user;
    await visit(page, stage.origin, target);
    // Two samples make a line.
    if (name === "metrics") await page.locator(".sketches polyline[points]:not([points=''])").first().waitFor();
    await page.evaluate(() => {
      (document.activeElement as HTMLElement | null)?.blur();
      scrollTo(0, 0);
    });
    // Pictures that came into sight only now.
    await page.waitForFunction((height) => [...document.images].every((image) => image.complete || image.getBoundingClientRect().top > height), MAX_HEIGHT);
    await shoot(page, name);
  }
  const phone = await logIn(stage, "wang", { ...options, locale: "zh-CN", colorScheme: "dark", viewport: PHONE });
  await visit(phone, stage.origin, all.find(({ name }) => name === "wall")!);
  await shoot(phone, "wall-phone-zh", PHONE.height);
  console.log(`${total} bytes`);
});
