/**
 * The plain server's short way from Node's request to a route and back. Most calls of a feature store are small POSTs of plain
 * paths; for these, Web `Request`, `Response` and what reads a body through them cost more than all that we do. Whatever is not as
 * plain as that goes by Hono's adapter, which knows every corner of URLs and methods. Both ways run the same routes.
 */
import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import type { RequestContext, Route, Run } from "./router.ts";

/** Addresses that stand as they are in a URL. */
const PLAIN_HOST = /^[a-z0-9._-]+(?::[1-5]?\d{4})?$/;
/** From so many characters on, a text is not put together with its head. */
const LARGE = 16_384;
/** Paths that are found at once; more than callers of one app use. */
const KEPT_PATHS = 1_000;

interface Found {
  readonly run: Run;
  readonly params: Readonly<Record<string, string>>;
}

/** @param isParting whether whoever keeps a connection open would send its next call to a host that is gone */
export function createDirectListener(
  routes: readonly Route[],
  otherwise: RequestListener,
  isParting: () => boolean,
): RequestListener {
  const find = finder(routes.filter(({ method }) => method === "POST"));
  return (incoming, outgoing) => {
    const found = incoming.method === "POST" ? find(incoming.url as string) : undefined;
    const request = found === undefined ? null : DirectRequest.of(incoming, found.params);
    if (request === null) otherwise(incoming, outgoing);
    else answer(found!.run, request, outgoing, isParting);
  };
}

async function answer(run: Run, request: DirectRequest, outgoing: ServerResponse, isParting: () => boolean) {
  try {
    const { status, headers, body } = await run(request);
    // Large ones are encoded once, small ones on their way into the socket, with the head.
    const sent = typeof body === "string" && body.length >= LARGE ? Buffer.from(body) : body;
    const length = typeof sent === "string" ? Buffer.byteLength(sent) : sent.length;
    const all = { ...headers, "Content-Length": length, ...(isParting() ? { connection: "close" } : undefined) };
    // A text with one byte a character goes out as it is; to encode it, Node looks at each and takes three times the room.
    outgoing.writeHead(status, all).end(sent, length === sent.length ? "latin1" : "utf8");
  } catch {
    // Routes word their errors themselves: not even that was possible.
    outgoing.destroy();
  }
}

/** By a path as it was sent: one with escapes, a query or anything else that wants reading finds nothing. */
function finder(routes: readonly Route[]): (url: string) => Found | undefined {
  const kept = new Map<string, Found>();
  const patterns = routes.map(({ path, run }) => ({
    pattern: new RegExp(`^${path.replace(/:([a-z]+)/g, "(?<$1>[\\w-]+)")}$`),
    run,
  }));
  return (url) => {
    const known = kept.get(url);
    if (known !== undefined) return known;
    for (const { pattern, run } of patterns) {
      const match = pattern.exec(url);
      if (match === null) continue;
      const found = { run, params: { ...match.groups } };
      if (kept.size < KEPT_PATHS) kept.set(url, found);
      return found;
    }
    return undefined;
  };
}

/** As much of Hono's context as routes use. */
class DirectRequest implements RequestContext {
  readonly env: { readonly incoming: IncomingMessage };
  readonly #params: Readonly<Record<string, string>>;
  readonly #host: string;

  private constructor(incoming: IncomingMessage, params: Readonly<Record<string, string>>, host: string) {
    this.env = { incoming };
    this.#params = params;
    this.#host = host;
  }

  /** @returns null for a request that is not plain */
  static of(incoming: IncomingMessage, params: Readonly<Record<string, string>>): DirectRequest | null {
    const host = headerOf(incoming.rawHeaders, "host");
    if (host === undefined || !PLAIN_HOST.test(host)) return null;
    return headerOf(incoming.rawHeaders, "content-length") === undefined
      ? null
      : new DirectRequest(incoming, params, host);
  }

  get req(): this {
    return this;
  }
  get method(): string {
    return "POST";
  }
  get path(): string {
    return this.env.incoming.url as string;
  }
  get url(): string {
    return `http://${this.#host}${this.path}`;
  }
  header(name: string): string | undefined {
    return headerOf(this.env.incoming.rawHeaders, name);
  }
  param(name: string): string | undefined {
    return this.#params[name];
  }
  query(): any {
    return {};
  }

  /** Node's parser holds it to its declared length. */
  whole(): Promise<Buffer> {
    const { incoming } = this.env;
    // Who went away while the call waited for something else has told so already: no event would come any more.
    if (incoming.destroyed) return Promise.reject(new Error("the connection was closed"));
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = [];
      incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
      incoming.on("end", () => resolve(chunks.length === 1 ? chunks[0] : Buffer.concat(chunks)));
      incoming.on("close", () => {
        // It follows every end: an error each time would cost more than all else here.
        if (!incoming.readableEnded) reject(new Error("the connection was closed"));
      });
    });
  }
}

/** @param lowerName the name in small letters; values of a header that is given twice are joined */
function headerOf(raw: readonly string[], lowerName: string): string | undefined {
  let value: string | undefined;
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i];
    if (name.length !== lowerName.length || name.toLowerCase() !== lowerName) continue;
    value = value === undefined ? raw[i + 1].trim() : `${value}, ${raw[i + 1].trim()}`;
  }
  return value;
}
