// A server on a free port of this machine that serves the committed bundles, harness pages and test replies under the console's real
// Content-Security-Policy.
import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { type IncomingMessage, type Server, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { PAGES } from "./pages";
import { testPattern } from "./png";

/** Tests run from .test-build/SUITE; `npm test` starts in web/. */
export const WEB = process.cwd();
const ASSETS = join(WEB, "..", "assets");
const DEMO_CLIP = join(WEB, "..", "..", "..", "demo", "clips", "street-a.mp4");

export const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; media-src 'self' blob:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

export interface Received {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: unknown;
}

type Answer = (request: Received, response: ServerResponse) => void | Promise<void>;

export class Harness {
  readonly received: Received[] = [];
  private readonly answers = new Map<string, Answer>();
  private still: Buffer | null = null;

  private constructor(
    private readonly server: Server,
    readonly origin: string,
  ) {}

  static async start(): Promise<Harness> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const harness = new Harness(server, `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    server.on("request", (request, response) => {
      harness.serve(request, response).catch((error: unknown) => {
        response.writeHead(500).end(String(error));
      });
    });
    return harness;
  }

  stop(): void {
    this.server.close();
    this.server.closeAllConnections();
  }

  /** Answers `METHOD /path`. */
  on(route: string, answer: Answer): void {
    this.answers.set(route, answer);
  }

  json(route: string, status: number, body: unknown): void {
    this.on(route, (_, response) => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    });
  }

  private async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", this.origin);
    response.setHeader("content-security-policy", POLICY);
    response.setHeader("x-content-type-options", "nosniff");
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString("utf8");
    const received = {
      method: request.method ?? "GET",
      path: url.pathname,
      headers: request.headers,
      body: text && request.headers["content-type"] === "application/json" ? (JSON.parse(text) as unknown) : text,
    };
    const answer = this.answers.get(`${received.method} ${url.pathname}`);
    if (answer) {
      this.received.push(received);
      await answer(received, response);
      return;
    }
    const page = PAGES.get(url.pathname);
    if (page) {
      response.setHeader("content-type", "text/html; charset=utf-8");
      response.end(await page(url.searchParams));
    } else if (/^\/(js|css)\/[a-z-]+\.(js|css)$/.test(url.pathname)) {
      response.setHeader("content-type", url.pathname.endsWith(".js") ? "text/javascript; charset=utf-8" : "text/css; charset=utf-8");
      response.end(await readFile(join(ASSETS, url.pathname)));
    } else if (url.pathname === "/harness.css") {
      response.setHeader("content-type", "text/css");
      response.end(await readFile(join(WEB, "test", "harness", "harness.css")));
    } else if (url.pathname.startsWith("/pattern/")) {
      const [width, height] = url.pathname.split("/")[2]!.split("x").map(Number);
      response.setHeader("content-type", "image/png");
      response.end(testPattern(width!, height!));
    } else if (url.pathname === "/still.png") {
      response.setHeader("content-type", "image/png");
      response.end(this.demoStill());
    } else {
      response.writeHead(404).end();
    }
  }

  /** A frame of the demo's clip for screenshots; without FFmpeg, the test pattern. */
  private demoStill(): Buffer {
    if (!this.still) {
      const arguments_ = ["-v", "error", "-ss", "3", "-i", DEMO_CLIP, "-frames:v", "1", "-f", "image2pipe", "-c:v", "png", "-"];
      const { status, stdout } = spawnSync("ffmpeg", arguments_, { maxBuffer: 16 << 20 });
      this.still = status === 0 && stdout.length > 0 ? stdout : testPattern(1280, 720);
    }
    return this.still;
  }
}
