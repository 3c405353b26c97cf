// A camera dies while people watch it on the wall, on its page and as live video: each says so, since when, and comes back by itself with the camera.
import assert from "node:assert/strict";
import { it } from "node:test";
import type { Page } from "playwright-core";
import { onStage } from "./harness/stage";
import { textsOf } from "./harness/texts";
import { skipReason } from "./harness/tools";

const ZH = textsOf("zh");

it("a camera that dies is said to be dead wherever it is watched, until it is back", { skip: skipReason() }, async () => {
  await onStage(
    "dying-camera",
    { cameras: ["street-a"], edit: (text) => text.replace(/(\[console\]\nlisten = .*)/, '$1\nunmasked_roles = ["admin"]') },
    async (stage) => {
      stage.pages.expect(/live.mp4: 503$/);
      const wall = await stage.pages.goto("/", { locale: "zh-CN" });
      const camera = await stage.pages.goto("/cameras/street-a");
      const video = await stage.pages.goto("/cameras/street-a");
      for (const page of [wall, camera, video]) await neverReloads(page);
      await wall.locator(`#tile-street-a .state`, { hasText: ZH("names.live") }).waitFor();
      await camera.locator("#look [data-delivers]").waitFor();
      await video.locator("live-player button").click();
      await isPlaying(video);

      for (const [die, back] of [
        // It loses its power, and hangs with its connections open, as when a switch on the way does.
        [() => stage.farm.kill(), () => stage.farm.restart()],
        [() => Promise.resolve(stage.farm.pause()), () => Promise.resolve(stage.farm.resume())],
      ] as const) {
        const watched = Date.now();
        const lastLook = await camera.locator("#look img").getAttribute("src");
        await die();
        const tile = wall.locator("#tile-street-a");
        await wall.locator("#tile-street-a.blind").waitFor();
        const since = await tile.locator(".state time").getAttribute("datetime");
        // In seconds, and not before it died.
        assert.ok(Date.parse(since!) >= Math.floor(watched / 1000) * 1000, `${since} is before its end`);
        assert.notEqual(await tile.locator(".state").innerText(), "");
        assert.doesNotMatch(await tile.innerText(), new RegExp(ZH("names.live")));
        // The last picture stays.
        assert.ok(await tile.locator("img").isVisible());

        await camera.locator("#look figure.blind").waitFor();
        const state = camera.locator('#look section[aria-labelledby="state-h"] dd').first();
        assert.match(await state.innerText(), /since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\n.+/, "since when, and why");

        // The video has ended, says why, and looks are shown instead.
        await video.locator('live-player[data-state="looks"]').waitFor();
        assert.match(await video.locator("live-player [role=status]").innerText(), /\w.*\. .*\w/);
        assert.ok(await video.locator("live-player img.look").isVisible());

        await back();
        await wall.locator("#tile-street-a:not(.blind) .state", { hasText: ZH("names.live") }).waitFor();
        await camera.locator("#look [data-delivers]").waitFor();
        await camera.waitForFunction((src) => document.querySelector("#look img")?.getAttribute("src") !== src, lastLook);
        // Without a click.
        await isPlaying(video);
      }
      for (const page of [wall, camera, video]) assert.ok(await page.evaluate(() => "watched" in window), "the page was not loaded again");
    },
  );
});

async function isPlaying(page: Page): Promise<void> {
  await page.locator('live-player[data-state="playing"]').waitFor();
  const video = page.locator("live-player video");
  const position = await video.evaluate((element: HTMLVideoElement) => element.currentTime);
  await page.waitForFunction((at) => (document.querySelector("video")?.currentTime ?? 0) > at, position);
}

async function neverReloads(page: Page): Promise<void> {
  await page.evaluate(() => Object.assign(window, { watched: true }));
}
