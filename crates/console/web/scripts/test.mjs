// Bundles test/{unit,browser}/*.test.ts for this Node and runs them with node:test. Arguments: suites, by default both.
import { spawnSync } from "node:child_process";
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";
import { WEB } from "./bundle.mjs";

const out = join(WEB, ".test-build");
await rm(out, { recursive: true, force: true });
const suites = process.argv.slice(2);
const files = [];
for (const suite of suites.length > 0 ? suites : ["unit", "browser"]) {
  const folder = join(WEB, "test", suite);
  const names = (await readdir(folder)).filter((name) => name.endsWith(".test.ts")).sort();
  await mkdir(join(out, suite), { recursive: true });
  await build({
    absWorkingDir: WEB,
    entryPoints: names.map((name) => join(folder, name)),
    outdir: join(out, suite),
    outExtension: { ".js": ".mjs" },
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node18",
    packages: "external",
    sourcemap: "inline",
    logLevel: "warning",
  });
  files.push(...names.map((name) => join(out, suite, name.replace(/\.ts$/, ".mjs"))));
}
const { status } = spawnSync(process.execPath, ["--enable-source-maps", "--test", "--test-reporter=spec", ...files], {
  stdio: "inherit",
  cwd: WEB,
});
process.exit(status ?? 1);
