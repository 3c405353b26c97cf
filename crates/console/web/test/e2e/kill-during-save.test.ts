// The daemon is killed while the browser's request to save is under way: the configuration is the old or the new one, whole, and the page finds out which.
import assert from "node:assert/strict";
import { it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Page } from "playwright-core";
import { firstLooks } from "./harness/looks";
import { onStage } from "./harness/stage";
import { textsOf } from "./harness/texts";
import { skipReason } from "./harness/tools";

const KILLS = 10;
const EN = textsOf("en");

it("killed during a save, the old or the new configuration is there, and the page says which", { skip: skipReason() }, async () => {
  await onStage("kill-during-save", { cameras: ["street-a"] }, async (stage) => {
    await firstLooks(stage, 1);
    // What is under way when the daemon dies.
    stage.pages.expect(/: net::ERR_|^htmx:(afterRequest|sendError)/);
    const page = await stage.pages.goto("/cameras/street-a/zones");
    await page.locator(".gw-stage image[href]").first().waitFor();
    await page.locator("zone-editor button", { hasText: "pavement" }).first().click();
    const save = page.locator('zone-editor [data-action="save"]');
    const message = page.locator("zone-editor .gw-message[role=status]");

    // A save that nothing disturbs, for how long one takes here, and what it changes.
    const initial = stage.configText;
    await moveUp(page);
    const undisturbed = await Promise.all([requestOfSave(page), save.click()]).then(async ([sent]) => {
      const begun = performance.now();
      assert.equal((await sent.response())?.status(), 200);
      return performance.now() - begun;
    });
    await message.filter({ hasText: EN("save.done") }).waitFor();
    const outcomes = { old: 0, new: 0 };
    let top = topOf(stage.configText);
    assert.equal(stage.configText, initial.replace(/(id = "pavement"\n.*\n)polygon = .*/, `$1${lineOf(stage.configText)}`));

    for (let kill = 0; kill < KILLS; kill += 1) {
      const before = stage.configText;
      await moveUp(page);
      const [sent] = await Promise.all([requestOfSave(page), save.click()]);
      // From the moment the request leaves to a little after its answer is due.
      await sleep((kill * undisturbed * 1.2) / (KILLS - 1));
      await stage.killDaemon();
      await sent.response().catch(() => null);
      const wanted = JSON.parse(sent.postData() ?? "") as { zones: { id: string; polygon: number[][] }[] };
      const wantedTop = wanted.zones.find(({ id }) => id === "pavement")!.polygon[0]![1]!;
      const after = stage.configText;
      const isNew = after !== before;
      if (isNew) {
        assert.equal(after, before.replace(/(id = "pavement"\n.*\n)polygon = .*/, `$1${lineOf(after)}`), "nothing but the zone has changed");
        assert.equal(topOf(after), wantedTop, "as it was sent");
      }
      outcomes[isNew ? "new" : "old"] += 1;

      await stage.startDaemon();
      assert.equal(stage.configText, after, "the start changes nothing");
      // The answer came before the kill, or the page asks for itself.
      const says = isNew ? [EN("save.done"), EN("save.found_saved")] : [EN("save.found_unsaved")];
      await message.filter({ hasText: new RegExp(says.map((text) => text.replace(/[.?]/g, "\\$&")).join("|")) }).waitFor();
      if (!isNew) {
        // The edit is still there; saved again, it is saved once.
        await save.click();
        await message.filter({ hasText: EN("save.done") }).waitFor();
      }
      await page.getByText(EN("save.saved"), { exact: true }).waitFor();
      assert.ok(topOf(stage.configText) < top);
      assert.equal(topOf(stage.configText), wantedTop);
      top = wantedTop;
    }
    console.log(`a save takes ${Math.round(undisturbed)} ms; of ${KILLS} kills, ${outcomes.old} left the old configuration and ${outcomes.new} the new one`);
    assert.ok(outcomes.old > 0 && outcomes.new > 0, "kills came before and after the file was written");

    // What runs is what stands in the file, and its history is whole.
    await page.goto(`${stage.origin}/configuration`);
    await page.getByText(EN("configuration.all_in_force")).waitFor();
    assert.ok((await page.locator("#history-h ~ .scroll tbody tr").count()) > KILLS);
  });
});

function requestOfSave(page: Page) {
  return page.waitForRequest((request) => request.method() === "PUT" && request.url().endsWith("/zones"));
}

/** Moves the pavement's first corner up by a thousandth. */
async function moveUp(page: Page): Promise<void> {
  await page.locator('[data-corner="0"]').focus();
  await page.keyboard.press("ArrowUp");
}

function lineOf(text: string): string {
  return text.match(/id = "pavement"\n.*\n(polygon = .*)/)![1]!;
}

function topOf(text: string): number {
  return Number(lineOf(text).match(/\[\s*\[[0-9.]+,\s*([0-9.]+)/)![1]);
}
