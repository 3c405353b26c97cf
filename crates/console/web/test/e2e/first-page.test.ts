// The first page over a slow link: what the wall of three cameras needs before it is seen, by a browser that has never been there.
import assert from "node:assert/strict";
import { it } from "node:test";
import { firstLooks } from "./harness/looks";
import { onStage } from "./harness/stage";
import { skipReason } from "./harness/tools";
import { Traffic } from "./harness/traffic";
import { waitFor } from "./harness/wait";

/** 1 Mb/s carries 250 kB in two seconds. Half of that, as requests wait for each other, and a page may grow. */
const MAX_BYTES = 125_000;
/** Before anything is painted: the document and its style sheets. */
const MAX_BYTES_BEFORE_PAINT = 20_000;

const CAMERAS = ["street-a", "street-b", "square-c"];

it("the first page comes over a link of 1 Mb/s in little", { skip: skipReason() }, async () => {
  await onStage("first-page", { farm: { clips: CAMERAS }, cameras: CAMERAS }, async (stage) => {
    await firstLooks(stage, CAMERAS.length);
    const page = await stage.pages.goto("/login");
    const devtools = await page.context().newCDPSession(page);
    const traffic = await Traffic.of(devtools);
    // As if it had never been there.
    await devtools.send("Network.setCacheDisabled", { cacheDisabled: true });
    await devtools.send("Network.emulateNetworkConditions", {
      offline: false,
      latency: 20,
      downloadThroughput: 1_000_000 / 8,
      uploadThroughput: 1_000_000 / 8,
    });
    await page.goto(stage.origin, { waitUntil: "load" });
    const needed = await waitFor("its pictures have come", () => {
      // The stream of events never ends, and a window without a tab shows no icon.
      const first = traffic.of(/./).filter(({ path }) => !/\/(events|icon\.svg|thumbnail)$/.test(path));
      // Each camera's first: a newer look may replace a picture that is still on its way.
      const pictures = CAMERAS.map((camera) => traffic.of(new RegExp(`/${camera}/thumbnail$`)).find(({ bytes }) => bytes > 0));
      return first.every(({ bytes }) => bytes > 0) && pictures.every((picture) => picture !== undefined) && [...first, ...pictures];
    });
    const times = await page.evaluate(() => {
      const [paint] = performance.getEntriesByName("first-contentful-paint");
      const pictures = performance.getEntriesByType("resource").filter(({ name }) => name.includes("/thumbnail")).slice(0, 3);
      return { paint: paint?.startTime ?? 0, pictures: Math.max(...(pictures as PerformanceResourceTiming[]).map(({ responseEnd }) => responseEnd)) };
    });
    const sum = (part: RegExp) => needed.filter(({ path }) => part.test(path)).reduce((bytes, request) => bytes + request.bytes, 0);
    const [all, before] = [sum(/./), sum(/^\/$|\.css$/)];
    console.log(
      `${all} bytes in ${needed.length} requests, ${before} of them before the first paint; at 1 Mb/s and 20 ms, it was painted after ` +
        `${Math.round(times.paint)} ms, its pictures were there after ${Math.round(times.pictures)} ms\n${needed.map(({ path, bytes }) => `  ${bytes} ${path}`).join("\n")}`,
    );
    assert.ok(before <= MAX_BYTES_BEFORE_PAINT, `${before} bytes before the first paint`);
    assert.ok(all <= MAX_BYTES, `${all} bytes`);
  });
});
