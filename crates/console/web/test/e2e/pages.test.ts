// Every page of the console in both languages, on a desk and on a phone, in both themes: nothing that axe-core finds, nothing wider than the window, nothing
// left in the other language.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import type { BrowserContextOptions, Page } from "playwright-core";
import { axe } from "../harness/browser";
import { WEB } from "../harness/server";
import { logIn } from "./harness/people";
import { onStage } from "./harness/stage";
import { skipReason } from "./harness/tools";
import { PARTS, TOUR_STAGE, type Visit, furnish, visit, visits } from "./tour";

/** As the server has them; crates/console/tests/console/roles.rs keeps the file up to date. */
const ROUTES = JSON.parse(readFileSync(join(WEB, "test", "e2e", "harness", "routes.json"), "utf8")) as string[];

const DESK = { width: 1366, height: 900 };
/** The width of most phones. */
const PHONE = { width: 390, height: 844 };

/** English words are longer, and want a phone's width the most. Each language and each width is seen once: what a page does wrong, it does in one of them. */
const WAYS = [
  { locale: "zh-CN", viewport: DESK },
  { locale: "en-GB", viewport: PHONE },
];

/** What depends on the theme. */
const OF_COLOURS = ["color-contrast", "link-in-text-block"];

it("every page can be read and used by everyone", { skip: skipReason() }, async () => {
  await onStage("pages", TOUR_STAGE, async (stage) => {
    const sights = await furnish(stage);
    const all = visits(sights);
    assert.deepEqual([...new Set([...all.map(({ route }) => route), ...Object.keys(PARTS)])].sort(), [...ROUTES].sort(), "each route is visited");
    const names = new Set(all.map(({ name }) => name));
    for (const [part, of] of Object.entries(PARTS)) assert.ok(of === "all pages" || names.has(of), `${part}: there is no visit ${of}`);
    for (const { path, route, status } of all) if (status) stage.pages.expect(new RegExp(`${path ?? route}: ${status}$`));
    stage.pages.expect(/POST \/login: 4\d\d$/);

    const findings: string[] = [];
    for (const { locale, viewport } of WAYS) {
      const options: BrowserContextOptions = { locale, viewport, colorScheme: "light" };
      const guest = await stage.pages.goto("/login", options);
      const user = await logIn(stage, "wang", options);
      for (const target of all) {
        const page = target.isPublic ? guest : user;
        const where = `${target.name}, ${locale}, ${viewport.width} px`;
        try {
          await visit(page, stage.origin, target);
          const found = await look(page, target, locale, viewport.width);
          findings.push(...found.map((finding) => `${where}: ${finding}`));
        } catch (error) {
          findings.push(`${where}: cannot be visited: ${String(error)}`);
        }
      }
      for (const page of [guest, user]) await page.context().close();
    }
    assert.deepEqual(findings, []);
  });
});

async function look(page: Page, { name }: Visit, locale: string, width: number): Promise<string[]> {
  const findings = await axe(page);
  await page.emulateMedia({ colorScheme: "dark" });
  assert.equal(await page.evaluate(() => getComputedStyle(document.documentElement).colorScheme), "dark");
  findings.push(...(await axe(page, OF_COLOURS)).map((finding) => `dark: ${finding}`));
  await page.emulateMedia({ colorScheme: "light" });
  const wide = await page.evaluate(() => {
    const { scrollWidth, clientWidth } = document.documentElement;
    if (scrollWidth <= clientWidth) return null;
    const tooWide = [...document.querySelectorAll("body *")].filter((element) => element.getBoundingClientRect().right > clientWidth + 0.5);
    return `${scrollWidth - clientWidth} px too wide: ${tooWide.slice(0, 3).map((element) => element.outerHTML.slice(0, 120)).join(" | ")}`;
  });
  if (wide !== null) findings.push(`at ${width} px: ${wide}`);
  findings.push(...(await foreign(page, locale)));
  const heading = await page.locator("h1").allInnerTexts();
  if (heading.length !== 1 || heading[0]!.trim() === "") findings.push(`headings of the first level: ${heading.length} at ${name}`);
  return findings;
}

/** Texts in the other language that do not say so by `lang`. What people and programs have named stands in the pages as it is: ids, addresses, paths. */
async function foreign(page: Page, locale: string): Promise<string[]> {
  return page.evaluate((isChinese) => {
    // Three English words in a row are a sentence; names of labels, rules and files are shorter.
    const other = isChinese ? /[A-Za-z]{2,}(?:[ ,]+[A-Za-z]{2,}){2,}/ : /\p{Script=Han}/u;
    const found: string[] = [];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let text = texts.nextNode(); text; text = texts.nextNode()) {
      const element = text.parentElement!;
      // After a Chinese colon, what a device or a library says is quoted in its own words.
      const own = (text.textContent ?? "").replace(isChinese ? /(?<=\p{Script=Han}：)[A-Za-z0-9].*$/su : /$^/, "");
      if (element.closest("script, noscript, code, pre, textarea") || !other.test(own)) continue;
      const lang = element.closest("[lang]")!.getAttribute("lang")!;
      // Empty: of data, whose language nobody knows.
      if (lang !== "" && lang.startsWith("zh") === isChinese) found.push(`in the other language: ${(text.textContent ?? "").trim().slice(0, 120)}`);
    }
    return found;
  }, locale.startsWith("zh"));
}
