// Cameras: clips that `gridwatch-lab cameras` serves over RTSP, in a process of their own.
import { join } from "node:path";
import { OwnedProcess } from "./process";
import { LAB, ROOT } from "./tools";
import { Hopeless, waitFor } from "./wait";

export interface FarmOptions {
  /** Names of clips of the demo, or paths; by default `street-a`. */
  readonly clips?: readonly string[];
  /** Serves each clip so many times, as NAME-1, NAME-2 … */
  readonly count?: number;
  readonly login?: { readonly user: string; readonly password: string };
}

interface ServedCamera {
  readonly name: string;
  readonly url: string;
}

export class Farm {
  private constructor(
    private readonly options: FarmOptions,
    private readonly log: string,
    private process: OwnedProcess,
    readonly cameras: readonly ServedCamera[],
  ) {}

  static async start(options: FarmOptions, log: string): Promise<Farm> {
    const { process, cameras } = await serve(options, log, null);
    return new Farm(options, log, process, cameras);
  }

  /** The URL of a camera; by default of the first. */
  url(name?: string): string {
    const camera = name === undefined ? this.cameras[0] : this.cameras.find((served) => served.name === name);
    if (!camera) throw new Error(`the farm serves no camera ${name ?? ""}`);
    return camera.url;
  }

  /** All cameras die at once, in the middle of a picture. */
  async kill(): Promise<void> {
    await this.process.kill("SIGKILL");
  }

  /** All cameras hang: their connections stay and nothing comes. */
  pause(): void {
    this.process.pause();
  }

  resume(): void {
    this.process.resume();
  }

  /** Serves the same URLs again. */
  async restart(): Promise<void> {
    await this.kill();
    const port = Number(new URL(this.url().replace(/^rtsp/, "http")).port);
    this.process = (await serve(this.options, this.log, port)).process;
  }

  async stop(): Promise<void> {
    this.process.resume();
    await this.process.stop();
  }
}

async function serve(
  { clips = ["street-a"], count = 1, login }: FarmOptions,
  log: string,
  port: number | null,
): Promise<{ process: OwnedProcess; cameras: ServedCamera[] }> {
  const files = clips.map((clip) => (clip.includes("/") ? clip : join(ROOT, "demo", "clips", `${clip}.mp4`)));
  const args = ["cameras", ...files, "--json", "--count", String(count)];
  if (port !== null) args.push("--port", String(port));
  if (login) args.push("--user", login.user, "--password", login.password);
  let line = "";
  const process = OwnedProcess.start(LAB, args, log, (text) => (line ||= text));
  await waitFor("the cameras are served", () => {
    if (!process.isRunning) throw new Hopeless(`the farm has ended: ${process.tail()}`);
    return line !== "";
  });
  return { process, cameras: JSON.parse(line) as ServedCamera[] };
}
