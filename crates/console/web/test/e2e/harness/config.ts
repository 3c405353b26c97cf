// The configuration that a test starts with: configs/demo.toml, whose dwell times are seconds, as text with its comments.
import { readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { ROOT } from "./tools";

const DEMO = join(ROOT, "configs", "demo.toml");

export interface ConfigOptions {
  readonly state: string;
  readonly broker: number;
  readonly telemetry: number;
  readonly console: number;
  /** Cameras of the demo that are kept, with the URLs at which they are served. */
  readonly cameras: ReadonlyMap<string, string>;
}

/** The text of the configuration. Throws if configs/demo.toml does not have what is replaced. */
export function demoConfig(options: ConfigOptions): string {
  const [rest = "", ...blocks] = readFileSync(DEMO, "utf8").split(/^(?=\[\[cameras\]\]$)/m);
  // The comment above a camera belongs to it.
  const camera = (block: string) => block.replace(/\n(#.*\n)+$/, "\n");
  let text = rest.replace(/\n(#.*\n)+$/, "\n");
  text = replaced(text, /(state_dir = )"[^"]*"/, `$1"${options.state}"`);
  text = replaced(text, /(url = )"mqtt:[^"]*"/, `$1"mqtt://127.0.0.1:${options.broker}"`);
  text = replaced(
    text,
    /(\[telemetry\]\nlisten = )"[^"]*"(.*\n)filter = "warn"/,
    `$1"127.0.0.1:${options.telemetry}"$2filter = "info"\n\n[console]\nlisten = "127.0.0.1:${options.console}"`,
  );
  const kept = blocks.filter((block) => options.cameras.has(id(block)));
  for (const block of kept) text += replaced(camera(block), /(\nurl = )"[^"]*"/, `$1"${options.cameras.get(id(block))!}"`);
  // Paths start at configs/.
  const absolute = (path: string) => resolve(dirname(DEMO), path);
  return text
    .replace(/^((?:file|categories|dir|approved_signs) = )"([^"]+)"/gm, (_, key: string, path: string) => `${key}"${absolute(path)}"`)
    .replace(/"(\.\.\/models\/[^"]+)"/g, (_, path: string) => `"${absolute(path)}"`)
    .replace(/^#:schema .*\n/m, "");
}

function id(block: string): string {
  return block.match(/^id = "([^"]+)"/m)?.[1] ?? "";
}

function replaced(text: string, pattern: RegExp, by: string): string {
  if (!pattern.test(text)) throw new Error(`configs/demo.toml has nothing like ${pattern}`);
  return text.replace(pattern, by);
}
