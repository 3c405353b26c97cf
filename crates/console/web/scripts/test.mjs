// Bundles test/{unit,browser,e2e}/*.test.ts for this Node and runs them with node:test. Arguments: suites, by default `unit browser`; or single files of
// them, as in `e2e/whole-path`. The suite `e2e` runs the daemon and needs it built.
import { spawnSync } from "node:child_process";
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";
import { WEB } from "./bundle.mjs";

const wanted = process.argv.slice(2);
const files = [];
for (const suite of wanted.length > 0 ? wanted : ["unit", "browser"]) {
  const [folder, only] = suite.split("/");
  const all = (await readdir(join(WEB, "test", folder))).filter((name) => name.endsWith(".test.ts")).sort();
  const names = only === undefined ? all : all.filter((name) => name === `${only}.test.ts`);
  if (names.length === 0) {
    console.error(`test/${suite}: no such test`);
    process.exit(1);
  }
  // A folder for each, as several runs may be going on.
  const out = join(WEB, ".test-build", suite);
  await rm(out, { recursive: true, force: true });
  await mkdir(out, { recursive: true });
  await build({
    absWorkingDir: WEB,
    entryPoints: names.map((name) => join(WEB, "test", folder, name)),
    outdir: out,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node18",
    packages: "external",
    sourcemap: "inline",
    logLevel: "warning",
  });
  files.push(...names.map((name) => join(out, name.replace(/\.ts$/, ".mjs"))));
}
const options = ["--enable-source-maps", "--test", "--test-reporter=spec"];
// A daemon decodes and runs models on all cores.
if (wanted.some((suite) => suite.startsWith("e2e"))) options.push("--test-concurrency=1");
const { status } = spawnSync(process.execPath, [...options, ...files], {
  stdio: "inherit",
  cwd: WEB,
});
process.exit(status ?? 1);
