// Bad input in the other forms of the console: it is said what is wrong, nothing is written, and nothing that was typed is lost.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { it } from "node:test";
import type { Page } from "playwright-core";
import { HTML, button, heldBack, refused, t, unchanged } from "./bad-input";
import { type Stage, onStage } from "./harness/stage";
import { skipReason } from "./harness/tools";

const skip = skipReason();

it("what is wrong in zones, hours, configuration, users and reviews is named and not written", { skip }, async () => {
  const schedule = '[[schedules]]\nid = "market"\nwindows = [{ from = "06:00", to = "09:00" }]\n';
  await onStage("bad input", { cameras: ["street-a"], edit: (text) => `${text}\n${schedule}` }, async (stage) => {
    const page = await stage.pages.goto("/cameras/street-a/zones");
    await unchanged(stage, () => badZones(page));
    stage.pages.expect(/\/calibration\/fit: 422$/);
    await unchanged(stage, () => badCalibration(page, stage));
    await unchanged(stage, () => badHours(page, stage));
    await unchanged(stage, () => badThresholds(page, stage));
    stage.pages.expect(/\/configuration\/file: 4(09|22)$/);
    await badConfiguration(page, stage);
    stage.pages.expect(/\/(users|tokens): 4\d\d$/);
    await unchanged(stage, () => badUsers(page, stage));
    stage.pages.expect(/\/review\/.*: 400$/);
    await unchanged(stage, () => badReview(page, stage));
    await badFilters(page, stage);
  });
});

async function badZones(page: Page): Promise<void> {
  await page.locator(".gw-stage image[href]").first().waitFor();
  await page.getByRole("button", { name: /^pavement/ }).click();
  await page.locator(".is-open .zone-corners summary").click();
  // Corner 3 goes to where it makes the edges cross.
  await page.getByLabel("Corner 3, x in percent").fill("10");
  await page.getByLabel("Corner 3, y in percent").fill("60");
  await page.keyboard.press("Enter");
  const fault = page.locator(".is-open .zone-messages", { hasText: /Edges .* cross/ });
  await fault.waitFor();
  await page.locator('[data-action="save"]').click();
  await page.getByText(t("save.faults")).waitFor();
  assert.equal(await page.getByLabel("Corner 3, x in percent").inputValue(), "10");
  await page.keyboard.press("Control+z");
  await page.keyboard.press("Control+z");
  const id = page.locator('[data-field="id"]');
  for (const text of ["", "two words", HTML, "front"]) {
    await id.fill(text);
    await page.locator('[data-action="save"]').click();
    await page.getByText(t("save.faults")).waitFor();
    assert.equal(await id.inputValue(), text);
    assert.equal(await id.getAttribute("aria-invalid"), "true");
  }
  page.once("dialog", (dialog) => void dialog.accept());
}

async function badCalibration(page: Page, { origin }: Stage): Promise<void> {
  await page.goto(`${origin}/cameras/street-a/calibration`);
  await page.locator("ground-calibration .gw-message.is-success").waitFor();
  const latitude = page.getByLabel(t("calibration.lat_of", { n: 1 }));
  for (const text of ["31°13′", "131.2", "", "N"]) {
    await latitude.fill(text);
    if (text !== "") await page.getByText(t("calibration.unreadable_degrees", { n: 1 })).waitFor();
    await button(page, "common.save").click();
    assert.ok(!(await latitude.evaluate((input: HTMLInputElement) => input.checkValidity())), `the form is held back at ${text}`);
    assert.equal(await latitude.inputValue(), text);
  }
  // Points that contradict each other: the server says which.
  await latitude.fill("31.2401654");
  await page.locator("ground-calibration .gw-message.is-danger, ground-calibration .gw-message.is-warning").waitFor();
  page.once("dialog", (dialog) => void dialog.accept());
}

async function badHours(page: Page, { origin, pages }: Stage): Promise<void> {
  await page.goto(`${origin}/hours`);
  const label = t("configuration.hours_id");
  for (const text of ["", "early market", HTML]) await heldBack(page.getByLabel(label, { exact: true }), text);
  pages.expect(/\/hours: 4\d\d$/);
  await refused(page.locator('form[action$="/hours"]'), { [label]: "market" }, t("configuration.hours_add"), "market");
}

async function badThresholds(page: Page, { origin }: Stage): Promise<void> {
  await page.goto(`${origin}/thresholds`);
  await heldBack(page.getByLabel(t("ledger.days"), { exact: true }), "0");
  const score = page.locator("#v-start_score");
  await score.waitFor();
  for (const text of ["1.5", "-1", ""]) await heldBack(score, text);
}

async function badConfiguration(page: Page, stage: Stage): Promise<void> {
  await page.goto(`${stage.origin}/configuration/file?file=gridwatch.toml`);
  const text = page.getByLabel(t("configuration.file_text"));
  const before = await text.inputValue();
  await unchanged(stage, async () => {
    for (const [broken, message] of [
      [before.replace("[node]", "[node"), /gridwatch\.toml:\d+/],
      [before.replace('id = "demo-box"', `id = '${HTML}'`), /node\.id/],
      [before.replace('language = "zh"', 'lingua = "zh"'), /lingua/],
      [before.replace('dwell = "12s"', 'dwell = "12 parsecs"'), /dwell/],
    ] as const) {
      assert.notEqual(broken, before);
      await text.fill(broken);
      await button(page, "common.save").click();
      await page.locator(".faults li", { hasText: message }).first().waitFor();
      assert.equal(await text.inputValue(), broken);
    }
  });
  // Somebody has saved another version since the page was shown: neither is lost.
  await page.goto(`${stage.origin}/configuration/file?file=gridwatch.toml`);
  const mine = before.replace('dwell = "12s"', 'dwell = "13s"');
  await text.fill(mine);
  writeFileSync(stage.config, before.replace('language = "zh"', 'language = "en"'));
  await unchanged(stage, async () => {
    await button(page, "common.save").click();
    await page.getByRole("heading", { name: t("configuration.file_theirs") }).waitFor();
    assert.equal(await text.inputValue(), mine);
    await page.locator("pre.text", { hasText: 'language = "en"' }).waitFor();
  });
}

async function badUsers(page: Page, { origin }: Stage): Promise<void> {
  await page.goto(`${origin}/users`);
  const form = page.locator('form[action$="/users"]');
  const [name, groups, password] = [t("account.name"), t("account.groups"), t("account.password")];
  const typed = { [name]: "wang", [groups]: "east", [password]: "a-long-password" };
  await form.locator("[name=role]").selectOption("admin");
  await refused(form, { ...typed, [name]: HTML }, t("account.add_user"), t("account.bad_name"));
  await refused(form, { ...typed, [groups]: "east/1" }, t("account.add_user"), t("account.bad_group"));
  await refused(form, typed, t("account.add_user"), t("account.admin_groups"));
  await refused(form, { ...typed, [name]: "a-long-password", [groups]: "" }, t("account.add_user"), t("account.bad_password"));
  assert.equal(await form.locator("[name=role]").inputValue(), "admin");
  await form.locator("[name=role]").selectOption("viewer");
  await refused(form, typed, t("account.add_user"), t("account.first_must_be_admin"));
  await heldBack(form.getByLabel(name, { exact: true }), "");
  const tokens = page.locator('form[action$="/tokens"]');
  await refused(tokens, { [name]: HTML, [t("account.days")]: "30" }, t("account.add_token"), t("account.bad_name"));
  for (const days of ["many", "0", "4000", "1.5"]) {
    await refused(tokens, { [name]: "export", [t("account.days")]: days }, t("account.add_token"), t("account.days_hint"));
  }
  await page.reload();
  await page.getByText(t("account.no_tokens")).waitFor();
  assert.equal(new URL(page.url()).pathname, "/users");
}

async function badReview(page: Page, { origin, broker }: Stage): Promise<void> {
  const filed = await broker.filed();
  await page.goto(`${origin}/review?case=${filed.case_id}`);
  const other = page.getByLabel(t("review.duplicate_other"));
  for (const [text, message] of [
    ["", t("review.duplicate_missing")],
    ["01ARZ3NDEKTSV4RRFFQ69G5FAV", t("review.duplicate_unknown", { id: "01ARZ3NDEKTSV4RRFFQ69G5FAV" })],
    [filed.case_id, t("review.duplicate_self")],
  ] as const) {
    if (!(await other.isVisible())) await page.keyboard.press("d");
    await other.fill(text);
    await button(page, "review.duplicate_confirm").click();
    await page.getByText(message).first().waitFor();
    assert.equal(await other.inputValue(), text);
  }
}

/** What nobody can have is a list without entries, and never an error page. */
async function badFilters(page: Page, { origin }: Stage): Promise<void> {
  for (const [path, label] of [
    ["/cases", t("cases.id_part")],
    ["/cases", t("cases.cell")],
    ["/system/log", t("system.text")],
  ] as const) {
    await page.goto(origin + path);
    const field = page.getByLabel(label, { exact: true });
    await field.fill(HTML.slice(0, 26));
    await page.keyboard.press("Enter");
    await page.waitForURL(/\?/);
    assert.equal(await page.getByLabel(label, { exact: true }).inputValue(), HTML.slice(0, 26));
    assert.equal(await page.locator("main img[src=x]").count(), 0);
  }
}
