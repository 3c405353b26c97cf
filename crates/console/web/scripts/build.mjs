// Writes the bundles to ../assets and removes stale ones. `--watch` is not offered: a build takes less than a second.
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { ASSETS, builtFiles, bundle } from "./bundle.mjs";

const outputs = await bundle();
for (const folder of ["js", "css"]) await mkdir(join(ASSETS, folder), { recursive: true });
for (const stale of (await builtFiles()).filter((path) => !outputs.has(path))) {
  await rm(join(ASSETS, stale));
  console.log(`removed ${stale}`);
}
for (const [path, text] of outputs) {
  await writeFile(join(ASSETS, path), text);
  console.log(`${path}: ${text.length} bytes, ${gzipSync(text).length} compressed`);
}
