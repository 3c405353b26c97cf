import assert from "node:assert/strict";
import { it } from "node:test";
import type { Browser, Page } from "playwright-core";
import { axe, openPage } from "../../harness/browser";
import { ZONES } from "../../harness/pages";
import type { Harness } from "../../harness/server";

export type Given = () => { browser: Browser; harness: Harness };

interface ZoneJson {
  id: string;
  kind: string;
  polygon: [number, number][];
  rules?: string[];
  schedule?: string;
}

const NONE = "/zone-editor?theme=light&zones=none&layers=none&picture=/pattern/1280x720";
const SOME = "/zone-editor?theme=light&layers=none&picture=/pattern/1280x720";

async function zonesOf(page: Page): Promise<ZoneJson[]> {
  return JSON.parse(await page.locator('input[name="zones"]').inputValue()) as ZoneJson[];
}

/** Where a fraction of the picture is in the window, from the box of the picture itself. */
async function at(page: Page, x: number, y: number): Promise<[number, number]> {
  const box = (await page.locator(".gw-stage image").first().boundingBox())!;
  return [box.x + box.width * x, box.y + box.height * y];
}

const near = (actual: readonly number[], expected: readonly number[], by: number) =>
  assert.ok(
    actual.every((value, i) => Math.abs(value - expected[i]!) <= by),
    `${JSON.stringify(actual)} is not ${JSON.stringify(expected)} ± ${by}`,
  );

async function loaded(page: Page): Promise<void> {
  await page.locator(".gw-stage image[href]").first().waitFor();
}

const CORNERS: [number, number][] = [
  [0.2, 0.3],
  [0.6, 0.25],
  [0.7, 0.8],
  [0.25, 0.75],
];

async function drawByMouse(page: Page, corners = CORNERS): Promise<void> {
  await page.getByRole("button", { name: "New zone" }).click();
  for (const [x, y] of [...corners, corners[0]!]) await page.mouse.click(...(await at(page, x, y)));
}

export function zonesSuite(given: Given): void {
  const test = (name: string, path: string, body: (page: Page, harness: Harness) => Promise<void>, options = {}) =>
    it(name, async () => {
      const { browser, harness } = given();
      const { page, faults } = await openPage(browser, harness.origin + path, options);
      try {
        await loaded(page);
        await body(page, harness);
        assert.deepEqual(faults, []);
      } finally {
        await page.context().close();
      }
    });

  test("a zone is drawn by mouse", NONE, async (page) => {
    await drawByMouse(page);
    const [zone] = await zonesOf(page);
    assert.equal(zone!.id, "watch-1");
    // A click hits whole pixels of a picture about 1000 wide.
    zone!.polygon.forEach((corner, i) => near(corner, CORNERS[i]!, 0.002));
    assert.equal(zone!.polygon.length, 4);
    assert.ok(await page.locator('[data-corner="3"]').isVisible());
  });

  test("a zone is drawn and changed by keyboard alone", NONE, async (page) => {
    await page.keyboard.press("Tab");
    await page.keyboard.press("e"); // Exclude, in the choice of kinds
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    const go = async (key: string, times: number) => {
      for (let i = 0; i < times; i += 1) await page.keyboard.press(`Shift+${key}`);
    };
    await page.keyboard.press("Space"); // 0.5, 0.5
    await go("ArrowRight", 20);
    await page.keyboard.press("Space"); // 0.7, 0.5
    await go("ArrowDown", 20);
    await page.keyboard.press("Space"); // 0.7, 0.7
    await page.keyboard.press("Backspace");
    await page.keyboard.press("Space");
    await page.keyboard.press("Enter");
    assert.deepEqual(await zonesOf(page), [
      {
        id: "exclude-1",
        kind: "exclude",
        polygon: [
          [0.5, 0.5],
          [0.7, 0.5],
          [0.7, 0.7],
        ],
      },
    ]);
    // From the zone to its first corner; insert after it, move the new one, remove the next.
    await page.keyboard.press("Tab");
    await page.keyboard.press("i");
    await page.keyboard.press("Alt+ArrowUp");
    await page.keyboard.press("ArrowUp");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Delete");
    assert.deepEqual((await zonesOf(page))[0]!.polygon, [
      [0.5, 0.5],
      [0.6, 0.4989],
      [0.7, 0.7],
    ]);
    // To the list, to the id, and type.
    await page.keyboard.press("Escape");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Control+a");
    await page.keyboard.type("kiosk");
    assert.equal((await zonesOf(page))[0]!.id, "kiosk");
    await page.keyboard.press("Control+z");
    assert.equal((await zonesOf(page))[0]!.id, "exclude-1");
    assert.equal(await page.locator('[data-field="id"]').inputValue(), "exclude-1");
  });

  test(
    "a zone is drawn and changed by touch, with the loupe off the finger",
    NONE,
    async (page) => {
      const session = await page.context().newCDPSession(page);
      const touch = (type: "touchStart" | "touchMove" | "touchEnd", points: [number, number][]) =>
        session.send("Input.dispatchTouchEvent", { type, touchPoints: points.map(([x, y], id) => ({ x, y, id })) });
      await page.getByRole("button", { name: "New zone" }).tap();
      for (const [x, y] of [...CORNERS, CORNERS[0]!]) {
        await touch("touchStart", [await at(page, x, y)]);
        await touch("touchEnd", []);
      }
      const [zone] = await zonesOf(page);
      zone!.polygon.forEach((corner, i) => near(corner, CORNERS[i]!, 0.006));
      // A corner is dragged; the finger hides it, so the loupe stands away from it.
      const from = await at(page, ...zone!.polygon[2]!);
      const to = await at(page, 0.8, 0.9);
      await touch("touchStart", [from]);
      await touch("touchMove", [[from[0] - 20, from[1]]]);
      await touch("touchMove", [to]);
      const loupe = (await page.locator(".gw-loupe").boundingBox())!;
      assert.ok(to[1] < loupe.y || to[1] > loupe.y + loupe.height, `finger at ${to.join()}, loupe at ${JSON.stringify(loupe)}`);
      await touch("touchEnd", []);
      near((await zonesOf(page))[0]!.polygon[2]!, [0.8, 0.9], 0.01);
      assert.ok(!(await page.locator(".gw-loupe").isVisible()));
      // Two fingers zoom; nothing of the zones changes.
      const before = await zonesOf(page);
      const [a, b] = [await at(page, 0.4, 0.5), await at(page, 0.6, 0.5)];
      await touch("touchStart", [a]);
      await touch("touchStart", [a, b]);
      await touch("touchMove", [
        [a[0] - 60, a[1]],
        [b[0] + 60, b[1]],
      ]);
      await touch("touchEnd", []);
      assert.ok(await page.locator(".gw-stage.is-zoomed").isVisible());
      assert.deepEqual(await zonesOf(page), before);
    },
    { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 },
  );

  test("corners are inserted on edges and moved by mouse; undo and redo go over all of it", NONE, async (page) => {
    await drawByMouse(page);
    const drawn = await zonesOf(page);
    const drag = async (from: [number, number], to: [number, number]) => {
      await page.mouse.move(...from);
      await page.mouse.down();
      await page.mouse.move((from[0] + to[0]) / 2, (from[1] + to[1]) / 2);
      await page.mouse.move(...to);
      await page.mouse.up();
    };
    const edge = (await page.locator('[data-edge="0"] .dot').boundingBox())!;
    await drag([edge.x + edge.width / 2, edge.y + edge.height / 2], await at(page, 0.4, 0.1));
    const inserted = await zonesOf(page);
    assert.equal(inserted[0]!.polygon.length, 5);
    near(inserted[0]!.polygon[1]!, [0.4, 0.1], 0.002);
    await page.locator('[data-field="kind"]').selectOption("container");
    await page.locator('[data-field="id"]').fill("bins");
    await page.getByLabel("garbage").check();
    // The whole zone, by its middle.
    await drag(await at(page, 0.45, 0.5), await at(page, 0.5, 0.55));
    const last = await zonesOf(page);
    near(last[0]!.polygon[1]!, [0.45, 0.15], 0.003);
    assert.deepEqual([last[0]!.id, last[0]!.kind, last[0]!.rules], ["bins", "container", ["garbage"]]);
    // Six steps: draw, insert, kind, id, rule, move.
    const undo = page.getByRole("button", { name: "Undo" });
    for (let i = 0; i < 4; i += 1) await undo.click();
    assert.deepEqual(await zonesOf(page), inserted);
    await undo.click();
    assert.deepEqual(await zonesOf(page), drawn);
    await undo.click();
    assert.deepEqual(await zonesOf(page), []);
    assert.ok(await undo.isDisabled());
    for (let i = 0; i < 6; i += 1) await page.getByRole("button", { name: "Redo" }).click();
    assert.deepEqual(await zonesOf(page), last);
  });

  test("a corner snaps to another zone's corner exactly, and not with Control", SOME, async (page) => {
    await page.getByRole("button", { name: /^doorstep/ }).click();
    const target = ZONES[3]!.polygon[0]! as [number, number];
    const drop = async (control: boolean) => {
      const corner = (await page.locator('[data-corner="1"] .dot').boundingBox())!;
      const [x, y] = await at(page, ...target);
      await page.mouse.move(corner.x + corner.width / 2, corner.y + corner.height / 2);
      await page.mouse.down();
      if (control) await page.keyboard.down("Control");
      await page.mouse.move(x - 40, y - 40);
      await page.mouse.move(x + 5, y - 4);
      await page.mouse.up();
      if (control) await page.keyboard.up("Control");
      return (await zonesOf(page))[1]!.polygon[1]!;
    };
    const free = await drop(true);
    assert.notDeepEqual(free, target);
    near(free, target, 0.01);
    assert.deepEqual(await drop(false), target);
  });

  for (const [width, height] of [
    [1366, 900],
    [800, 500],
    [2200, 640],
  ] as const) {
    it(`a letterboxed picture gives the same fractions in a window of ${width} × ${height}`, async () => {
      const { browser, harness } = given();
      // 4:3 in a wide window is limited by height: bars at the sides.
      const path = NONE.replace("1280x720", "704x576");
      const { page } = await openPage(browser, harness.origin + path, {
        viewport: { width, height },
        deviceScaleFactor: width === 800 ? 1.5 : 1,
      });
      await loaded(page);
      const stage = (await page.locator(".gw-stage").boundingBox())!;
      const image = (await page.locator(".gw-stage image").first().boundingBox())!;
      if (width === 2200) assert.ok(stage.width > image.width + 100, "the picture has bars at its sides");
      assert.ok(Math.abs(image.width / image.height - 704 / 576) < 0.01, "the picture keeps its shape");
      await drawByMouse(page);
      const [zone] = await zonesOf(page);
      zone!.polygon.forEach((corner, i) => near(corner, CORNERS[i]!, 1.5 / image.width + 0.0001));
      // Zoomed in, the corner is still under the pixel that shows it.
      await page.keyboard.press("+");
      await page.keyboard.press("+");
      const mark = (await page.locator('[data-corner="2"] .dot').boundingBox())!;
      near([mark.x + mark.width / 2, mark.y + mark.height / 2], await at(page, ...zone!.polygon[2]!), 1.5);
      await page.context().close();
    });
  }

  test("faults are shown at the corners, in the list and in a live region", SOME, async (page) => {
    await page.getByRole("button", { name: /^stalls/ }).click();
    // Corner 2 is taken across the opposite edge.
    await page.locator('[data-corner="1"]').focus();
    for (let i = 0; i < 30; i += 1) await page.keyboard.press("Shift+ArrowLeft");
    assert.equal(await page.locator(".corner.is-wrong").count(), 4);
    await page.locator(".zone-messages", { hasText: "Edges 2–3 and 4–1 cross" }).waitFor();
    await page.locator('[role="status"]', { hasText: "cross" }).first().waitFor({ state: "attached" });
    await page.getByRole("button", { name: "Undo" }).click();
    assert.equal(await page.locator(".corner.is-wrong").count(), 0);
    await page.locator('[data-field="id"]').fill("bins");
    assert.equal(await page.locator('[data-field="id"]').getAttribute("aria-invalid"), "true");
    await page.locator(".zone-entry.is-open .zone-messages", { hasText: "Another zone has the id bins" }).waitFor();
    // With faults nothing is sent.
    await page.locator('[data-action="save"]').click();
    await page.getByText("Not saved: correct the faults first.").waitFor();
  });

  test("corners are edited by number in the list, and the value of the form follows", SOME, async (page) => {
    await page.getByRole("button", { name: /^bins/ }).click();
    await page.locator(".is-open .zone-corners summary").click();
    await page.getByLabel("Corner 1, x in percent").fill("50.25");
    await page.keyboard.press("Enter");
    assert.deepEqual((await zonesOf(page))[2]!.polygon[0], [0.5025, 0.72]);
    await page.getByRole("button", { name: "Remove corner 3" }).click();
    assert.equal((await zonesOf(page))[2]!.polygon.length, 3);
    assert.ok(await page.getByRole("button", { name: "Remove corner 3" }).isDisabled());
  });

  test("saving sends the revision, the zones and the token, and unsaved edits hold the page", SOME, async (page, harness) => {
    harness.received.length = 0;
    harness.json("PUT /api/zones", 200, { revision: "r2" });
    const changes = page.evaluate(
      () =>
        new Promise((resolve) =>
          document.querySelector("zone-editor")!.addEventListener("change", (e) => resolve((e as CustomEvent).detail), { once: true }),
        ),
    );
    await page.getByRole("button", { name: /^bins/ }).click();
    await page.locator('[data-field="kind"]').selectOption("exclude");
    assert.equal(((await changes) as { zones: ZoneJson[] }).zones[2]!.kind, "exclude");
    const held = () => page.evaluate(() => !window.dispatchEvent(new Event("beforeunload", { cancelable: true })));
    assert.ok(await held());
    await page.keyboard.press("Control+s");
    await page.getByText("Saved.", { exact: true }).waitFor();
    assert.ok(!(await held()));
    const [sent] = harness.received;
    assert.equal(sent!.headers["x-csrf-token"], "token-1");
    const body = sent!.body as { revision: string; zones: ZoneJson[] };
    assert.equal(body.revision, "r1");
    assert.deepEqual(body.zones, await zonesOf(page));
    // The next save names the new revision.
    await page.locator('[data-field="kind"]').selectOption("watch");
    const reply = page.waitForResponse("**/api/zones");
    await page.locator('[data-action="save"]').click();
    await reply;
    assert.equal((harness.received[1]!.body as { revision: string }).revision, "r2");
  });

  test("another operator's version is shown beside mine, and nothing is overwritten", SOME, async (page, harness) => {
    harness.received.length = 0;
    const theirs = ZONES.filter(({ id }) => id !== "stalls").map((zone) => (zone.id === "bins" ? { ...zone, kind: "exclude" } : zone));
    harness.json("PUT /api/zones", 409, { revision: "r9", by: "王工", at: "10:32", zones: theirs });
    await page.getByRole("button", { name: /^bins/ }).click();
    await page.locator('[data-field="id"]').focus();
    await page.locator('[data-field="kind"]').selectOption("shop");
    await page.locator('[data-action="save"]').click();
    const dialog = page.getByRole("dialog", { name: "Somebody else changed these zones" });
    await dialog.waitFor();
    await dialog.getByText("王工").waitFor();
    assert.equal(await dialog.locator("[data-side]").count(), 2);
    // Bins was changed by both: it must be decided. Stalls was removed by them alone: proposed.
    const apply = dialog.locator(".is-primary");
    assert.ok(await apply.isDisabled());
    assert.deepEqual(await axe(page), []);
    await dialog.getByRole("group", { name: "bins" }).getByLabel("Mine").check();
    await dialog.getByRole("group", { name: "stalls" }).getByLabel("Mine").check();
    await apply.click();
    const merged = await zonesOf(page);
    assert.equal(merged.find(({ id }) => id === "bins")!.kind, "shop");
    assert.ok(merged.some(({ id }) => id === "stalls"));
    harness.json("PUT /api/zones", 200, { revision: "r10" });
    await page.locator('[data-action="save"]').click();
    await page.getByText("Saved.", { exact: true }).waitFor();
    assert.equal((harness.received[1]!.body as { revision: string }).revision, "r9");
  });

  test("a refusal, a login that ended and a box that is gone leave the edits", SOME, async (page, harness) => {
    await page.getByRole("button", { name: /^bins/ }).click();
    await page.locator('[data-field="kind"]').selectOption("exclude");
    const before = await zonesOf(page);
    const save = page.locator('[data-action="save"]');
    harness.json("PUT /api/zones", 422, { faults: [{ path: "zones[2].kind", message: "unknown rule" }] });
    await save.click();
    await page.getByText("zones[2].kind: unknown rule").waitFor();
    harness.json("PUT /api/zones", 403, {});
    await save.click();
    await page.getByText("you are not logged in").waitFor();
    harness.on("PUT /api/zones", (_, response) => void response.destroy());
    await save.click();
    await page.getByText("not known yet whether the box has saved").waitFor();
    assert.deepEqual(await zonesOf(page), before);
    assert.ok(await save.isEnabled());
  });

  test("after a save without an answer, the box is asked until it says what it has", SOME, async (page, harness) => {
    const initial = await zonesOf(page);
    const save = page.locator('[data-action="save"]');
    harness.on("PUT /api/zones", (_, response) => void response.destroy());
    harness.on("GET /api/zones", (_, response) => void response.destroy());
    await page.getByRole("button", { name: /^bins/ }).click();
    await page.locator('[data-field="kind"]').selectOption("exclude");
    const edited = await zonesOf(page);
    await save.click();
    await page.getByText("not known yet whether the box has saved").waitFor();
    harness.json("GET /api/zones", 200, { revision: "r11", zones: initial });
    await page.getByText("your changes were not saved").waitFor();
    assert.deepEqual(await zonesOf(page), edited);
    harness.json("GET /api/zones", 503, {});
    await save.click();
    await page.getByText("not known yet whether the box has saved").waitFor();
    harness.json("GET /api/zones", 200, { revision: "r12", zones: edited });
    await page.getByText("your changes were saved").waitFor();
    await page.getByText("All changes saved").waitFor();
    assert.ok(await save.isDisabled());
  });

  test(
    "a form carries the zones, Enter in a field does not send it, and leaving with it is not held",
    `${SOME}&form`,
    async (page, harness) => {
      harness.received.length = 0;
      harness.on("POST /form", (_, response) => void response.writeHead(200, { "content-type": "text/html" }).end("<title>sent</title>"));
      await page.getByRole("button", { name: /^bins/ }).click();
      await page.locator('[data-field="id"]').fill("containers");
      await page.keyboard.press("Enter");
      assert.equal((await zonesOf(page))[2]!.id, "containers");
      const expected = await zonesOf(page);
      await Promise.all([page.waitForURL("**/form"), page.getByRole("button", { name: "Send" }).click()]);
      assert.equal(harness.received.length, 1);
      const sent = new URLSearchParams(String(harness.received[0]!.body));
      assert.deepEqual([...sent.keys()], ["zones"]);
      assert.deepEqual(JSON.parse(sent.get("zones")!), expected);
    },
  );

  test("a viewer sees zones and changes none", `${SOME}&readonly`, async (page) => {
    await page.getByRole("button", { name: /^bins/ }).click();
    assert.equal(await page.locator("[data-corner]").count(), 0);
    assert.ok(await page.locator('[data-field="kind"]').isDisabled());
    assert.equal(await page.getByRole("button", { name: "New zone" }).count(), 0);
    assert.equal(await page.locator('[data-action="save"]').count(), 0);
  });

  for (const theme of ["light", "dark"]) {
    for (const [device, options] of [
      ["a desktop", {}],
      ["a phone", { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true }],
    ] as const) {
      test(
        `axe finds nothing in the ${theme} theme on ${device}`,
        `/zone-editor?theme=${theme}&lang=zh`,
        async (page) => {
          await page.getByRole("button", { name: /^stalls/ }).click();
          await page.locator(".is-open summary").click();
          await page.locator('[data-field="id"]').fill("bins");
          assert.deepEqual(await axe(page), []);
          const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
          assert.equal(overflow, 0, "the page does not scroll sideways");
        },
        options,
      );
    }
  }
}
