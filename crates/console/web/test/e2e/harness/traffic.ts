// What a page asks for, and the bytes that come over the network, compressed.
import type { CDPSession } from "playwright-core";

export interface Request {
  readonly path: string;
  /** Headers and body of the answer as they came; 0 as long as it has not come, or if the browser had it. */
  bytes: number;
}

export class Traffic {
  private readonly requests = new Map<string, Request>();

  static async of(devtools: CDPSession): Promise<Traffic> {
    const traffic = new Traffic();
    devtools.on("Network.requestWillBeSent", ({ requestId, request }) => {
      traffic.requests.set(requestId, { path: new URL(request.url).pathname, bytes: 0 });
    });
    devtools.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => {
      const found = traffic.requests.get(requestId);
      if (found) found.bytes = encodedDataLength;
    });
    await devtools.send("Network.enable");
    await devtools.send("Performance.enable");
    return traffic;
  }

  of(path: RegExp): Request[] {
    return [...this.requests.values()].filter((request) => path.test(request.path));
  }
}
