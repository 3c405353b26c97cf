// The texts of the console, read from where they stand, so that a test finds a button by what an operator reads on it, in both languages.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { WEB } from "../../harness/server";

export type Language = "zh" | "en";

/** A text by its file in `src/i18n` of the crates `console` and `web` and its name, such as `add.title`; or by its key in `web/i18n`, such as `zone.new`. */
export type Texts = (key: string, values?: Readonly<Record<string, string | number>>) => string;

export function textsOf(language: Language): Texts {
  const web = JSON.parse(readFileSync(join(WEB, "i18n", `${language}.json`), "utf8")) as Record<string, string>;
  const files = new Map<string, Map<string, string>>();
  const ofFile = (file: string) => {
    let found = files.get(file);
    if (!found) {
      found = new Map();
      for (const crate of ["console", "web"]) {
        const path = join(WEB, "..", "..", crate, "src", "i18n", `${file}.rs`);
        if (!existsSync(path)) continue;
        const source = readFileSync(path, "utf8");
        for (const [, name, zh, en] of source.matchAll(/^ +(\w+): ("(?:[^"\\]|\\.)*") \/ ("(?:[^"\\]|\\.)*"),$/gm)) {
          found.set(name!, JSON.parse(language === "zh" ? zh! : en!) as string);
        }
      }
      files.set(file, found);
    }
    return found;
  };
  return (key, values = {}) => {
    const [file = "", name = ""] = key.split(".");
    const text = web[key] ?? ofFile(file).get(name);
    if (text === undefined) throw new Error(`the console has no text ${key}`);
    return text.replace(/\{(\w+)\}/g, (place, value: string) => String(values[value] ?? place));
  };
}
