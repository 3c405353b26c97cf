// A broker, and the platform's side of it: a subscriber that keeps what arrives.
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { connect } from "node:net";
import { join } from "node:path";
import { OwnedProcess } from "./process";
import { MOSQUITTO, MOSQUITTO_SUB } from "./tools";
import { Hopeless, waitFor } from "./wait";

/** A case as the broker delivers it: what tests look at (docs/contract.md has all of it). */
export interface CaseMessage {
  readonly case_id: string;
  readonly revision: number;
  readonly category_code: string;
  readonly category_name: string;
  readonly cell_code: string;
  readonly description: string;
  readonly camera: { readonly local_id: string };
  readonly evidence: readonly { readonly role: string; readonly sha256: string }[];
}

/** A port of the loopback address that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export class Broker {
  readonly cases: CaseMessage[] = [];
  /** Hashes of the pictures that arrived, each equal to the hash in its topic. */
  readonly pictures = new Set<string>();
  private readonly faults: string[] = [];

  private constructor(
    readonly port: number,
    private readonly broker: OwnedProcess,
    private subscriber: OwnedProcess | null = null,
  ) {}

  static async start(dir: string): Promise<Broker> {
    const port = await freePort();
    const config = join(dir, "mosquitto.conf");
    writeFileSync(config, `listener ${port} 127.0.0.1\nallow_anonymous true\npersistence false\n`);
    const broker = new Broker(port, OwnedProcess.start(MOSQUITTO!, ["-c", config], join(dir, "mosquitto.log")));
    await waitFor("mosquitto accepts connections", () => {
      if (!broker.broker.isRunning) throw new Hopeless(`mosquitto has ended: ${broker.broker.tail()}`);
      return accepts(port);
    });
    broker.subscribe(dir);
    return broker;
  }

  private subscribe(dir: string): void {
    const topics = ["gridwatch/v1/+/case", "gridwatch/v1/+/evidence/+"].flatMap((topic) => ["-t", topic]);
    const args = ["-h", "127.0.0.1", "-p", String(this.port), "-V", "mqttv5", "-q", "1", ...topics, "-F", "%t %x"];
    const log = join(dir, "subscriber.log");
    this.subscriber = OwnedProcess.start(MOSQUITTO_SUB!, args, log, (line) => {
      const [topic = "", hex = ""] = line.split(" ");
      this.receive(topic, Buffer.from(hex, "hex"));
    });
  }

  private receive(topic: string, payload: Buffer): void {
    const picture = topic.match(/\/evidence\/([0-9a-f]+)$/)?.[1];
    if (picture === undefined) {
      this.cases.push(JSON.parse(payload.toString("utf8")) as CaseMessage);
      return;
    }
    if (createHash("sha256").update(payload).digest("hex") !== picture) this.faults.push(`${topic}: its hash differs`);
    this.pictures.add(picture);
  }

  /** Waits for a case, of this category if one is given, and for its pictures. */
  async filed(category?: string): Promise<CaseMessage> {
    const found = await waitFor(`a case ${category ?? ""} arrives from the broker`, () => {
      const { subscriber } = this;
      if (!subscriber?.isRunning) throw new Hopeless(`mosquitto_sub has ended: ${subscriber?.tail() ?? ""}`);
      return this.cases.find((filed) => category === undefined || filed.category_code === category);
    });
    await waitFor("its pictures have arrived", () => found.evidence.every((item) => this.pictures.has(item.sha256)));
    if (this.faults.length > 0) throw new Error(this.faults.join("; "));
    return found;
  }

  async stop(): Promise<void> {
    await this.subscriber?.kill();
    await this.broker.kill();
  }
}

export function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.on("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", () => resolve(false));
  });
}
