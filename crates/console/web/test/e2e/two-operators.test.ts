// Two operators edit the same zone: the second is told and shown the difference, nothing is overwritten, and what both wanted is saved.
import assert from "node:assert/strict";
import { it } from "node:test";
import type { Page } from "playwright-core";
import { firstLooks } from "./harness/looks";
import { addUser, logIn } from "./harness/people";
import { type Stage, onStage } from "./harness/stage";
import { textsOf } from "./harness/texts";
import { skipReason } from "./harness/tools";

const EN = textsOf("en");
const ZH = textsOf("zh");

it("the second of two operators merges, and nothing is overwritten", { skip: skipReason() }, async () => {
  await onStage("two-operators", { cameras: ["street-a"] }, async (stage) => {
    await firstLooks(stage, 1);
    addUser(stage, "wang", "admin");
    addUser(stage, "li", "operator");
    const before = stage.configText;
    const wang = await editor(stage, await logIn(stage, "wang"));
    const li = await editor(stage, await logIn(stage, "li", { locale: "zh-CN" }));
    stage.pages.expect(/PUT \/api\/v1\/views\/street-a\/zones: 409$/);

    // Wang draws the pavement's upper edge higher and saves; li draws it lower, and the wall's edge, too.
    await moveCorner(wang, "pavement", 0, "Shift+ArrowUp");
    await save(wang);
    await wang.getByText(EN("save.done"), { exact: true }).waitFor();
    const wangs = stage.configText;
    assert.equal(polygon(wangs, "pavement")[0]![1], 0.67);
    await moveCorner(li, "pavement", 0, "Shift+ArrowDown");
    await moveCorner(li, "front", 2, "Shift+ArrowDown");
    await save(li);

    // Told who, and shown both versions with what differs.
    const dialog = li.getByRole("dialog", { name: ZH("conflict.title") });
    await dialog.waitFor();
    assert.match(await dialog.innerText(), /wang/);
    const choice = (zone: string) => dialog.locator(`[data-difference="${zone}"]`);
    assert.equal(await choice("pavement").locator(".what").first().innerText(), ZH("conflict.moved", { count: 1 }));
    assert.equal(await choice("pavement").locator(".what").last().innerText(), ZH("conflict.moved", { count: 1 }));
    // Which pavement is meant, only a person knows; li alone has touched the wall.
    assert.equal(await choice("pavement").locator("input:checked").count(), 0);
    assert.equal(await choice("front").locator('input[value="mine"]').isChecked(), true);
    for (const side of ["mine", "theirs"]) {
      assert.equal(await dialog.locator(`[data-side="${side}"] [data-zone="pavement"].differs circle.moved`).count(), 1, side);
    }
    assert.equal(stage.configText, wangs, "nothing is overwritten");

    // Put off, li's edits are still there and still unsaved; saving asks again.
    await li.keyboard.press("Escape");
    await li.getByText(ZH("save.conflict_open")).waitFor();
    await li.getByText(ZH("save.unsaved")).waitFor();
    await save(li);
    await dialog.waitFor();
    await choice("pavement").locator('input[value="theirs"]').check();
    await dialog.getByRole("button", { name: ZH("conflict.apply") }).click();
    await li.getByText(ZH("save.merged")).waitFor();
    assert.equal(stage.configText, wangs, "merged, and not yet saved");
    await save(li);
    await li.getByText(ZH("save.done"), { exact: true }).waitFor();

    const merged = stage.configText;
    assert.deepEqual(polygon(merged, "pavement"), polygon(wangs, "pavement"));
    assert.deepEqual(polygon(merged, "front")[2], [1, 0.67]);
    // Only the two lines of the polygons have changed; comments and order are kept.
    const lines = (text: string) => text.split("\n").filter((line) => !line.startsWith("polygon = "));
    assert.deepEqual(lines(merged), lines(before));

    // Who did what is recorded, and wang, whose page is older now, is asked as well before anything is lost.
    await moveCorner(wang, "front", 2, "Shift+ArrowUp");
    await save(wang);
    const asked = wang.getByRole("dialog", { name: EN("conflict.title") });
    await asked.waitFor();
    assert.match(await asked.innerText(), /\bli saved another version/);
    await asked.getByRole("button", { name: EN("conflict.all_theirs") }).click();
    await asked.getByRole("button", { name: EN("conflict.apply") }).click();
    await wang.getByText(EN("save.saved")).waitFor();
    assert.equal(stage.configText, merged);
    await wang.goto(`${stage.origin}/configuration`);
    const rows = await wang.locator("#history-h ~ .scroll tbody tr").allInnerTexts();
    assert.match(rows[0]!, /\bli\b/);
    assert.match(rows[1]!, /\bwang\b/);
  });
});

async function editor(stage: Stage, page: Page): Promise<Page> {
  await page.goto(`${stage.origin}/cameras/street-a/zones`);
  await page.locator(".gw-stage image[href]").first().waitFor();
  return page;
}

/** Moves a corner by keyboard: a hundredth of the picture with Shift. */
async function moveCorner(page: Page, zone: string, corner: number, key: string): Promise<void> {
  const mark = page.locator(`[data-corner="${corner}"]`);
  await page.keyboard.press("Escape");
  await page.locator("zone-editor button", { hasText: zone }).first().click();
  await mark.focus();
  await page.keyboard.press(key);
}

async function save(page: Page): Promise<void> {
  await page.locator('zone-editor [data-action="save"]').click();
}

/** The polygon of a zone of the first camera in a configuration's text. */
function polygon(text: string, zone: string): number[][] {
  const found = text.match(new RegExp(`id = "${zone}"\n(?:.*\n)*?polygon = (.*)\n`));
  assert.ok(found, text);
  return JSON.parse(found[1]!) as number[][];
}
