// The whole system in a temporary folder: a broker, cameras, the daemon and a browser.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Broker, accepts, freePort } from "./broker";
import { demoConfig } from "./config";
import { Farm, type FarmOptions } from "./farm";
import { Pages } from "./pages";
import { OwnedProcess } from "./process";
import { GRIDWATCH } from "./tools";
import { Hopeless, waitFor } from "./wait";

export interface StageOptions {
  /** The cameras that are served; by default the demo's street-a. */
  readonly farm?: FarmOptions;
  /** Cameras of configs/demo.toml that the configuration begins with; by default none. The farm must serve them. */
  readonly cameras?: readonly string[];
  /** Last changes of the configuration. */
  readonly edit?: (text: string, farm: Farm) => string;
}

export class Stage {
  private daemon: OwnedProcess | null = null;
  private readonly expected: RegExp[] = [];

  private constructor(
    readonly dir: string,
    /** The configuration file. */
    readonly config: string,
    /** The address of the console, without a slash at its end. */
    readonly origin: string,
    readonly broker: Broker,
    readonly farm: Farm,
    readonly pages: Pages,
  ) {}

  static async start(dir: string, parts: (() => Promise<void>)[], options: StageOptions): Promise<Stage> {
    const farm = await Farm.start(options.farm ?? {}, join(dir, "farm.log"));
    parts.push(() => farm.stop());
    const broker = await Broker.start(dir);
    parts.push(() => broker.stop());
    const [telemetry, console] = [await freePort(), await freePort()];
    const state = join(dir, "state");
    mkdirSync(state);
    const cameras = new Map((options.cameras ?? []).map((name) => [name, farm.url(name)]));
    const text = demoConfig({ state, broker: broker.port, telemetry, console, cameras });
    const config = join(dir, "gridwatch.toml");
    writeFileSync(config, options.edit?.(text, farm) ?? text);
    const origin = `http://127.0.0.1:${console}`;
    const pages = await Pages.start(origin);
    parts.push(() => pages.stop());
    const stage = new Stage(dir, config, origin, broker, farm, pages);
    // Stopped before the broker and the cameras, and after the browser.
    parts.splice(2, 0, () => stage.stopDaemon());
    await stage.startDaemon();
    return stage;
  }

  /** The configuration file as it is now. */
  get configText(): string {
    return readFileSync(this.config, "utf8");
  }

  get stateDir(): string {
    return join(this.dir, "state");
  }

  /** Process id of the daemon. */
  get daemonPid(): number {
    if (!this.daemon) throw new Error("the daemon does not run");
    return this.daemon.pid;
  }

  /** Starts the daemon and waits until the console answers. */
  async startDaemon(): Promise<void> {
    const daemon = OwnedProcess.start(GRIDWATCH, ["run", "--config", this.config], join(this.dir, "daemon.log"));
    this.daemon = daemon;
    await waitFor("the console answers", async () => {
      if (!daemon.isRunning) throw new Hopeless("the daemon has ended");
      if (!(await accepts(Number(new URL(this.origin).port)))) return false;
      return (await fetch(`${this.origin}/`)).ok;
    });
  }

  async stopDaemon(): Promise<void> {
    await this.daemon?.stop();
  }

  /** As a power cut. */
  async killDaemon(): Promise<void> {
    await this.daemon?.kill("SIGKILL");
  }

  /** Errors in the daemon's log: something is lost, or an operator must act. */
  get daemonErrors(): string[] {
    const log = readFileSync(join(this.dir, "daemon.log"), "utf8");
    return log.split("\n").filter((line) => / ERROR |^error:|panicked/.test(line) && !this.expected.some((pattern) => pattern.test(line)));
  }

  /** An error in the daemon's log that the test provokes. */
  expectError(pattern: RegExp): void {
    this.expected.push(pattern);
  }
}

/** Runs a test on a stage. Whatever happens, everything that was started has ended afterwards; of a failed test, the ends of the logs and what the
 * pages showed are printed. */
export async function onStage(name: string, options: StageOptions, test: (stage: Stage) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "gridwatch-browser-"));
  const parts: (() => Promise<void>)[] = [];
  let stage: Stage | null = null;
  try {
    stage = await Stage.start(dir, parts, options);
    await test(stage);
    stage.pages.check();
    if (stage.daemonErrors.length > 0) throw new Error(`in the daemon's log: ${stage.daemonErrors.join("\n")}`);
  } catch (error) {
    const log = (file: string) => {
      try {
        return readFileSync(join(dir, file), "utf8").trimEnd().split("\n").slice(-60).join("\n");
      } catch {
        return "none";
      }
    };
    console.error(`---- ${name} failed: ${String(error)}\n${(await stage?.pages.describe(name).catch(String)) ?? ""}`);
    for (const file of ["daemon.log", "farm.log", "mosquitto.log"]) console.error(`---- ${file}\n${log(file)}`);
    throw error;
  } finally {
    for (const stop of parts.reverse()) await stop().catch((error: unknown) => console.error(error));
    rmSync(dir, { recursive: true, force: true });
  }
}
