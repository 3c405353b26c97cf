import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { join } from "node:path";
import { it } from "node:test";
import type { Page } from "playwright-core";
import { axe, openPage } from "../../harness/browser";
import { answerFit, pictureOf } from "../../harness/camera";
import { testPattern } from "../../harness/png";
import { type Harness, WEB } from "../../harness/server";
import type { Given } from "./zones";

const CLIP = join(WEB, "..", "..", "..", "demo", "clips", "street-a.mp4");

interface PairJson {
  picture: [number, number];
  ground: [number, number];
}

async function pairsOf(page: Page): Promise<PairJson[]> {
  return JSON.parse(await page.locator('input[name="points"]').inputValue()) as PairJson[];
}

export function otherSuite(given: Given): void {
  const test = (
    name: string,
    path: string,
    body: (page: Page, harness: Harness) => Promise<void>,
    options: { viewport?: { width: number; height: number }; skip?: string | false } = {},
  ) =>
    it(name, { skip: options.skip ?? false }, async () => {
      const { browser, harness } = given();
      harness.on("POST /api/fit", answerFit);
      const { page, faults } = await openPage(browser, harness.origin + path, options.viewport ? { viewport: options.viewport } : {});
      try {
        await body(page, harness);
        assert.deepEqual(faults, []);
      } finally {
        await page.context().close();
      }
    });

  test("pairs are clicked and pasted, and residuals and grid follow", "/calibration?theme=light&points=none", async (page, harness) => {
    await page.locator(".gw-stage image[href]").first().waitFor();
    const { POINTS } = await import("../../harness/pages");
    const image = (await page.locator(".gw-stage image").first().boundingBox())!;
    for (const [index, { picture, ground }] of POINTS.entries()) {
      await page.mouse.click(image.x + image.width * picture[0]!, image.y + image.height * picture[1]!);
      // The new row's first field has the focus; a pair typed into it fills both.
      await page.keyboard.insertText(`${ground[0]!}, ${ground[1]!}`);
      assert.equal(await page.getByLabel(`Latitude of point ${index + 1} in degrees`).inputValue(), String(ground[1]));
      if (index === 2) await page.getByText("Pairs with coordinates: 3; at least 4 are needed.").waitFor();
      if (index === 3) await page.getByText("Four pairs always fit exactly").waitFor();
    }
    await page.locator("tr.is-wrong", { hasText: /3\.\d\d m|2\.9\d m/ }).waitFor();
    assert.ok((await page.locator(".ground .grid.line").getAttribute("d"))!.length > 100);
    assert.ok(await page.locator(".ground .cell.line").count());
    const sent = harness.received.filter(({ path }) => path === "/api/fit").pop()!.body as {
      points: PairJson[];
      crs: string;
      max_uncertainty_m: number;
    };
    assert.equal(sent.points.length, 6);
    assert.deepEqual([sent.crs, sent.max_uncertainty_m], ["EPSG:4490", 15]);
    assert.deepEqual(sent.points, await pairsOf(page));
  });

  test("both coordinates can be typed into one field, and a form is not sent without them", "/calibration?theme=light&points=none", async (page) => {
    await page.getByRole("button", { name: "Add a point" }).click();
    const [longitude, latitude] = [page.getByLabel("Longitude of point 1 in degrees"), page.getByLabel("Latitude of point 1 in degrees")];
    const isValid = () => page.locator("[data-row]").evaluate((row) => [...row.querySelectorAll("input")].every((input) => input.checkValidity()));
    await longitude.click();
    assert.equal(await isValid(), false);
    await page.keyboard.type("113.6252519, 34.7466616");
    assert.equal(await longitude.inputValue(), "113.6252519, 34.7466616");
    assert.equal(await longitude.getAttribute("aria-invalid"), "false");
    await page.keyboard.press("Tab");
    assert.deepEqual([await longitude.inputValue(), await latitude.inputValue()], ["113.6252519", "34.7466616"]);
    assert.equal(await isValid(), true);
    assert.deepEqual((await pairsOf(page))[0]!.ground, [113.6252519, 34.7466616]);
    // What is no coordinate is said, and holds the form.
    await latitude.click();
    await page.keyboard.type("N");
    await page.getByText("Point 1: a longitude is a number from −180 to 180").waitFor();
    assert.equal(await isValid(), false);
  });

  test("points move by keyboard and mouse, and undo takes them back", "/calibration?theme=light", async (page) => {
    await page.locator("tr.is-wrong").waitFor();
    const before = await pairsOf(page);
    await page.getByRole("button", { name: "Point 5: go to it in the picture" }).click();
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("Shift+ArrowUp");
    await page.keyboard.press("Alt+ArrowLeft");
    assert.deepEqual((await pairsOf(page))[4]!.picture, [0.5009, 0.84]);
    await page.keyboard.press("Control+z");
    assert.deepEqual(await pairsOf(page), before);
    await page.keyboard.press("Delete");
    assert.equal((await pairsOf(page)).length, 5);
    const mark = (await page.locator(".pair .halo").first().boundingBox())!;
    await page.mouse.move(mark.x + mark.width / 2, mark.y + mark.height / 2);
    await page.mouse.down();
    await page.mouse.move(mark.x + 80, mark.y - 60, { steps: 3 });
    assert.ok(await page.locator(".gw-loupe").isVisible());
    await page.mouse.up();
    assert.notDeepEqual((await pairsOf(page))[0]!.picture, before[0]!.picture);
  });

  test(
    "the server's fault names the pair, and a late reply to old pairs is not shown",
    "/calibration?theme=light",
    async (page, harness) => {
      await page.locator("tr.is-wrong").waitFor();
      harness.json("POST /api/fit", 422, { code: "contradicts", pairs: [2], message: "pair 2 misses its ground point by 20 m" });
      await page.getByLabel("Latitude of point 3 in degrees").fill("34.7480");
      await page.getByText("misses its ground point").waitFor();
      assert.deepEqual(await page.locator("tr.is-wrong th").allInnerTexts(), ["3"]);
      // Out of range: swapped coordinates are marked and not sent.
      await page.getByLabel("Latitude of point 3 in degrees").fill("113.6");
      assert.equal(await page.getByLabel("Latitude of point 3 in degrees").getAttribute("aria-invalid"), "true");
      assert.equal((await pairsOf(page)).length, 5);
    },
  );

  test("without a reply the operator is told", "/calibration?theme=light&points=none", async (page, harness) => {
    await page.locator(".gw-stage image[href]").first().waitFor();
    harness.on("POST /api/fit", (_, response) => void response.destroy());
    const image = (await page.locator(".gw-stage image").first().boundingBox())!;
    const { POINTS } = await import("../../harness/pages");
    for (const { picture, ground } of POINTS.slice(0, 4)) {
      await page.mouse.click(image.x + image.width * picture[0]!, image.y + image.height * picture[1]!);
      await page.keyboard.insertText(ground.join(" "));
    }
    await page.getByText("The box did not answer").waitFor();
  });

  it("a grid that comes before its picture is drawn over it all the same", async () => {
    const { browser, harness } = given();
    harness.on("POST /api/fit", answerFit);
    let send = () => {};
    harness.on("GET /slow.png", (_, response) => {
      // 4:3, so neither size nor shape are what is assumed until it has loaded.
      send = () => void response.writeHead(200, { "content-type": "image/png" }).end(testPattern(704, 576));
    });
    const context = await browser.newContext({ viewport: { width: 1366, height: 900 } });
    const page = await context.newPage();
    // The load event waits for no picture that a script asks for.
    await page.goto(`${harness.origin}/calibration?picture=/slow.png`, { waitUntil: "domcontentloaded" });
    await page.locator("tr.is-wrong").waitFor();
    send();
    await page.locator(".gw-stage image[href]").first().waitFor();
    const [line] = ((await page.locator(".limit.line").getAttribute("d")) ?? "").slice(1).split("L");
    const [x, y] = pictureOf([-14, 19]);
    const [drawnX, drawnY] = line!.split(" ").map(Number);
    assert.ok(Math.abs(drawnX! / 704 - x) < 1e-6 && Math.abs(drawnY! / 576 - y) < 1e-6, `${line} is not at ${x}, ${y} of 704 × 576`);
    await context.close();
  });

  const hasFfmpeg = spawnSync("ffmpeg", ["-version"]).status === 0;
  const noFfmpeg = hasFfmpeg ? (false as const) : "no ffmpeg to make a stream: install Debian's package ffmpeg";

  test(
    "a stream of fragmented MP4 plays near its end",
    "/live-player?theme=light",
    async (page, harness) => {
      const streams: ReturnType<typeof spawn>[] = [];
      harness.on("GET /live.mp4", (_, response) => {
        response.writeHead(200, { "content-type": 'video/mp4; codecs="avc1.640028"' });
        const arguments_ = [
          "-v",
          "error",
          "-re",
          "-i",
          CLIP,
          "-an",
          "-c",
          "copy",
          "-movflags",
          "frag_every_frame+empty_moov+default_base_moof",
          "-f",
          "mp4",
          "-",
        ];
        const stream = spawn("ffmpeg", arguments_, { stdio: ["ignore", "pipe", "inherit"] });
        streams.push(stream);
        stream.stdout!.pipe(response);
        response.on("close", () => stream.kill());
      });
      await page.getByRole("button", { name: "Live view" }).click();
      await page.locator('live-player[data-state="playing"]').waitFor();
      await page.waitForFunction(
        () => document.querySelector("video")!.currentTime > 1 && document.querySelector("video")!.videoWidth === 1280,
      );
      const lag = await page.evaluate(() => {
        const video = document.querySelector("video")!;
        return video.buffered.end(video.buffered.length - 1) - video.currentTime;
      });
      assert.ok(lag < 8, `${lag} s behind`);
      await page.getByRole("button", { name: "Stop" }).click();
      await page.locator('live-player[data-state="idle"]').waitFor();
      // Stopping ends the request, and with it the server's work.
      await Promise.all(
        streams.map(
          (stream) => stream.exitCode !== null || stream.signalCode !== null || new Promise((resolve) => stream.once("exit", resolve)),
        ),
      );
    },
    { skip: noFfmpeg },
  );

  test(
    "a codec that the browser lacks is named before anything is fetched, and looks are shown",
    "/live-player?theme=light&codecs=hvc1.1.6.L999.90",
    async (page, harness) => {
      harness.received.length = 0;
      harness.on("GET /live.mp4", (_, response) => void response.end());
      await page.getByRole("button", { name: "Live view" }).click();
      await page.getByText("This browser does not play H.265. Showing the newest looks instead.").waitFor();
      assert.equal(harness.received.length, 0);
      await page.waitForFunction(() => document.querySelector<HTMLImageElement>("img.look")!.src.includes("at="));
    },
  );

  test("a refusal and bytes that are no video are told apart", "/live-player?theme=light", async (page, harness) => {
    harness.json("GET /live.mp4", 503, { message: "eight viewers are connected" });
    await page.getByRole("button", { name: "Live view" }).click();
    await page.getByText("The live view was refused (503: eight viewers are connected).").waitFor();
    harness.on("GET /live.mp4", (_, response) => {
      response.writeHead(200, { "content-type": "video/mp4" });
      response.end("x");
    });
    await page.getByRole("button", { name: "Live view" }).click();
    await page.getByText("The stream does not name its codec.").waitFor();
    harness.on("GET /live.mp4", (_, response) => {
      response.writeHead(200, { "content-type": 'video/mp4; codecs="avc1.640028"' });
      response.end("no video at all, only text ".repeat(100));
    });
    await page.getByRole("button", { name: "Live view" }).click();
    await page.getByText(/cannot play this stream|has ended/).waitFor();
  });

  test("the divider follows mouse and keys", "/before-after?theme=light", async (page) => {
    const frame = (await page.locator("before-after .frame").boundingBox())!;
    await page.mouse.click(frame.x + frame.width * 0.25, frame.y + frame.height / 2);
    const slider = page.getByRole("slider", { name: "Divider between the pictures" });
    assert.equal(await slider.inputValue(), "25");
    await page.keyboard.press("ArrowRight");
    assert.equal(await slider.inputValue(), "26");
    assert.equal(await page.locator("before-after").evaluate((e) => getComputedStyle(e).getPropertyValue("--split")), "26%");
  });

  for (const theme of ["light", "dark"]) {
    for (const name of ["calibration", "live-player", "before-after"]) {
      for (const [device, viewport] of [
        ["a desktop", { width: 1366, height: 900 }],
        ["a phone", { width: 390, height: 844 }],
      ] as const) {
        test(
          `axe finds nothing in ${name}, ${theme}, on ${device}`,
          `/${name}?lang=zh&theme=${theme}`,
          async (page) => {
            if (name === "calibration") await page.locator("tr.is-wrong").waitFor();
            assert.deepEqual(await axe(page), []);
            assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth), 0);
          },
          { viewport },
        );
      }
    }
  }
}
