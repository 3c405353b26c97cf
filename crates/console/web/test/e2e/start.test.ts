// What an operator meets first: a box without a camera, and one with a camera.
import assert from "node:assert/strict";
import { it } from "node:test";
import { onStage } from "./harness/stage";
import { skipReason } from "./harness/tools";

const skip = skipReason();

it("a box without a camera shows each page, says what is missing and how to add one", { skip }, async () => {
  await onStage("without a camera", {}, async ({ pages }) => {
    const page = await pages.goto("/");
    await page.getByText("no cameras are configured").waitFor();
    const menu = page.getByRole("navigation", { name: "Main navigation" });
    const names = await menu.getByRole("link").allInnerTexts();
    assert.ok(names.length >= 8, names.join());
    for (const name of names) {
      await menu.getByRole("link", { name, exact: true }).click();
      await page.locator("nav [aria-current=page]", { hasText: name }).first().waitFor();
      await page.getByRole("heading", { level: 1 }).waitFor();
    }
    await page.goBack();
    await menu.getByRole("link", { name: "Wall" }).click();
    await page.getByRole("main").getByRole("link", { name: "Add a camera" }).click();
    await page.getByRole("heading", { level: 1, name: "Add a camera" }).waitFor();
  });
});

it("a box with a camera shows its picture and files what is there", { skip }, async () => {
  await onStage("with a camera", { cameras: ["street-a"] }, async ({ pages, broker }) => {
    const page = await pages.goto("/");
    await page.getByRole("img", { name: /street-a/ }).waitFor();
    const filed = await broker.filed("0102");
    assert.equal(filed.camera.local_id, "street-a");
    assert.ok(filed.evidence.length > 0);
  });
});
