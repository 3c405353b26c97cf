// People and programs of the box: users are added by the command line, and log in by the form; a program has a token.
import { execFileSync } from "node:child_process";
import type { BrowserContextOptions, Page } from "playwright-core";
import type { Stage } from "./stage";
import { GRIDWATCH } from "./tools";

/** The password of each user of the tests. */
const PASSWORD = "of-these-tests-only";

export function addUser(stage: Stage, name: string, role: "viewer" | "operator" | "admin"): void {
  users(stage, ["add", name, "--role", role], PASSWORD);
}

function users(stage: Stage, args: string[], input: string): string {
  return execFileSync(GRIDWATCH, ["users", ...args, "--config", stage.config], { input: `${input}\n`, encoding: "utf8" });
}

/** A page of a session of its own, in which the user has logged in. */
export async function logIn(stage: Stage, name: string, options: BrowserContextOptions = {}): Promise<Page> {
  const page = await stage.pages.goto("/login", options);
  await page.locator('input[name="user"]').fill(name);
  await page.locator('input[name="password"]').fill(PASSWORD);
  await page.locator("main form.card button").click();
  await page.locator(".who form").waitFor();
  return page;
}

/** A program that uses the JSON API. */
export class Program {
  private constructor(
    private readonly origin: string,
    private readonly token: string,
  ) {}

  static of(stage: Stage): Program {
    const token = users(stage, ["token", "add", "dashboard", "--role", "admin", "--days", "1"], "").trim();
    return new Program(stage.origin, token);
  }

  /** The text of a page of the console. */
  async page(path: string): Promise<string> {
    return (await fetch(this.origin + path, { headers: { authorization: `Bearer ${this.token}` } })).text();
  }

  /** The answer's body. Throws on an answer of 400 and above. */
  async send<T = unknown>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await fetch(`${this.origin}/api/v1/${path}`, {
      method,
      headers: { authorization: `Bearer ${this.token}`, ...(body === undefined ? {} : { "content-type": "application/json" }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return (text === "" ? null : JSON.parse(text)) as T;
  }
}
