/**
 * The plain server's short way answers as the long one does: two servers over the same routes, one of them without it, get the
 * same bytes. What both see of a request is told by a route that repeats it. Seeded: a failure prints its seed and the request.
 */
import { createServer, type RequestListener, type Server } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { getRequestListener } from "@hono/node-server";
import fc from "fast-check";
import { Hono } from "hono";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { readBytes, readObject } from "../../../functions/api/body.ts";
import { createDirectListener } from "../../../functions/api/direct.ts";
import { createAuthenticator, createKey } from "../../../functions/api/keys/keys.ts";
import { createRouter, type Route } from "../../../functions/api/router.ts";
import { memoryKeyStore } from "./doubles.ts";

const PATIENCE_MS = 60_000;
const MAX_BYTES = 20_000;
const routes: Route[] = [];
/** What a call waits for before it reads its body. */
let patience: Promise<unknown> = Promise.resolve();
const keys = memoryKeyStore();
const app = new Hono();
/** What was counted, as `route status`. */
const counted: string[] = [];
let isDraining = false;
/** Requests that came the short way. */
let direct = 0;
let key: string;
let long: Server;
let short: Server;

const register = createRouter(app, {
  authenticate: createAuthenticator(keys, () => 0),
  telemetry: { request: (route: string, status: number) => counted.push(`${route} ${status}`) } as never,
  onError: () => {},
  audit: null,
  compresses: true,
  onRoute: (route) => routes.push(route),
});
register("POST", "/things/sort", null, async ({ c }) => {
  const { req } = c;
  const headers = ["content-type", "x-api-key", "x-request-id", "accept-encoding", "authorization", "x-other"];
  const body = (await readBytes(c, MAX_BYTES)).toString("hex");
  const seen = { method: req.method, path: req.path, query: req.query(), headers: headers.map((h) => req.header(h)) };
  return { status: 200, body: JSON.stringify({ ...seen, body }) };
});
register("POST", "/things/:id/parts/:part", "read", async ({ c, principal }) => {
  const body = await readObject(c, MAX_BYTES);
  const seen = [c.req.param("id"), c.req.param("part"), c.req.param("none"), principal.tenant, body];
  return { status: 202, body: JSON.stringify(seen), headers: { "x-told": "yes" } };
});
register("POST", "/things/:id", "write", () => ({ status: 200, body: "{}" }));
register("POST", "/large", null, () => ({ status: 200, body: `"${"ä".repeat(40_000)}"` }));
register("POST", "/patient/:id", null, async ({ c }) => {
  await patience;
  return { status: 200, body: String((await readBytes(c, MAX_BYTES)).length) };
});
register("POST", "/broken", null, () => {
  throw new TypeError("cells of undefined");
});
register("GET", "/things/:id", null, () => ({ status: 200, body: "{}" }));

beforeAll(async () => {
  key = (await createKey(keys, { tenant: "team-a", scopes: ["read"], nowMs: 0 })).key;
  const byHono = getRequestListener(app.fetch, { hostname: "127.0.0.1" });
  const watched = routes.map((route) => ({
    ...route,
    run: (c: Parameters<Route["run"]>[0]) => {
      direct++;
      return route.run(c);
    },
  }));
  long = await serve(byHono);
  short = await serve(createDirectListener(watched, byHono, () => isDraining));
});
afterAll(() => {
  long?.close();
  short?.close();
});
beforeEach(() => {
  counted.length = 0;
  isDraining = false;
  direct = 0;
});

async function serve(listener: RequestListener): Promise<Server> {
  const server = createServer({ requestTimeout: PATIENCE_MS }, listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

/** What a request without an id of its own is given. */
const GIVEN_ID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-z]+/;

/** All that a server answers to bytes, until it closes: its lines in order of the alphabet, since headers have none. */
function exchange(server: Server, parts: readonly (string | Buffer)[]): Promise<string[]> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port: (server.address() as AddressInfo).port, host: "127.0.0.1", noDelay: true });
    const chunks: Buffer[] = [];
    const patience = setTimeout(() => reject(new Error(`no end within ${PATIENCE_MS} ms: ${chunks}`)), PATIENCE_MS);
    socket.on("data", (bytes) => chunks.push(bytes));
    // A server that has refused a request may close while we still send.
    socket.on("error", () => {});
    socket.on("close", () => {
      clearTimeout(patience);
      const text = Buffer.concat(chunks).toString("latin1");
      // Ids grow longer, and what has one in its body with them.
      const left = GIVEN_ID.test(text) ? /^(Date|Content-Length): / : /^Date: /;
      const lines = text.replaceAll(new RegExp(GIVEN_ID, "g"), "(an id)").split("\r\n");
      resolve(lines.filter((line) => !left.test(line)).sort());
    });
    // Each in a packet of its own: the next one goes when the server has had a turn for the last.
    const send = (i: number): void => {
      if (i < parts.length) socket.write(parts[i], () => setTimeout(send, 2, i + 1));
    };
    socket.once("connect", () => send(0));
  });
}

/** Ends the connection after whatever came before it. */
const LAST = "GET /things/1 HTTP/1.1\r\nhost: localhost\r\nx-request-id: last\r\nconnection: close\r\n\r\n";

async function checkAlike(parts: readonly (string | Buffer)[]): Promise<string[]> {
  counted.length = 0;
  const expected = await exchange(long, parts);
  const counts = counted.splice(0);
  const told = await exchange(short, parts);
  expect(told).toEqual(expected);
  // Several of one connection end in any order.
  expect(counted.toSorted()).toEqual(counts.toSorted());
  return told;
}

const post = (path: string, body: string | Buffer, headers: readonly string[] = []): Buffer =>
  Buffer.concat([
    Buffer.from(
      [
        `POST ${path} HTTP/1.1`,
        ...["host: 127.0.0.1:8080", "x-request-id: r1", `content-length: ${Buffer.byteLength(body)}`, ...headers],
        ...["", ""],
      ].join("\r\n"),
    ),
    Buffer.from(body),
  ]);

describe("one request", () => {
  const read = () => [`x-api-key: ${key}`, "content-type: application/json"];

  it("with path, parameters, headers and body", async () => {
    const told = await checkAlike([post("/things/a-1/parts/b_2", '{"ä": [1]}', read()), LAST]);
    expect(told.join("\n")).toContain('["a-1","b_2",null,"team-a",{"Ã¤":[1]}]');
    expect(direct).toBe(1);
  });

  it("in pieces, at any place", async () => {
    const whole = post("/things/1/parts/2", '{"a": "bc"}', read());
    for (let at = 1; at < whole.length; at += 7) await checkAlike([whole.subarray(0, at), whole.subarray(at), LAST]);
    expect(direct).toBeGreaterThan(10);
  });

  it("after another on one connection, before it was answered", async () => {
    const one = post("/things/1/parts/2", "{}", read());
    const told = await checkAlike([Buffer.concat([one, one, one, Buffer.from(LAST)])]);
    expect(told.filter((line) => line.startsWith("HTTP/1.1 202"))).toHaveLength(1);
    expect(direct).toBe(3);
  });

  it.each([
    ["no key", () => post("/things/1/parts/2", "{}")],
    ["no scope", () => post("/things/1", "{}", read())],
    ["a key in the URL", () => post(`/things/${key}`, "{}")],
    ["no JSON", () => post("/things/1/parts/2", "{", read())],
    ["no body", () => post("/things/1/parts/2", "", read())],
    ["another type", () => post("/things/1/parts/2", "{}", [`x-api-key: ${key}`, "content-type: text/plain"])],
    ["too large", () => post("/things/1/parts/2", "x".repeat(MAX_BYTES + 1), read())],
    ["a fault of ours", () => post("/broken", "{}")],
    ["an answer that is compressed", () => post("/large", "{}", ["accept-encoding: gzip"])],
    ["an answer that is not", () => post("/large", "{}")],
    ["a large answer of one byte a letter", () => post("/things/sort", "x".repeat(9_000))],
    ["a small answer of more", () => post("/things/1/parts/2", '{"a": "é€😀"}', read())],
  ])("%s", async (_, request) => {
    await checkAlike([request(), LAST]);
    expect(direct).toBe(1);
  });

  it("whose client goes away in the middle", async () => {
    const cut = post("/things/sort", "0123456789").subarray(0, -3);
    for (const server of [long, short]) {
      counted.length = 0;
      const socket = connect((server.address() as AddressInfo).port, "127.0.0.1");
      socket.on("error", () => {});
      socket.write(cut, () => socket.destroy());
      await expect.poll(() => counted, { timeout: PATIENCE_MS }).toEqual(["/things/sort 400"]);
    }
    expect(direct).toBe(1);
  });

  it("whose client goes away while the call waits for something else, before it reads", async () => {
    const cut = post("/patient/1", "0123456789").subarray(0, -3);
    for (const server of [long, short]) {
      counted.length = 0;
      let go = () => {};
      patience = new Promise<void>((resolve) => {
        go = resolve;
      });
      const gone = new Promise((resolve) => server.once("connection", (socket) => socket.once("close", resolve)));
      const socket = connect((server.address() as AddressInfo).port, "127.0.0.1");
      socket.on("error", () => {});
      socket.write(cut, () => socket.resetAndDestroy());
      await gone;
      go();
      await expect.poll(() => counted, { timeout: PATIENCE_MS }).toEqual(["/patient/:id 400"]);
    }
  });

  it("of a host that drains ends its connection", async () => {
    isDraining = true;
    const told = await exchange(short, [post("/things/1/parts/2", "{}", read())]);
    expect(told).toContain("connection: close");
  });

  it("is answered with nothing where not even an error could be worded", async () => {
    const broken = createDirectListener(
      [{ method: "POST", path: "/x", run: () => Promise.reject(new Error("no words")) }],
      () => {},
      () => false,
    );
    const server = await serve(broken);
    expect(await exchange(server, [post("/x", "{}")])).toEqual([""]);
    server.close();
  });
});

/** Lists of which one is drawn: the first of each is plain. */
const METHODS = ["POST", "POST", "GET", "PUT", "HEAD", "OPTIONS", "DELETE", "TRACE"];
const TARGETS = [
  ...["/things/sort", "/things/1/parts/2", "/things/x", "/large", "/nowhere", "/", "*", ""],
  ...["/things/sort?a=1&b=%20", "/things/sort#a", "/things/sort/", "//things/sort", "/things//parts/2", "/THINGS/sort"],
  ...["/things/a%20b", "/things/a%2Fb/parts/2", "/things/%zz", "/things/ä", "/things/a.b", "/things/a:b/parts/~"],
  ...["/./things/sort", "/things/../things/sort", "/things/sort\\x", "http://localhost/things/sort", "http://", "x"],
];
const HOSTS = [
  ...["127.0.0.1:8080", "localhost", "LOCALHOST", "[::1]:8080", "user@localhost", "a b", "a:80", "a:99999", "a:08080"],
  ...["fk_abcdefghijkl_x", "ä", "", null],
];
const HEADERS = [
  ...["content-type: application/json", "Content-Type: application/json; charset=utf-8", "content-type: text/plain"],
  ...["x-request-id: r2", "X-Request-Id: no id", "x-api-key: KEY", "X-API-KEY:   KEY  ", "x-api-key: fk_no"],
  ...["authorization: Bearer KEY", "authorization: Basic x", "accept-encoding: gzip, br", "accept-encoding: identity"],
  ...["x-other: ä", "x-other: a", "__proto__: a", "expect: 100-continue", "expect: else", "connection: keep-alive"],
  ...[
    "content-length: 5",
    "transfer-encoding: chunked",
    "upgrade: websocket",
    "te: trailers",
    "content-encoding: gzip",
  ],
];
const BODIES = ["{}", '{"a": 1}', "", "{", "[]", "NaN", "\u00ff\u00fe", " ".repeat(30_000)];

describe("any request", () => {
  const request = fc.record({
    method: fc.constantFrom(...METHODS),
    target: fc.oneof(fc.constantFrom(...TARGETS.slice(0, 4)), fc.constantFrom(...TARGETS)),
    host: fc.constantFrom(...HOSTS),
    plain: fc.boolean(),
    headers: fc.array(fc.constantFrom(...HEADERS), { maxLength: 5 }),
    body: fc.constantFrom(...BODIES),
    version: fc.constantFrom(...Array.from({ length: 10 }, () => "1.1"), "1.0", "2.0"),
  });

  it("is answered alike", async () => {
    await fc.assert(
      fc.asyncProperty(request, async ({ method, target, host, plain, headers, body, version }) => {
        const bytes = Buffer.from(body, "latin1");
        const all = [
          ...(plain ? ["host: 127.0.0.1"] : host === null ? [] : [`host: ${host}`]),
          "x-request-id: r1",
          ...(headers.some((header) => /^(content-length|transfer)/.test(header))
            ? []
            : [`content-length: ${bytes.length}`]),
          ...headers.map((header) => header.replace("KEY", key)),
        ];
        const text = `${plain ? "POST" : method} ${target} HTTP/${version}\r\n${all.join("\r\n")}\r\n\r\n`;
        // What is no more of this request is read as the next one; one that ends nothing is cut off there.
        await checkAlike([Buffer.concat([Buffer.from(text, "utf8"), bytes, Buffer.from(`\r\n${LAST}`)])]);
      }),
      { numRuns: 400, seed: 20_251_122 },
    );
    expect(direct).toBeGreaterThan(50);
  }, 240_000);
});
