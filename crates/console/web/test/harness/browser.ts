// Chromium for the browser tests, or the reason why they are skipped.
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { WEB } from "./server";

/** Where Debian's package `chromium` installs it; `CHROMIUM` names another one. */
const PROGRAM = process.env["CHROMIUM"] ?? "/usr/bin/chromium";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Why there are no browser tests here; `false` if they run. */
export function skipReason(): string | false {
  return existsSync(PROGRAM) ? false : `no Chromium at ${PROGRAM}: install Debian's package chromium, or name one in CHROMIUM`;
}

export async function launch(): Promise<Browser> {
  const { chromium } = await import("playwright-core");
  return chromium.launch({ executablePath: PROGRAM, headless: true, args: FLAGS });
}

/** A page that fails the test on a script error or a violation of the Content-Security-Policy. */
export async function openPage(
  browser: Browser,
  url: string,
  options: BrowserContextOptions = {},
): Promise<{ page: Page; faults: string[] }> {
  const context = await browser.newContext({ viewport: { width: 1366, height: 900 }, ...options });
  // Reached by a hang only: the machine may be busy with a build.
  context.setDefaultTimeout(120_000);
  const page = await context.newPage();
  const faults: string[] = [];
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("console", (message) => {
    // An error status of a reply is what some tests are about.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) faults.push(message.text());
  });
  await page.goto(url, { waitUntil: "load" });
  return { page, faults };
}

/** Rules of WCAG 2.2 A and AA, and axe-core's own of good practice. */
const AXE_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

/** Findings of axe-core, as texts; of all rules, or of `rules`. It is evaluated by the driver, which the page's policy does not concern. */
export async function axe(page: Page, rules: readonly string[] = []): Promise<string[]> {
  const source = await readFile(createRequire(join(WEB, "package.json")).resolve("axe-core/axe.min.js"), "utf8");
  await page.evaluate(source);
  const only = rules.length > 0 ? { type: "rule", values: [...rules] } : { type: "tag", values: AXE_TAGS };
  return page.evaluate(async (runOnly) => {
    const { axe: runner } = window as unknown as {
      axe: { run(options: unknown): Promise<{ violations: { id: string; nodes: { html: string; failureSummary?: string }[] }[] }> };
    };
    const { violations } = await runner.run({ runOnly, resultTypes: ["violations"] });
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map((n) => `${n.html.slice(0, 160)} ${n.failureSummary ?? ""}`).join(" | ")}`);
  }, only);
}
