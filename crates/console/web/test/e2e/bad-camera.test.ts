// A camera that cannot be added as it was typed: it is said what is wrong, nothing is written, and nothing that was typed is lost.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import type { Page } from "playwright-core";
import { HTML, button, heldBack, refused, t, unchanged } from "./bad-input";
import { Farm } from "./harness/farm";
import { type Stage, onStage } from "./harness/stage";
import { skipReason } from "./harness/tools";

const skip = skipReason();
const LOGIN = { user: "admin", password: "right-password" };

it("an address, a login and a place that are wrong are named, and the camera is added once they are right", { skip }, async () => {
  await onStage("bad camera", { cameras: ["street-a"] }, async (stage) => {
    const locked = await Farm.start({ clips: ["street-b"], login: LOGIN }, join(stage.dir, "locked.log"));
    try {
      const page = await stage.pages.goto("/cameras/add");
      stage.pages.expect(/\/cameras\/add\/probe: 422$/);
      await unchanged(stage, () => badAddresses(page, locked));
      stage.pages.expect(/\/save: 4(09|22)$/);
      await badPlaces(stage, page);
    } finally {
      await locked.stop();
    }
  });
});

async function badAddresses(page: Page, locked: Farm): Promise<void> {
  const form = page.locator('form[action$="/cameras/add/probe"]');
  const [target, user, password] = [t("add.target"), t("add.user"), t("add.password")];
  const login = { [user]: LOGIN.user, [password]: "of-this-test" };
  for (const [text, message] of [
    ["http//camera/stream", "add.unresolved"],
    ["ftp://192.0.2.1/stream", "add.bad_target"],
    [HTML, "add.bad_target"],
    [`rtsp://${"a".repeat(300)}.invalid/`, "add.unresolved"],
    ["rtsp://no-such-camera.invalid/stream", "add.unresolved"],
    ["rtsp://192.0.2.1/stream?user=admin&password=secret", "add.bad_query"],
  ] as const) {
    await refused(form, { [target]: text, ...login }, t("add.probe"), t(message));
  }
  await refused(form, { [target]: "192.0.2.1", [user]: "admin", [password]: "" }, t("add.probe"), t("add.bad_half"));
  await refused(form, { [target]: "192.0.2.1", [user]: "a:b", [password]: "of-this-test" }, t("add.probe"), t("add.bad_login"));
  for (const channel of ["0", "257", "1.5"]) await heldBack(form.getByLabel(t("add.channel")), channel);

  // A wrong password is found out by the camera; the form to try again is open.
  await form.getByLabel(target, { exact: true }).fill(locked.url());
  await form.getByLabel(user, { exact: true }).fill(LOGIN.user);
  await form.getByLabel(password, { exact: true }).fill("wrong-password");
  await button(form, "add.probe").click();
  await page.getByText(t("add.login_wrong")).waitFor();
  assert.equal(await form.getByLabel(target, { exact: true }).inputValue(), locked.url());
  // A host that answers on no port.
  await form.getByLabel(target, { exact: true }).fill("rtsp://127.0.0.1:9/stream");
  await form.getByLabel(user, { exact: true }).fill("");
  await form.getByLabel(password, { exact: true }).fill("");
  await button(form, "add.probe").click();
  await page.getByText(t("add.failed")).first().waitFor();
  await page.getByText("127.0.0.1:9", { exact: false }).first().waitFor();
  // And now as it should be.
  await form.getByLabel(target, { exact: true }).fill(locked.url());
  await form.getByLabel(user, { exact: true }).fill(LOGIN.user);
  await form.getByLabel(password, { exact: true }).fill(LOGIN.password);
  await button(form, "add.probe").click();
  await page.locator("#save").waitFor();
}

async function badPlaces(stage: Stage, page: Page): Promise<void> {
  const form = page.locator("#save");
  const good = {
    [t("add.id")]: "gate-1",
    [t("wall.address")]: HTML,
    [t("add.lon")]: "121.5002294",
    [t("add.lat")]: "31.2301389",
    [t("add.uncertainty")]: "8",
    [t("add.look_every")]: "2s",
    [t("add.groups")]: "east, west",
  };
  await unchanged(stage, async () => {
    for (const [label, text, message] of [
      ["add.id", "street-a", "add.exists"],
      ["add.id", "add", "add.bad_id"],
      ["add.lon", "121°30′", "add.bad_lon"],
      ["add.lon", "181", "add.bad_lon"],
      ["add.lat", "abc", "add.bad_lat"],
      ["add.lat", "-90.5", "add.bad_lat"],
      ["add.uncertainty", "many", "add.bad_uncertainty"],
      ["add.uncertainty", "0", "add.bad_uncertainty"],
      ["add.look_every", "often", "add.bad_look_every"],
      ["add.look_every", "1ms", "add.faults"],
      ["add.groups", "east/1", "add.bad_groups"],
    ] as const) {
      await refused(form, { ...good, [t(label)]: text }, t("add.save"), t(message));
      // At the field itself, too.
      const at = await form.getByLabel(t(label), { exact: true }).getAttribute("aria-describedby");
      const faults = await Promise.all((at ?? "").split(" ").map((id) => form.locator(`[id="${id}"].fault`).allInnerTexts()));
      assert.ok(faults.flat().some((text) => text !== ""), `the field ${label} says nothing of ${text}`);
    }
    for (const id of ["", "a b", HTML]) await heldBack(form.getByLabel(t("add.id"), { exact: true }), id);
    const address = form.getByLabel(t("wall.address"), { exact: true });
    await address.fill("路".repeat(300));
    assert.ok((await address.evaluate((input: HTMLInputElement) => input.value.length > input.maxLength || !input.checkValidity())) || (await address.inputValue()).length === 200);
  });
  // Somebody has changed the file since the page was shown.
  writeFileSync(stage.config, stage.configText.replace('language = "zh"', 'language = "en"'));
  const theirs = stage.configText;
  await unchanged(stage, () => refused(form, good, t("add.save"), t("add.conflict")));
  await form.getByText("node.language").waitFor();
  await button(form, "add.save").click();
  await page.getByRole("heading", { level: 1, name: t("add.done", { id: "gate-1" }) }).waitFor();
  assert.ok(stage.configText.startsWith(theirs.slice(0, 200)), "their change is kept");
  assert.match(stage.configText, /language = "en"/);
  // HTML in a name is text.
  await page.getByRole("main").getByRole("link", { name: t("add.next_camera") }).click();
  await page.getByText(HTML).waitFor();
  const login = readFileSync(join(stage.stateDir, "credentials", "gate-1"), "utf8");
  assert.equal(login, `${LOGIN.user}:${LOGIN.password}\n`);
}
