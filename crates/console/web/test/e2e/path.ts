// From a box without a camera to a filed and reviewed case, as an operator goes it who has never seen the console.
import assert from "node:assert/strict";
import type { Locator, Page } from "playwright-core";
import type { Hands, Point } from "./harness/hands";
import { type StageOptions, type Stage } from "./harness/stage";
import { type Language, textsOf } from "./harness/texts";

export interface PathOptions {
  readonly language: Language;
  readonly hands: (page: Page) => Hands;
}

const CAMERA = "gate-1";
const PLACE: Point = [121.5002294, 31.2301389];

/** Where the pavement is in the demo's clip street-a, and points of it, as in configs/demo.toml. */
const ZONE: readonly Point[] = [
  [0.02, 0.68],
  [0.98, 0.68],
  [0.98, 0.98],
  [0.02, 0.98],
];
const PAIRS: readonly (readonly [Point, Point])[] = [
  [[0.06, 0.72], [121.50019187, 31.2301654]],
  [[0.94, 0.72], [121.50025519, 31.23014561]],
  [[0.06, 0.97], [121.50019439, 31.23014511]],
  [[0.94, 0.97], [121.50023807, 31.23013146]],
  [[0.5, 0.82], [121.50021994, 31.23014704]],
];

/** The box before the operator comes: without a camera, and with rules that work in hours of enforcement, which never come: on a day that has passed
 * when this is read. So nothing is filed before the operator has set them. */
export const STAGE: StageOptions = {
  edit: (text) =>
    `${text.replace(/^(category = ".*")/gm, '$1\nactive = "enforcement"     # the hours of the patrol')}
# Set on the page Hours.
[[schedules]]
id = "enforcement"
windows = [{ days = ["daily"], from = "08:00", to = "08:30", season = "02-28..02-28" }]
`,
};

export async function wholePath(stage: Stage, { language, hands: handsOf }: PathOptions): Promise<void> {
  const t = textsOf(language);
  const before = stage.configText;
  const page = await stage.pages.goto("/", { locale: language === "zh" ? "zh-CN" : "en-GB" });
  const hands = handsOf(page);
  const heading = (name: string) => page.getByRole("heading", { level: 1, name, exact: true }).waitFor();
  const link = (name: string) => page.getByRole("main").getByRole("link", { name, exact: true }).first();
  const menu = (name: string) => page.getByRole("navigation", { name: t("common.navigation") }).getByRole("link", { name, exact: true });
  const button = (name: string, within: Page | Locator = page) => within.getByRole("button", { name, exact: true }).first();

  const saved = () => page.getByText(new RegExp(t("configuration.saved").replace("{n}", "\\d+"))).first().waitFor();

  // The camera
  await page.getByText(t("wall.empty")).waitFor();
  await hands.press(link(t("add.title")));
  await heading(t("add.title"));
  await hands.type(page.getByLabel(t("add.target"), { exact: true }), stage.farm.url());
  const pasted = Date.now();
  await hands.press(button(t("add.probe")));
  await page.locator("#probe figure img").waitFor();
  await page.waitForFunction(() => (document.querySelector<HTMLImageElement>("#probe figure img")?.naturalWidth ?? 0) > 0);
  assert.ok((await page.locator("#probe rect.box").count()) > 0, "the first picture shows what is found in it");
  console.log(`from the URL to the first picture with boxes: ${((Date.now() - pasted) / 1000).toFixed(1)} s`);

  const save = page.locator("#save");
  const field = (name: string) => save.getByLabel(name, { exact: true });
  await hands.type(field(t("add.id")), CAMERA);
  await hands.type(field(t("wall.address")), "演示路 1 号大门");
  await hands.type(field(t("add.lon")), String(PLACE[0]));
  await hands.type(field(t("add.lat")), String(PLACE[1]));
  await hands.type(field(t("add.uncertainty")), "8");
  await hands.type(field(t("add.look_every")), "2s");
  await hands.press(button(t("add.save"), save));
  await heading(t("add.done", { id: CAMERA }));
  assertKept(before, stage.configText);
  assert.match(stage.configText, /\n\[\[cameras\]\]\n(.+\n)*id = "gate-1"\n/);

  // Its zone
  await hands.press(link(t("add.next_zones")));
  await heading(t("configuration.zones_of", { view: CAMERA }));
  await page.locator(".gw-stage image[href]").first().waitFor();
  await hands.drawZone(ZONE);
  await hands.type(page.locator('[data-field="id"]'), "pavement");
  await hands.check(page.getByRole("checkbox", { name: /garbage/ }));
  await hands.press(button(t("save.save"), page.locator("zone-editor")));
  await page.getByText(t("save.done"), { exact: true }).waitFor();
  assertKept(before, stage.configText);
  const zone = stage.configText.split("[[cameras.zones]]")[1] ?? "";
  assert.match(zone, /^\nid = "pavement"\nkind = "watch"\n/);
  assert.match(zone, /\nrules = \["garbage"\]\n/);
  const corners = [...(zone.match(/^polygon = .*$/m)?.[0] ?? "").matchAll(/[0-9.]+(?=[,\]])/g)].map(Number);
  assert.equal(corners.length, 2 * ZONE.length, zone);
  ZONE.flat().forEach((wanted, i) => assert.ok(Math.abs(corners[i]! - wanted) < 0.004, `${corners[i]} is not ${wanted}: ${zone}`));

  // Where the ground is
  await hands.press(link(t("configuration.calibration")));
  await heading(t("configuration.calibration_of", { view: CAMERA }));
  await page.locator(".gw-stage image[href]").first().waitFor();
  for (const [index, [picture, ground]] of PAIRS.entries()) await hands.setPair(index, picture, ground);
  await page.locator("ground-calibration .gw-message.is-success").waitFor();
  await hands.press(button(t("common.save")));
  await saved();
  assertKept(before, stage.configText);
  assert.match(stage.configText, /\n\[cameras\.calibration\]\n/);

  // The hours of its rules: all days
  await hands.press(menu(t("configuration.hours")));
  await heading(t("configuration.hours"));
  const grid = page.locator("#schedule-enforcement week-grid");
  await hands.switchDays(grid, [0, 1, 2, 3, 4, 5, 6]);
  await hands.press(button(`${t("common.save")} enforcement`));
  await saved();
  assertKept(before, stage.configText, /^windows = .*season/);

  // The case, at the platform and on the page
  const filed = await stage.broker.filed();
  assert.equal(filed.camera.local_id, CAMERA);
  assert.equal(filed.category_code, "0102");
  await hands.press(menu(t("cases.title")));
  await heading(t("cases.title"));
  await hands.press(page.locator(`a[href$="/cases/${filed.case_id}"]`));
  await page.getByText(t("cases.case_title", { id: filed.case_id })).first().waitFor();
  const pictures = page.locator(".pictures img");
  assert.equal(await pictures.count(), filed.evidence.length);
  for (const picture of await pictures.all()) {
    await picture.scrollIntoViewIfNeeded();
    await picture.evaluate((image: HTMLImageElement) => image.decode());
  }
  await page.getByText("pavement").first().waitFor();
  await hands.press(link(t("cases.check_now")));
  await page.getByText(t("cases.check_holds")).waitFor();

  // Reviewed by key
  await hands.press(link(t("review.review_this")));
  await heading(t("review.title"));
  await page.locator("[data-review]").waitFor();
  await page.keyboard.press("t");
  await page.getByText(t("review.done")).or(page.locator("form.undo")).first().waitFor();
  await hands.press(menu(t("cases.title")));
  await hands.press(page.locator(`a[href$="/cases/${filed.case_id}"]`));
  await page.locator(".verdict", { hasText: t("review.is_true") }).waitFor();

  assert.deepEqual(
    stage.broker.cases.filter((other) => other.case_id !== filed.case_id),
    [],
    "only what the zone's rule is about was filed",
  );
}

/** All lines of `before`, with their comments, are in `after`, in their order, except one that was to be changed. */
function assertKept(before: string, after: string, except?: RegExp): void {
  const lines = after.split("\n");
  let at = 0;
  for (const line of before.split("\n")) {
    if (except?.test(line)) continue;
    const found = lines.indexOf(line, at);
    assert.ok(found >= 0, `this line was lost: ${line}\n${after}`);
    at = found + 1;
  }
}
