// JSON requests to the console's own server.

/** A reply of a page's server is due long before; only a dead connection takes this long. */
const TIMEOUT_MS = 30_000;

export interface Reply {
  /** HTTP status; 0: no reply. */
  readonly status: number;
  /** The JSON body, `null` if there is none. */
  readonly body: unknown;
}

/**
 * Sends `body` as JSON. `token` goes into `X-CSRF-Token`. Never throws: without a reply the status is 0. An abort by `signal` is no reply
 * either.
 */
export function sendJson(
  method: "POST" | "PUT",
  url: string,
  body: unknown,
  token: string | null,
  signal?: AbortSignal,
): Promise<Reply> {
  const headers = { "Content-Type": "application/json", ...(token ? { "X-CSRF-Token": token } : {}) };
  return request(url, { method, headers, body: JSON.stringify(body) }, signal);
}

/** Asks for JSON; as `sendJson`. */
export function getJson(url: string): Promise<Reply> {
  return request(url, { method: "GET", headers: {} });
}

async function request(
  url: string,
  { headers, ...init }: { method: string; headers: Record<string, string>; body?: string },
  signal?: AbortSignal,
): Promise<Reply> {
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), TIMEOUT_MS);
  const abort = () => controller.abort();
  signal?.addEventListener("abort", abort);
  try {
    const response = await fetch(url, {
      ...init,
      credentials: "same-origin",
      headers: { Accept: "application/json", ...headers },
      signal: controller.signal,
    });
    return { status: response.status, body: await response.json().catch(() => null) };
  } catch {
    return { status: 0, body: null };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
  }
}

/** A property of a value from outside. */
export function property(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>)[name] : undefined;
}

export function textProperty(value: unknown, name: string): string | null {
  const found = property(value, name);
  return typeof found === "string" ? found : null;
}
