// Waiting for conditions outside the browser. The limits are reached by a hang only: the machine may be busy with a build.
import { setTimeout as sleep } from "node:timers/promises";

export const LIMIT_MS = Number(process.env["BROWSER_TEST_LIMIT_S"] ?? "180") * 1000;

/** What will not get better by waiting, such as a process that has ended. */
export class Hopeless extends Error {}

/** The first value of `probe` that is neither null, undefined nor false. What it throws counts as not yet, and is told with the failure. */
export async function waitFor<T>(
  what: string,
  probe: () => Promise<T | null | undefined | false> | T | null | undefined | false,
  limitMs = LIMIT_MS,
): Promise<T> {
  const until = Date.now() + limitMs;
  let last: unknown = null;
  for (;;) {
    try {
      const value = await probe();
      if (value !== null && value !== undefined && value !== false) return value;
      last = null;
    } catch (error) {
      if (error instanceof Hopeless) throw error;
      last = error;
    }
    if (Date.now() > until) throw new Error(`not after ${limitMs / 1000} s: ${what}${last === null ? "" : ` (${String(last)})`}`);
    await sleep(100);
  }
}
