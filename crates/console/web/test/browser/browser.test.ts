// All browser tests: one Chromium, one page at a time.
import { after, before, describe, it } from "node:test";
import type { Browser } from "playwright-core";
import { launch, skipReason } from "../harness/browser";
import { Harness } from "../harness/server";
import { otherSuite } from "./suites/other";
import { hoursSuite } from "./suites/hours";
import { signsSuite } from "./suites/signs";
import { zonesSuite } from "./suites/zones";

const skip = skipReason();

describe("in Chromium", { skip }, () => {
  const tools: { browser: Browser | null; harness: Harness | null } = { browser: null, harness: null };
  before(async () => {
    tools.harness = await Harness.start();
    tools.browser = await launch();
  });
  after(async () => {
    await tools.browser?.close();
    tools.harness?.stop();
  });
  const given = () => ({ browser: tools.browser!, harness: tools.harness! });
  describe("zone editor", () => zonesSuite(given));
  describe("week grid", () => hoursSuite(given));
  describe("approved signs", () => signsSuite(given));
  describe("calibration, live view, before and after", () => otherSuite(given));
});

if (skip) it("says why the browser tests are skipped", { skip }, () => undefined);
