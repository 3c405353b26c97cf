// Makes the screenshots of docs/console.md in docs/images/console. Needs the programs of `cargo build -p gridwatch -p gridwatch-lab`.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { build } from "esbuild";
import { WEB } from "./bundle.mjs";

const outfile = join(WEB, ".test-build", "console-shots.mjs");
await build({
  absWorkingDir: WEB,
  entryPoints: ["test/e2e/shots.ts"],
  outfile,
  bundle: true,
  platform: "node",
  format: "esm",
  packages: "external",
  sourcemap: "inline",
  logLevel: "warning",
});
process.exit(spawnSync(process.execPath, ["--enable-source-maps", outfile], { stdio: "inherit", cwd: WEB }).status ?? 1);
