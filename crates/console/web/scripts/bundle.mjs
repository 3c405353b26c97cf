// Bundles each entry point of src/entries into one file. `build.mjs` writes the files, `check.mjs` compares them.
import { readdir, readFile } from "node:fs/promises";
import { dirname, join, parse } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

export const WEB = dirname(dirname(fileURLToPath(import.meta.url)));
export const ASSETS = join(dirname(WEB), "assets");

/** First bytes of every file that this build writes; what has it and no entry point is stale. */
export const BANNER = "/*! gridwatch console, Apache-2.0; built from crates/console/web, do not edit */";

/** The outputs as a map of path below `assets/` (`js/zone-editor.js`) to contents. */
export async function bundle() {
  const entries = join(WEB, "src", "entries");
  const names = (await readdir(entries)).filter((name) => /\.(ts|css)$/.test(name)).sort();
  const result = await build({
    absWorkingDir: WEB,
    entryPoints: names.map((name) => join(entries, name)),
    outdir: ASSETS,
    entryNames: "[ext]/[name]",
    bundle: true,
    write: false,
    minify: true,
    format: "iife",
    target: ["es2020"],
    charset: "utf8",
    legalComments: "inline",
    banner: { js: BANNER, css: BANNER },
    logLevel: "warning",
  });
  const outputs = new Map();
  for (const file of result.outputFiles) {
    const { name, ext } = parse(file.path);
    outputs.set(`${ext.slice(1)}/${name}${ext}`, file.text);
  }
  return outputs;
}

/** Paths below `assets/` of files on disk that carry the banner. */
export async function builtFiles() {
  const found = [];
  for (const folder of ["js", "css"]) {
    const names = await readdir(join(ASSETS, folder)).catch(() => []);
    for (const name of names.sort()) {
      const text = await readFile(join(ASSETS, folder, name), "utf8").catch(() => "");
      if (text.startsWith(BANNER)) found.push(`${folder}/${name}`);
    }
  }
  return found;
}
