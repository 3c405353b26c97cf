// Pages that use each module as a page of the console does.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { groundOf } from "./camera";

const POINT_PLACES: [number, number][] = [
  [0.05, 0.95],
  [0.93, 0.96],
  [0.8, 0.74],
  [0.22, 0.73],
  [0.5, 0.85],
  [0.35, 0.78],
];

type Page = (query: URLSearchParams) => Promise<string>;

/** JSON that may stand in a script element: it holds no `<`. */
export function embedded(value: unknown): string {
  return JSON.stringify(value).replace(/</g, "\\u003c");
}

async function page(query: URLSearchParams, name: string, body: string): Promise<string> {
  const language = query.get("lang") ?? "en";
  const theme = query.get("theme");
  const dictionary: unknown = JSON.parse(await readFile(join(process.cwd(), "i18n", `${language === "zh" ? "zh" : "en"}.json`), "utf8"));
  return `<!doctype html>
<html lang="${language === "zh" ? "zh-CN" : "en"}"${theme ? ` data-theme="${theme === "dark" ? "dark" : "light"}"` : ""}>
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${name}</title>

<link rel="stylesheet" href="/harness.css"><link rel="stylesheet" href="/css/${name}.css">
<script type="application/json" id="i18n">${embedded(dictionary)}</script>
<script src="/js/${name}.js" defer></script>
</head>
<body><main><h1>${name}</h1><h2>gate-east</h2>
${body}
</main></body></html>`;
}

export const RULES = [
  { id: "garbage", label: "garbage 暴露垃圾" },
  { id: "vendor", label: "vendor 无照经营游商" },
  { id: "sign", label: "sign 违规悬挂标语" },
];
export const SCHEDULES = [
  { id: "market", label: "market" },
  { id: "collection", label: "collection" },
];

/** Zones on the demo's street. */
export const ZONES = [
  {
    id: "pavement",
    kind: "watch",
    polygon: [
      [0, 0.72],
      [0.99, 0.7],
      [1, 1],
      [0, 1],
    ],
  },
  {
    id: "doorstep",
    kind: "exclude",
    polygon: [
      [0.04, 0.7],
      [0.22, 0.7],
      [0.22, 0.78],
      [0.03, 0.78],
    ],
    rules: ["garbage"],
  },
  {
    id: "bins",
    kind: "container",
    polygon: [
      [0.56, 0.72],
      [0.82, 0.73],
      [0.82, 0.9],
      [0.58, 0.9],
    ],
  },
  {
    id: "stalls",
    kind: "permitted",
    polygon: [
      [0.3, 0.76],
      [0.5, 0.76],
      [0.52, 0.95],
      [0.27, 0.95],
    ],
    rules: ["vendor"],
    schedule: "market",
  },
  {
    id: "window",
    kind: "privacy",
    polygon: [
      [0.77, 0.04],
      [0.88, 0.04],
      [0.88, 0.56],
      [0.78, 0.55],
    ],
  },
];

/** Foot points around two places, as a week of looks leaves them; the same in every run. */
function footPoints(): number[][] {
  let seed = 7;
  const random = () => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return seed / 2147483648;
  };
  const around = (x: number, y: number, spread: number) => {
    const radius = Math.sqrt(-2 * Math.log(random() + 1e-9)) * spread;
    const angle = random() * 2 * Math.PI;
    return [x + radius * Math.cos(angle), Math.min(0.999, y + radius * Math.sin(angle) * 0.5)];
  };
  return Array.from({ length: 3000 }, (_, i) =>
    i % 3 === 0 ? around(0.68, 0.84, 0.06) : i % 3 === 1 ? around(0.4, 0.86, 0.09) : around(0.5, 0.9, 0.25),
  )
    .filter((p) => p.every((c) => c! >= 0 && c! <= 1))
    .map((p) => p.map((c) => Math.round(c * 1e4) / 1e4));
}

export const LAYERS = {
  foot_points: footPoints(),
  cases: [
    { id: "c1", x: 0.66, y: 0.86, label: "暴露垃圾 2026-11-24 08:12" },
    { id: "c2", x: 0.7, y: 0.83, label: "暴露垃圾 2026-11-26 19:40" },
    { id: "c3", x: 0.42, y: 0.9, label: "无照经营游商 2026-11-27 17:05" },
  ],
};

export const POINTS = POINT_PLACES.map(([x, y], index) => {
  const [lon, lat] = groundOf([x, y]);
  // The last one is 3 m off, as if the wrong kerb had been taken.
  const wrong = index === POINT_PLACES.length - 1 ? 3 / 111_000 : 0;
  return { picture: [x, y], ground: [Number(lon.toFixed(7)), Number((lat + wrong).toFixed(7))] };
});

export const PAGES = new Map<string, Page>([
  [
    "/zone-editor",
    (query) => {
      const picture = query.get("picture") ?? "/still.png";
      const zones = query.get("zones") === "none" ? [] : ZONES;
      const layers = query.get("layers") === "none" ? {} : LAYERS;
      const data = { picture, revision: "r1", zones, rules: RULES, schedules: SCHEDULES, ...layers };
      const readonly = query.has("readonly") ? " readonly" : "";
      const [open, close] = query.has("form") ? ['<form method="post" action="/form">', "<button>Send</button></form>"] : ["", ""];
      return page(
        query,
        "zone-editor",
        `${open}<zone-editor name="zones" save-url="/api/zones" csrf="token-1"${readonly}>
<script type="application/json">${embedded(data)}</script>
<img src="${picture}" alt="">
</zone-editor>${close}`,
      );
    },
  ],
  [
    "/week-grid",
    (query) => {
      const windows = [
        { days: ["mon-fri"], from: "06:00", to: "09:30" },
        { days: ["workday"], from: "06:00", to: "08:30" },
        { days: ["restday"], from: "06:00", to: "11:00" },
        { days: ["fri-sat"], from: "22:00", to: "02:00" },
        { days: ["fri-sat"], from: "18:00", to: "02:00", season: "05-01..10-07" },
        { from: "12:15", to: "13:00" },
      ];
      const data = { windows: query.get("windows") === "none" ? [] : windows };
      const readonly = query.has("readonly") ? " readonly" : "";
      return page(
        query,
        "week-grid",
        `<week-grid name="windows"${readonly}><script type="application/json">${embedded(data)}</script></week-grid>`,
      );
    },
  ],
  [
    "/sign-editor",
    (query) => {
      const data = {
        picture: query.get("picture") ?? "/still.png",
        today: "2026-11-30",
        labels: [
          { id: "banner", label: "横幅 banner" },
          { id: "sign", label: "招牌 sign" },
        ],
        signs: [
          { index: 0, box: [0.1, 0.2, 0.3, 0.3], label: "sign", note: "药店", permit: "2024-118", valid_until: "2027-06-30" },
          { index: 1, box: [0.35, 0.2, 0.5, 0.3], label: "sign", note: "书店", valid_until: "2026-10-31" },
        ],
        found: [
          { box: [0.11, 0.2, 0.3, 0.3], label: "sign", score: 0.93, approved: true },
          { box: [0.6, 0.4, 0.85, 0.5], label: "banner", score: 0.78, approved: false },
        ],
      };
      const readonly = query.has("readonly") ? " readonly" : "";
      return page(
        query,
        "sign-editor",
        `<sign-editor name="signs"${readonly}><script type="application/json">${embedded(data)}</script></sign-editor>`,
      );
    },
  ],
  [
    "/calibration",
    (query) => {
      const data = {
        picture: query.get("picture") ?? "/still.png",
        crs: "EPSG:4490",
        max_uncertainty_m: 15,
        points: query.get("points") === "none" ? [] : POINTS,
      };
      return page(
        query,
        "calibration",
        `<ground-calibration name="points" fit-url="/api/fit" csrf="token-1"><script type="application/json">${embedded(data)}</script></ground-calibration>`,
      );
    },
  ],
  [
    "/live-player",
    (query) => {
      const codecs = query.get("codecs");
      return page(
        query,
        "live-player",
        `<live-player src="/live.mp4" look-every="1"${codecs ? ` codecs="${codecs.replace(/[^\w.]/g, "")}"` : ""}><img src="/still.png" alt="Newest look of gate-east"></live-player>`,
      );
    },
  ],
  [
    "/before-after",
    (query) =>
      page(
        query,
        "before-after",
        `<before-after><img src="/still.png" alt="Heap of bags at the gate" data-label="06:10"><img src="/pattern/1280x720" alt="The gate without bags" data-label="09:42"></before-after>`,
      ),
  ],
]);
