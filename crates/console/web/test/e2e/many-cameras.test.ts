// 64 cameras on one wall: all are there, problems first, and the page stays small and follows the box.
import assert from "node:assert/strict";
import { it } from "node:test";
import type { CDPSession } from "playwright-core";
import { firstLooks } from "./harness/looks";
import { onStage } from "./harness/stage";
import { textsOf } from "./harness/texts";
import { skipReason } from "./harness/tools";
import { type Request, Traffic } from "./harness/traffic";

const CAMERAS = 64;
const EN = textsOf("en");

/** The first answer, compressed: 64 tiles say much the same. */
const MAX_HTML_BYTES = 40_000;
/** Of the document: a tile has some 20, among them its zones and boxes. */
const MAX_ELEMENTS = CAMERAS * 35 + 200;
/** Of a tile that is sent anew, uncompressed. */
const MAX_TILE_BYTES = 6_000;

it("64 cameras stand on one wall without strain", { skip: skipReason() }, async () => {
  const served = Array.from({ length: CAMERAS - 1 }, (_, i) => `street-b-${i + 1}`);
  const camera = (id: string, url: string) =>
    `[[cameras]]\nid = "${id}"\nurl = "${url}"\nlook_every = "20s"\nplace = { lon = 121.5002294, lat = 31.2301389, uncertainty_m = 8.0 }\n`;
  await onStage(
    "many-cameras",
    {
      farm: { clips: ["street-b"], count: CAMERAS - 1 },
      // Looks that two cores can take; and one camera more than is served, which is down.
      edit: (text, farm) =>
        [
          text.replace(/^(max_gap|forget_after) = "[^"]*"/gm, '$1 = "5m"'),
          ...served.map((name) => camera(name, farm.url(name))),
          camera("broken", farm.url("street-b-1").replace("street-b-1", "none")),
        ].join("\n"),
    },
    async (stage) => {
      await firstLooks(stage, CAMERAS - 1);
      const page = await stage.pages.goto("/login");
      const devtools = await page.context().newCDPSession(page);
      const traffic = await Traffic.of(devtools);
      await page.goto(stage.origin, { waitUntil: "load" });

      // All are there, the broken one first.
      const ids = await page.locator(".tile > a").evaluateAll((tiles) => tiles.map((tile) => tile.id.slice("tile-".length)));
      assert.deepEqual([...ids].sort(), [...served, "broken"].sort());
      assert.equal(ids[0], "broken");
      const summary = page.locator("#wall > p");
      assert.match(await summary.innerText(), new RegExp(`^Views: ${CAMERAS},`));

      // Little is sent at first: pictures come when they come into sight.
      const html = traffic.of(/^\/$/);
      assert.equal(html.length, 1);
      const [{ bytes: htmlBytes }] = html as [Request];
      assert.ok(htmlBytes > 0 && htmlBytes <= MAX_HTML_BYTES, `${htmlBytes} bytes of HTML`);
      const inSight = await page.locator(".tile").evaluateAll((tiles) => tiles.filter((tile) => tile.getBoundingClientRect().top < innerHeight).length);
      const pictures = traffic.of(/\/thumbnail$/).length;
      assert.ok(inSight < CAMERAS && pictures < CAMERAS, `${pictures} pictures for ${inSight} tiles in sight`);
      const elements = await page.evaluate(() => document.querySelectorAll("*").length);
      assert.ok(elements <= MAX_ELEMENTS, `${elements} elements`);

      // Tiles are replaced one by one as looks come, and whoever works on one is not disturbed.
      await page.evaluate(countUpdates);
      const focused = page.locator("#tile-street-b-5");
      await focused.focus();
      const updates = (times: number) =>
        page.waitForFunction((wanted) => Object.keys(window.updates).length >= 63 && Object.values(window.updates).every((n) => n >= wanted), times);
      await updates(1);
      const early = await settledMetrics(devtools);
      await updates(4);
      const late = await settledMetrics(devtools);
      assert.equal(await page.evaluate(() => document.activeElement?.id), "tile-street-b-5", "the focus stays");
      // Tiles that were replaced are gone, also where the whole wall was, in another order, and a camera is down, of which nothing comes.
      const reordered = traffic.of(/^\/wall$/).length;
      assert.ok(reordered > 0, "the order has changed meanwhile");
      assert.ok(late.Nodes! <= early.Nodes! * 1.2 + 200, `nodes: ${early.Nodes} became ${late.Nodes}`);
      assert.ok(late.JSEventListeners! <= early.JSEventListeners! * 1.2 + 50, `listeners: ${early.JSEventListeners} became ${late.JSEventListeners}`);
      assert.ok(late.JSHeapUsedSize! <= early.JSHeapUsedSize! * 1.2 + 2e6, `heap: ${early.JSHeapUsedSize} became ${late.JSHeapUsedSize}`);
      assert.equal(traffic.of(/^\/$/).length, 1, "the page was not loaded again");
      const { bytes, events } = await page.evaluate(() => window.received);
      assert.ok(bytes / events <= MAX_TILE_BYTES, `${Math.round(bytes / events)} bytes a tile`);
      console.log(
        `${htmlBytes} bytes of HTML, ${elements} elements, ${pictures} pictures at first; ${events} tiles sent anew with ${Math.round(bytes / events)} bytes each, the order ${reordered} times; ` +
          `nodes ${early.Nodes} then ${late.Nodes}, heap ${(early.JSHeapUsedSize! / 1e6).toFixed(1)} then ${(late.JSHeapUsedSize! / 1e6).toFixed(1)} MB`,
      );

      // All die at once: the page asks for their new order at most once a second, and ends with the truth.
      const asked = traffic.of(/^\/wall$/).length;
      const begun = Date.now();
      await stage.farm.kill();
      await summary.filter({ hasText: EN("wall.summary", { total: CAMERAS, problems: CAMERAS }) }).waitFor();
      const orders = traffic.of(/^\/wall$/).length - asked;
      const seconds = (Date.now() - begun) / 1000;
      assert.ok(orders >= 1 && orders <= seconds + 2, `${orders} orders in ${seconds} s`);
      assert.equal(await page.locator(".tile > a.blind").count(), CAMERAS);
      assert.equal(await page.locator("#tile-street-b-63").getAttribute("href"), "/cameras/street-b-63");
    },
  );
});

declare global {
  interface Window {
    updates: Record<string, number>;
    received: { bytes: number; events: number };
  }
}

function countUpdates(): void {
  window.updates = {};
  window.received = { bytes: 0, events: 0 };
  document.addEventListener("htmx:sseBeforeMessage", (event) => {
    const tile = (event.target as Element).querySelector("a");
    const { data } = (event as CustomEvent<{ data: string }>).detail;
    if (!tile) return;
    window.updates[tile.id] = (window.updates[tile.id] ?? 0) + 1;
    window.received.events += 1;
    window.received.bytes += data.length;
  });
}

async function metrics(devtools: CDPSession): Promise<Record<string, number>> {
  const { metrics: found } = await devtools.send("Performance.getMetrics");
  return Object.fromEntries(found.map(({ name, value }) => [name, value]));
}

/** After what nobody uses has been collected. */
async function settledMetrics(devtools: CDPSession): Promise<Record<string, number>> {
  // Nodes and scripts hold each other: one round frees only some of them.
  for (let round = 0; round < 4; round += 1) await devtools.send("HeapProfiler.collectGarbage");
  return metrics(devtools);
}
