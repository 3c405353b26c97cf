// The stage itself: a daemon without a camera shows an empty wall, and one with the demo's camera its picture.
import assert from "node:assert/strict";
import { it } from "node:test";
import { onStage } from "./harness/stage";
import { skipReason } from "./harness/tools";

const skip = skipReason();

it("a box with a camera shows its picture and files what is there", { skip }, async () => {
  await onStage("start", { cameras: ["street-a"] }, async ({ pages, broker }) => {
    const page = await pages.goto("/");
    await page.getByRole("img", { name: /street-a/ }).waitFor();
    const filed = await broker.filed("0102");
    assert.equal(filed.camera.local_id, "street-a");
    assert.ok(filed.evidence.length > 0);
  });
});
