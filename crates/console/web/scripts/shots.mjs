// Makes screenshots of the harness pages for people to look at. Arguments: part of the names of those wanted.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { build } from "esbuild";
import { WEB } from "./bundle.mjs";

const outfile = join(WEB, ".test-build", "shots.mjs");
await build({
  absWorkingDir: WEB,
  entryPoints: ["test/browser/shots.ts"],
  outfile,
  bundle: true,
  platform: "node",
  format: "esm",
  packages: "external",
  logLevel: "warning",
});
process.exit(spawnSync(process.execPath, [outfile, ...process.argv.slice(2)], { stdio: "inherit", cwd: WEB }).status ?? 1);
