// Fails if the committed bundles differ from a rebuild, or contain what the Content-Security-Policy refuses.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { ASSETS, builtFiles, bundle } from "./bundle.mjs";

/** Refused under `script-src 'self'; style-src 'self'`, or fetched from elsewhere. */
const REFUSED = [
  [/\beval\(|new Function\(/, "evaluates text as code"],
  [/setAttribute\(\s*["'`]style["'`]/, "sets a style attribute; use element.style"],
  [/["'`]https?:\/\/(?!www\.w3\.org\/)/, "names another host"],
];

const outputs = await bundle();
const faults = [];
for (const [path, text] of outputs) {
  const committed = await readFile(join(ASSETS, path), "utf8").catch(() => null);
  if (committed === null) faults.push(`assets/${path}: missing; run npm run build`);
  else if (committed !== text) faults.push(`assets/${path}: differs from a rebuild; run npm run build`);
  for (const [pattern, what] of REFUSED) {
    if (pattern.test(text)) faults.push(`assets/${path}: ${what}`);
  }
}
for (const path of await builtFiles()) {
  if (!outputs.has(path)) faults.push(`assets/${path}: has no entry point; run npm run build`);
}
for (const fault of faults) console.error(fault);
if (faults.length > 0) process.exit(1);
console.log(`${outputs.size} files equal a rebuild`);
