// A box with something to see, and the way to each of its pages.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import type { Page } from "playwright-core";
import type { CaseMessage } from "./harness/broker";
import { Program, addUser } from "./harness/people";
import type { Stage, StageOptions } from "./harness/stage";
import { waitFor } from "./harness/wait";

/** The demo's cameras; a box with hours, and with a role that sees pictures without masks. */
export const TOUR_STAGE: StageOptions = {
  farm: { clips: ["street-a", "street-b", "square-c"] },
  cameras: ["street-a", "street-b", "square-c"],
  edit: (text) => `${text.replace(/(\[console\]\nlisten = .*)/, '$1\nunmasked_roles = ["admin"]')}
# Vendors may stand before the gate on market days.
[[schedules]]
id = "market"
windows = [
  { days = ["mon", "wed", "fri"], from = "06:00", to = "09:30" },
  { days = ["sat", "sun"], from = "05:30", to = "11:00" },
  { days = ["holiday"], from = "22:00", to = "02:00", season = "05-01..10-07" },
]

[[schedules]]
id = "patrol"
windows = [{ days = ["workday"], from = "08:00", to = "18:00" }]
`,
};

/** What a tour goes to. */
export interface Sights {
  /** The cases, the newest first. */
  readonly cases: readonly CaseMessage[];
  /** The URL of a camera that can be added. */
  readonly camera: string;
}

/** Waits until the demo's three cases are filed, and does what people do on a box: reviews, an edited zone, a looked-at camera. Afterwards there are users,
 * wang with the role admin and li with operator. */
export async function furnish(stage: Stage): Promise<Sights> {
  for (const category of ["0102", "0202", "0501"]) await stage.broker.filed(category);
  const { cases } = stage.broker;
  addUser(stage, "wang", "admin");
  addUser(stage, "li", "operator");
  const program = Program.of(stage);
  const of = (category: string) => cases.find((filed) => filed.category_code === category)!.case_id;
  await program.send("PUT", `cases/${of("0102")}/review`, { verdict: "true" });
  await program.send("PUT", `cases/${of("0202")}/review`, { verdict: "true" });
  const { revision, zones } = await program.send<{ revision: string; zones: { id: string; polygon: number[][] }[] }>("GET", "views/street-b/zones");
  assert.ok(zones.length > 0);
  const kerb = {
    id: "kerb",
    kind: "permitted",
    polygon: [[0.02, 0.84], [0.3, 0.8], [0.3, 0.98], [0.02, 0.98]],
    rules: ["vendor"],
    schedule: "market",
  };
  await program.send("PUT", "views/street-b/zones", { revision, zones: [...zones, kerb] });
  await waitFor("a candidate that was not filed is recorded", async () => {
    const { candidates } = await program.send<{ candidates?: unknown[] }>("GET", "candidates");
    return (candidates?.length ?? 0) > 0;
  });
  // Fewer looks leave the box time for the pages. Until the next one, no camera has a clear view.
  stage.expectError(/Not ready: .*no clear look yet/);
  const seldom = stage.configText.replace(/^look_every = .*/gm, 'look_every = "10s"').replace(/^(max_gap|forget_after) = "[^"]*"/gm, '$1 = "5m"');
  const running = await program.send<{ sha256: string }>("GET", "configuration");
  writeFileSync(stage.config, seldom);
  await waitFor("the box looks less often", async () => (await program.send<{ sha256: string }>("GET", "configuration")).sha256 !== running.sha256);
  const changed = Date.now();
  await waitFor("each camera has been looked at since", async () => {
    const views = await program.send<{ look?: { at: string } }[]>("GET", "views");
    return views.every(({ look }) => look !== undefined && Date.parse(look.at) > changed);
  });
  await waitFor("problems are filed again", async () => (await program.page("/")).includes('class="banner good"'));
  return { cases: [...cases].reverse(), camera: stage.farm.url("street-b") };
}

export interface Visit {
  readonly name: string;
  /** Of the routes of the console. */
  readonly route: string;
  /** Where it is; by default at its route. */
  readonly path?: string;
  /** What an operator does there, before it is looked at. */
  readonly prepare?: (page: Page) => Promise<void>;
  /** The status of its answer; by default 200. */
  readonly status?: number;
  /** Seen without having logged in. */
  readonly isPublic?: boolean;
}

/** Every page, some of them in several states. */
export function visits({ cases, camera }: Sights): Visit[] {
  const [newest] = cases;
  const garbage = cases.find(({ category_code }) => category_code === "0102")!;
  const view = (route: string, camera = "street-a") => ({ route: `/cameras/{view}${route}`, path: `/cameras/${camera}${route}` });
  return [
    { name: "login", route: "/login", isPublic: true },
    { name: "login-refused", route: "/login", isPublic: true, prepare: refusedLogin },
    { name: "wall", route: "/" },
    { name: "camera", ...view("") },
    { name: "zones", ...view("/zones") },
    { name: "zone-chosen", ...view("/zones"), prepare: chooseZone },
    { name: "calibration", ...view("/calibration") },
    { name: "signs", ...view("/signs") },
    { name: "view", ...view("/aim") },
    { name: "presets", ...view("/presets") },
    // A fixed camera has none.
    { name: "remove-preset", ...view("/preset/remove"), status: 404 },
    { name: "looks", ...view("/looks", "square-c") },
    { name: "remove-camera", ...view("/remove") },
    { name: "add-camera", route: "/cameras/add" },
    { name: "add-camera-search", route: "/cameras/add", prepare: searchCameras },
    { name: "add-camera-probed", route: "/cameras/add/{id}", path: "/cameras/add", prepare: (page) => probe(page, camera) },
    { name: "cases", route: "/cases" },
    { name: "cases-none", route: "/cases", path: "/cases?camera=street-b&category=0501" },
    { name: "cases-timeline", route: "/cases", path: "/cases?view=timeline" },
    { name: "map", route: "/cases/map" },
    { name: "case", route: "/cases/{id}", path: `/cases/${garbage.case_id}`, prepare: showJudgement },
    { name: "case-checked", route: "/cases/{id}", path: `/cases/${newest!.case_id}?check=1` },
    { name: "not-filed", route: "/candidates", path: "/candidates?unstarted=1" },
    { name: "thresholds", route: "/thresholds" },
    { name: "thresholds-tried", route: "/thresholds", path: "/thresholds?rule=garbage&days=7", prepare: tryThreshold },
    { name: "review", route: "/review" },
    { name: "permits", route: "/permits" },
    { name: "permit-new", route: "/permits/new" },
    { name: "permit", route: "/permits/{view}/{id}", path: "/permits/street-b/kerb" },
    { name: "permit-proposals", route: "/permits/proposals" },
    { name: "hours", route: "/hours" },
    { name: "configuration", route: "/configuration" },
    { name: "configuration-changes", route: "/configuration/changes", path: "/configuration/changes?from=1&to=current" },
    { name: "configuration-file", route: "/configuration/file", path: "/configuration/file?file=gridwatch.toml" },
    { name: "configuration-faults", route: "/configuration/file", path: "/configuration/file?file=gridwatch.toml", prepare: checkFaultyText },
    { name: "system", route: "/system" },
    { name: "models", route: "/system/models", prepare: (page) => page.locator(".model summary").first().click() },
    { name: "outbox", route: "/system/outbox" },
    { name: "metrics", route: "/system/metrics" },
    { name: "log", route: "/system/log" },
    { name: "audit", route: "/system/audit" },
    { name: "support", route: "/system/support" },
    { name: "users", route: "/users" },
    { name: "account", route: "/account" },
    { name: "no-such-page", route: "/cameras/{view}", path: "/cameras/nowhere", status: 404 },
  ];
}

/** Routes that are no pages: where what they answer is shown. */
export const PARTS: Readonly<Record<string, string>> = {
  "/assets/{version}/{*name}": "all pages",
  "/cameras/add/search/{id}": "add-camera-search",
  "/cameras/add/{id}/picture": "add-camera-probed",
  "/cameras/add/{id}/progress": "add-camera-probed",
  "/cameras/{view}/aim/learned": "view",
  "/cameras/{view}/events": "camera",
  "/cameras/{view}/live.mp4": "camera",
  "/cameras/{view}/look": "camera",
  "/cameras/{view}/picture": "camera",
  "/cameras/{view}/thumbnail": "wall",
  "/cameras/{view}/zones/layers": "zones",
  "/cameras/{view}/zones/picture": "zones",
  "/cameras/{view}/zones/saved": "zones",
  "/cases/map/basemap": "map",
  "/cases/{id}/candidate": "case",
  "/cases/{id}/evidence/{item}": "case",
  "/system/log/lines": "log",
  "/system/metrics/now": "metrics",
  "/system/models/{id}/status": "models",
  "/thresholds/curve": "thresholds",
  "/wall": "wall",
  "/wall/events": "wall",
};

/** Goes to a page and waits until it shows what it is about. */
export async function visit(page: Page, origin: string, { path, route, prepare, status = 200 }: Visit): Promise<void> {
  // Not until all is loaded: looks follow each other with their pictures.
  const response = await page.goto(origin + (path ?? route), { waitUntil: "domcontentloaded" });
  assert.equal(response?.status(), status, path ?? route);
  await settled(page);
  if (prepare) {
    await prepare(page);
    await settled(page);
  }
}

/** Nothing is being loaded any more that a person would wait for. */
export async function settled(page: Page): Promise<void> {
  await page.waitForFunction(() => {
    const isLoading = document.querySelector('main [role="status"] progress') !== null || document.querySelector(".htmx-request") !== null;
    const isInSight = (image: HTMLImageElement) => image.getBoundingClientRect().top < window.innerHeight;
    const isComplete = [...document.images].every((image) => image.complete || !isInSight(image));
    // The picture of an editor is an SVG image, whose text says so while it loads.
    const isUpgraded = [...document.querySelectorAll("zone-editor, ground-calibration, week-grid, sign-editor")].every((element) => element.children.length > 1);
    return document.readyState !== "loading" && !isLoading && isComplete && isUpgraded;
  });
}

async function refusedLogin(page: Page): Promise<void> {
  await page.locator('input[name="user"]').fill("nobody");
  await page.locator('input[name="password"]').fill("not-a-password");
  await page.locator("main form.card button").click();
  await page.locator("main .banner.bad").waitFor();
}

/** A machine without a network has nothing to search. */
async function searchCameras(page: Page): Promise<void> {
  const search = page.locator('form[action$="/cameras/add/search"] button');
  if ((await search.count()) === 0) return;
  await search.click();
  await page.locator("#found:not([hx-get])").waitFor();
}

async function probe(page: Page, camera: string): Promise<void> {
  const start = page.url();
  for (let tries = 0; tries < 5; tries += 1) {
    await page.goto(start);
    await page.locator('input[name="target"]').fill(camera);
    await page.locator('form[action$="/probe"] button.primary').click();
    await page.locator("form#save").waitFor();
    await page.locator("#probe:not([hx-get])").waitFor();
    // The form comes with the probe's result; the picture may still be in the making.
    await page.locator("#picture:not([hx-get])").waitFor();
    // A box that is busy with other pictures says so; then it is asked again.
    if ((await page.locator("#probe figure img").count()) > 0) return;
  }
  throw new Error("no picture of the camera came");
}

async function chooseZone(page: Page): Promise<void> {
  await page.locator(".gw-stage image[href]").first().waitFor();
  await page.locator("zone-editor button", { hasText: "pavement" }).first().click();
  await page.locator('[data-field="id"]').waitFor();
}

async function showJudgement(page: Page): Promise<void> {
  await page.locator("#candidate-h").scrollIntoViewIfNeeded();
  await page.locator(".candidate").waitFor();
}

async function tryThreshold(page: Page): Promise<void> {
  await page.locator("#answer table").first().waitFor();
  const answer = page.waitForResponse((response) => response.url().includes("start_score="));
  const field = page.locator('input[name="start_score"]').last();
  await field.fill("0.9");
  await field.press("Enter");
  await answer;
  await page.locator(".writes").waitFor();
}

async function checkFaultyText(page: Page): Promise<void> {
  const text = page.locator("#text");
  await text.fill((await text.inputValue()).replace('dwell = "12s"', 'dwell = "soon"'));
  await page.locator('button[value="check"]').click();
  await page.locator(".faults li").first().waitFor();
}
