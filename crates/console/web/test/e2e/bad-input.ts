// What the tests of bad input share.
import assert from "node:assert/strict";
import type { Locator, Page } from "playwright-core";
import type { Stage } from "./harness/stage";
import { textsOf } from "./harness/texts";

export const t = textsOf("en");
/** A name that would run as a script if a page took it for more than text. */
export const HTML = '<img src="x" onerror="document.title=1">';

/** Fills a form by its labels, sends it and waits for the message; afterwards all fields are as they were typed. */
export async function refused(form: Locator, typed: Readonly<Record<string, string>>, button: string, message: string): Promise<void> {
  for (const [label, text] of Object.entries(typed)) await form.getByLabel(label, { exact: true }).fill(text);
  // A message from before is none of this time.
  await form.evaluate((element) => element.querySelectorAll("[role=alert]").forEach((alert) => alert.setAttribute("data-old", "")));
  await form.getByRole("button", { name: button, exact: true }).click();
  await form.locator("[role=alert]:not([data-old])", { hasText: message }).first().waitFor();
  for (const [label, text] of Object.entries(typed)) {
    assert.equal(await form.getByLabel(label, { exact: true }).inputValue(), text, `${label} after: ${message}`);
  }
}

/** The browser itself holds the form back and says why at the field. */
export async function heldBack(field: Locator, text: string): Promise<void> {
  const before = await field.inputValue();
  await field.fill(text);
  assert.ok(!(await field.evaluate((input: HTMLInputElement) => input.checkValidity())), `${text} is taken`);
  await field.fill(before);
}

/** Does something and checks that the configuration is as it was. */
export async function unchanged(stage: Stage, what: () => Promise<void>): Promise<void> {
  const before = stage.configText;
  await what();
  assert.equal(stage.configText, before);
}

export const button = (page: Page | Locator, key: string) => page.getByRole("button", { name: t(key), exact: true });
