// Pages of the console in Chromium. What goes wrong in a page fails the test, unless the test expects it.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { launch } from "../../harness/browser";
import { WEB } from "../../harness/server";
import { LIMIT_MS } from "./wait";

/** Where a failed test leaves what its pages showed. */
const SHOTS = join(WEB, "shots", "e2e");

export class Pages {
  private readonly open: Page[] = [];
  private readonly faults: string[] = [];
  private readonly expected: RegExp[] = [];

  private constructor(
    private readonly browser: Browser,
    private readonly origin: string,
  ) {}

  static async start(origin: string): Promise<Pages> {
    return new Pages(await launch(), origin);
  }

  /** A page of its own browser session. `locale` decides the language of the console. */
  async goto(path: string, options: BrowserContextOptions = {}): Promise<Page> {
    const context = await this.browser.newContext({
      viewport: { width: 1366, height: 900 },
      locale: "en-GB",
      ...options,
    });
    context.setDefaultTimeout(LIMIT_MS);
    context.on("page", (page) => this.watch(page));
    const page = await context.newPage();
    // A picture that takes longer than the interval of looks keeps a page from being loaded completely.
    await page.goto(this.origin + path, { waitUntil: "domcontentloaded" });
    return page;
  }

  private watch(page: Page): void {
    this.open.push(page);
    page.on("pageerror", (error) => this.faults.push(String(error)));
    page.on("console", (message) => {
      // Error answers, which the browser and htmx report here, are looked at below with their addresses.
      const isAnswer = /^(Failed to load resource|Response Status Error Code)/.test(message.text());
      // htmx's word for a stream of events that ended: the page says so by itself and opens it anew, and the tests wait for what comes over it.
      const isLostStream = message.text() === "[object Event]";
      if (message.type() === "error" && !isAnswer && !isLostStream) this.faults.push(message.text());
    });
    page.on("requestfailed", (request) => {
      const why = request.failure()?.errorText ?? "";
      // A page that is left ends its requests.
      if (why !== "net::ERR_ABORTED") this.faults.push(`${request.method()} ${request.url()}: ${why}`);
    });
    page.on("response", (response) => {
      const status = response.status();
      if (status >= 400) this.faults.push(`${response.request().method()} ${new URL(response.url()).pathname}: ${status}`);
    });
  }

  /** Something that the test provokes, such as `/: 422$/`, is no fault of the page; that it came is checked, too. */
  expect(fault: RegExp): void {
    this.expected.push(fault);
  }

  /** Fails with what went wrong so far. */
  check(): void {
    const faults = this.faults.filter((fault) => !this.expected.some((pattern) => pattern.test(fault)));
    if (faults.length > 0) throw new Error(`in the pages: ${faults.join("\n")}`);
    const missing = this.expected.filter((pattern) => !this.faults.some((fault) => pattern.test(fault)));
    if (missing.length > 0) throw new Error(`expected in the pages, and did not come: ${missing.join(", ")}`);
  }

  /** Says what the pages show, and keeps pictures of them. */
  async describe(name: string): Promise<string> {
    mkdirSync(SHOTS, { recursive: true });
    const texts = [`faults in the pages: ${this.faults.join("\n") || "none"}`];
    for (const [n, page] of this.open.entries()) {
      if (page.isClosed()) continue;
      const shot = join(SHOTS, `${name.replace(/\W+/g, "-")}-${n + 1}.png`);
      await page.screenshot({ path: shot, fullPage: true, timeout: 10_000 }).catch(() => undefined);
      const main = await page.locator("main").innerText({ timeout: 5_000 }).catch(() => "");
      texts.push(`page ${page.url()}, picture in ${shot}:\n${main}`);
    }
    return texts.join("\n");
  }

  async stop(): Promise<void> {
    await this.browser.close();
  }
}
