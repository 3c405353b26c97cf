// What the tests of the whole system need on this machine, and where it is.
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { skipReason as withoutChromium } from "../../harness/browser";
import { WEB } from "../../harness/server";

/** The clone. */
export const ROOT = join(WEB, "..", "..", "..");

const built = (name: string) => join(ROOT, "target", "debug", name);

/** The programs of the workspace. The Rust test that runs these tests names those that belong to it. */
export const GRIDWATCH = process.env["GRIDWATCH_PROGRAM"] ?? built("gridwatch");
export const LAB = process.env["GRIDWATCH_LAB_PROGRAM"] ?? built("gridwatch-lab");

/** A program on the path, or where Debian installs servers. */
function program(name: string): string | null {
  const folders = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/usr/local/sbin"];
  return folders.map((folder) => join(folder, name)).find((file) => existsSync(file)) ?? null;
}

export const MOSQUITTO = program("mosquitto");
export const MOSQUITTO_SUB = program("mosquitto_sub");

/** Why these tests cannot run here; `false` if they can. */
export function skipReason(): string | false {
  const reason = withoutChromium();
  if (reason) return reason;
  if (!MOSQUITTO || !MOSQUITTO_SUB) return "mosquitto or mosquitto_sub is missing: run test/setup.sh";
  const missing = [GRIDWATCH, LAB].find((file) => !existsSync(file));
  return missing ? `${missing} is missing: cargo build -p gridwatch -p gridwatch-lab` : false;
}
