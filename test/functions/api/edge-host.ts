/** A server on a real Valkey, to which bytes are sent as they are: what it answers, and whether it still serves. */
import { connect, type Socket } from "node:net";
import { afterAll, beforeAll, beforeEach, expect } from "vitest";
import { createReader } from "../../../adapters/valkey/reader.ts";
import { createKey } from "../../../functions/api/keys/keys.ts";
import { PROBLEMS } from "../../../functions/api/problems.ts";
import { listen, type RunningServer } from "../../../functions/api/server.ts";
import { openStore } from "../../support/store.ts";
import { startValkey, type TestValkey } from "../../support/valkey.ts";
import { callerOf, scorable, transaction } from "./contract/contract-calls.ts";
import { memoryPushed, plan, testDependencies } from "./doubles.ts";

let valkey: TestValkey;
let server: RunningServer;
let port: number;
let key: string;
const { dependencies, keys, lines } = testDependencies();
const call = callerOf(
  plan,
  () => server,
  () => key,
);
/** Shorter than the server's 30 s for a request, so that it can be seen to end one. */
const REQUEST_MS = 5_000;

/** Registers the set-up of a file of tests. */
export function useEdge(): void {
  beforeAll(async () => {
    valkey = await startValkey();
    await (await openStore(plan, valkey, Math.floor(Date.now() / 60_000) * 60_000 - 15 * 60_000)).connection.close();
    key = (await createKey(keys, { tenant: "team-a", scopes: ["read", "write", "score", "admin"], nowMs: 0 })).key;
    server = await listen({
      port: 0,
      requestTimeoutMs: REQUEST_MS,
      dependencies: {
        ...dependencies,
        reader: createReader(plan, { ...valkey, timeoutMs: 60_000 }),
        pushed: memoryPushed(),
      },
    });
    port = Number(new URL(server.url).port);
  });
  afterAll(async () => {
    await server?.close();
    await valkey?.stop();
  });
  beforeEach(() => {
    lines.length = 0;
  });
}

interface RawAnswer {
  /** Null when the connection was closed without an answer. */
  readonly status: number | null;
  readonly text: string;
}

/** Sends bytes as they are, and collects what comes until the server closes or has answered once. */
export function raw(...chunks: readonly (string | Buffer)[]): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    const socket: Socket = connect(port, "127.0.0.1");
    let text = "";
    const done = () => {
      clearTimeout(patience);
      socket.destroy();
      resolve({ status: Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? 0) || null, text });
    };
    const patience = setTimeout(
      () => reject(new Error(`no answer within a minute; so far: ${text.slice(0, 200)}`)),
      60_000,
    );
    socket.on("data", (bytes) => {
      text += bytes.toString("latin1");
      const head = text.indexOf("\r\n\r\n");
      const length = /content-length: (\d+)/i.exec(text.slice(0, head));
      if (head >= 0 && length !== null && text.length >= head + 4 + Number(length[1])) done();
      if (text.endsWith("0\r\n\r\n")) done();
    });
    socket.on("close", done);
    // A server that has refused a request may close while we still send.
    socket.on("error", done);
    for (const chunk of chunks) socket.write(chunk);
  });
}

export const head = (method: string, path: string, headers: readonly string[]) =>
  [`${method} ${path} HTTP/1.1`, "host: localhost", `x-api-key: ${key}`, "connection: close", ...headers, "", ""].join(
    "\r\n",
  );
export const post = (
  path: string,
  body: string | Buffer,
  headers: readonly string[] = ["content-type: application/json"],
) => raw(head("POST", path, [...headers, `content-length: ${Buffer.byteLength(body)}`]), body);

/** An answer of ours, or Node's own to what is no HTTP; and nothing of the inside. */
export function checkAnswer({ status, text }: RawAnswer, what: string): void {
  expect(status, what).not.toBe(null);
  expect(status!, `${what}\n${text}`).toBeLessThan(500);
  expect(text, what).not.toMatch(/\bat \S+ \(|node_modules|\.ts:\d+|file:\/\/|TypeError|RangeError|SyntaxError/);
  expect(text, what).not.toContain(key);
  // HEAD is answered without a body.
  if (status! >= 400 && text.includes("application/problem+json") && !text.endsWith("\r\n\r\n")) {
    const body = JSON.parse(text.slice(text.indexOf("{"), text.lastIndexOf("}") + 1));
    expect(Object.keys(PROBLEMS), what).toContain(body.code);
  }
}
export const stillServes = async () => {
  const reply = await call("/v1/score/fraud", { body: scorable });
  expect([reply.status, reply.body.degraded]).toEqual([200, false]);
  expect((await call("/v1/events/transactions", { body: transaction() })).status).toBe(202);
  // A fault of ours would have been logged; refused requests are not.
  expect(lines).toEqual([]);
};

export const PATHS = [
  ...["/v1/score/fraud", "/v1/score/fraud/batch", "/v1/features/online", "/v1/features/batch"],
  ...["/v1/events/transactions", "/v1/events/clicks", "/get-online-features"],
  ...["/v1/rank/recommendation", "/api/v1/features/online", "/score/fraud"],
];
/** What changes things: administrators', and writes of registered features. */
export const CHANGES = [
  ...["/v1/features/register", "/v1/features/push", "/push", "/write-to-online-store", "/materialize"],
  ...["/v1/keys", "/v1/erasures", "/v1/quarantine/drop", "/v1/quarantine/replay", "/materialize-incremental"],
];

/** A socket of its own, for what `raw` cannot send. */
export const open = (): Socket => connect(port, "127.0.0.1");
