// Child processes that end with the test, however it ends.
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";

const running = new Set<OwnedProcess>();

// A test that is stopped, or whose runner gives up on it, leaves nothing behind.
process.on("exit", () => running.forEach((owned) => owned.signal("SIGKILL")));
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => process.exit(1));

export class OwnedProcess {
  private readonly ended: Promise<void>;
  private hasEnded = false;

  private constructor(
    readonly name: string,
    private readonly child: ChildProcess,
    private readonly log: string,
  ) {
    running.add(this);
    this.ended = new Promise((resolve) => {
      const end = () => {
        this.hasEnded = true;
        running.delete(this);
        resolve();
      };
      child.on("exit", end);
      child.on("error", end);
    });
  }

  /** Starts a program. What it writes is appended to the file `log`; with `onLine`, its standard output is not, and comes there by line. */
  static start(program: string, args: string[], log: string, onLine?: (line: string) => void): OwnedProcess {
    const file = openSync(log, "a");
    const child = spawn(program, args, {
      stdio: ["ignore", onLine ? "pipe" : file, file],
      env: { ...process.env, GRIDWATCH_STATE: undefined, GRIDWATCH_CONFIG: undefined },
    });
    closeSync(file);
    if (onLine && child.stdout) createInterface({ input: child.stdout }).on("line", onLine);
    return new OwnedProcess(args[0] ? `${program} ${args[0]}` : program, child, log);
  }

  get isRunning(): boolean {
    return !this.hasEnded;
  }

  get pid(): number {
    if (this.child.pid === undefined) throw new Error(`${this.name} did not start`);
    return this.child.pid;
  }

  signal(signal: NodeJS.Signals): void {
    if (this.isRunning) this.child.kill(signal);
  }

  /** Ends it and waits for that. */
  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    this.signal(signal);
    await this.ended;
  }

  /** Ends it politely, and otherwise after `limitMs`. */
  async stop(limitMs = 20_000): Promise<void> {
    this.signal("SIGTERM");
    const timer = setTimeout(() => this.signal("SIGKILL"), limitMs);
    await this.ended;
    clearTimeout(timer);
  }

  /** Stops it without ending it, as a machine that hangs; its connections stay open. */
  pause(): void {
    this.signal("SIGSTOP");
  }

  resume(): void {
    this.signal("SIGCONT");
  }

  /** The last lines of its log. */
  tail(lines = 60): string {
    const text = readFileSync(this.log, "utf8").trimEnd();
    return text.split("\n").slice(-lines).join("\n");
  }
}
