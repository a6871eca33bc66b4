/**
 * The HTTP edge under bytes that no client means to send: every answer is one of ours, in time, and says nothing of the
 * inside; and afterwards the server still serves. Seeded: a failure prints its seed and the request.
 */
import { connect, type Socket } from "node:net";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
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

interface RawAnswer {
  /** Null when the connection was closed without an answer. */
  readonly status: number | null;
  readonly text: string;
}

/** Sends bytes as they are, and collects what comes until the server closes or has answered once. */
function raw(...chunks: readonly (string | Buffer)[]): Promise<RawAnswer> {
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

const head = (method: string, path: string, headers: readonly string[]) =>
  [`${method} ${path} HTTP/1.1`, "host: localhost", `x-api-key: ${key}`, "connection: close", ...headers, "", ""].join(
    "\r\n",
  );
const post = (path: string, body: string | Buffer, headers: readonly string[] = ["content-type: application/json"]) =>
  raw(head("POST", path, [...headers, `content-length: ${Buffer.byteLength(body)}`]), body);

/** An answer of ours, or Node's own to what is no HTTP; and nothing of the inside. */
function checkAnswer({ status, text }: RawAnswer, what: string): void {
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
const stillServes = async () => {
  const reply = await call("/v1/score/fraud", { body: scorable });
  expect([reply.status, reply.body.degraded]).toEqual([200, false]);
  expect((await call("/v1/events/transactions", { body: transaction() })).status).toBe(202);
  // A fault of ours would have been logged; refused requests are not.
  expect(lines).toEqual([]);
};

const PATHS = [
  ...["/v1/score/fraud", "/v1/score/fraud/batch", "/v1/features/online", "/v1/features/batch"],
  ...["/v1/events/transactions", "/v1/events/clicks", "/get-online-features"],
  ...["/v1/rank/recommendation", "/api/v1/features/online", "/score/fraud"],
];
/** What changes things: administrators', and writes of registered features. */
const CHANGES = [
  ...["/v1/features/register", "/v1/features/push", "/push", "/write-to-online-store", "/materialize"],
  ...["/v1/keys", "/v1/erasures", "/v1/quarantine/drop", "/v1/quarantine/replay", "/materialize-incremental"],
];
const deep = (depth: number, open: string, close: string) => open.repeat(depth) + close.repeat(depth);

describe("bodies", () => {
  const bodies: Record<string, string | Buffer> = {
    "objects nested 100,000 deep": deep(100_000, '{"a":', "}").replace("}", "1}"),
    "arrays nested 200,000 deep": deep(200_000, "[", "]"),
    "entities that are nested": `{"entities":${deep(50_000, "[", "]")},"features":["card_activity:tx_count_1h"]}`,
    "members of the prototype":
      '{"__proto__":{"card_id":"c"},"constructor":{"prototype":{"x":1}},"entities":{"__proto__":"c","constructor":"c"},"features":["__proto__"]}',
    "a service named as a prototype's member": '{"entities":{"card_id":"c"},"service":"__proto__"}',
    "duplicate members":
      '{"card_id":"a","card_id":"b","merchant_id":"m","merchant_id":null,"amount":1,"amount":"x","country":"SE"}',
    "a number beyond a double": '{"card_id":"c","merchant_id":"m","amount":1e999,"country":"SE"}',
    "a number of 100,000 digits": `{"card_id":"c","merchant_id":"m","amount":${"9".repeat(100_000)},"country":"SE"}`,
    "a number of many places": `{"card_id":"c","merchant_id":"m","amount":0.${"0".repeat(50_000)}1,"country":"SE"}`,
    "a lone surrogate": '{"card_id":"\\ud800","merchant_id":"m","amount":1,"country":"SE"}',
    "a nul": '{"card_id":"\\u0000","merchant_id":"m","amount":1,"country":"SE"}',
    "100,000 members": `{${Array.from({ length: 40_000 }, (_, i) => `"k${i}":1`).join(",")}}`,
    "50,000 names": JSON.stringify({
      entities: { card_id: "c" },
      features: Array.from({ length: 30_000 }, (_, i) => `f${i}`),
    }),
    "a byte order mark": Buffer.from("\ufeff{}"),
    "UTF-16": Buffer.from('{"card_id":"c"}', "utf16le"),
    "bytes that are no UTF-8": Buffer.from([0x7b, 0xff, 0xfe, 0xc0, 0xaf, 0x7d]),
    "an overlong slash": Buffer.from([0x22, 0xc0, 0xaf, 0x22]),
    "only blanks": " ".repeat(10_000),
    NaN: '{"card_id":"c","merchant_id":"m","amount":NaN,"country":"SE"}',
    "minus infinity": '{"card_id":"c","merchant_id":"m","amount":-Infinity,"country":"SE"}',
    "numbers of other languages": '{"amount":0x1F,"k":1_000,"x":+1,"y":.5,"z":01}',
    "a comment and a comma too many": '{"card_id":"c" /* it */,}',
    "keys with blanks and separators":
      '{"entities":{"card_id":"\\u2028 \\r\\n c"},"features":["a:b\\n"],"rows":[{"id":"\\r\\n"}]}',
    "the same object in each place": `{${["df", "rows", "entities", "features", "scopes", "name", "candidates", "ids", "events"].map((name) => `"${name}":{"__proto__":{"length":1e9},"length":4294967295}`).join(",")}}`,
    "lists in each place": `{${["df", "rows", "entities", "features", "scopes", "name", "candidates", "ids", "entity", "id"].map((name) => `"${name}":[[[null]]]`).join(",")}}`,
    "columns without end": `{"feature_view_name":"v","push_source_name":"v","df":{"card_id":[${"null,".repeat(50_000)}null]}}`,
  };
  it.each(Object.entries(bodies))("%s", async (name, body) => {
    for (const path of [...PATHS, ...CHANGES]) {
      const answer = await post(path, body);
      checkAnswer(answer, `${name} to ${path}`);
      expect(Object.hasOwn(Object.prototype, "card_id")).toBe(false);
    }
    await stillServes();
  });

  it("compressed ones are not taken for text: a bomb is never unpacked", async () => {
    const bomb = gzipSync(Buffer.alloc(50_000_000, 0x20));
    for (const encoding of ["gzip", "deflate", "br", "zstd", "gzip, gzip"]) {
      const answer = await post("/v1/score/fraud", bomb, [
        "content-type: application/json",
        `content-encoding: ${encoding}`,
      ]);
      checkAnswer(answer, encoding);
      expect([400, 415]).toContain(answer.status);
    }
    await stillServes();
  });

  it("chunked ones are read; broken chunks are refused", async () => {
    const body = JSON.stringify(scorable);
    const chunked = head("POST", "/v1/score/fraud", ["content-type: application/json", "transfer-encoding: chunked"]);
    const whole = await raw(chunked, [...body].map((c) => `1\r\n${c}\r\n`).join(""), "0\r\n\r\n");
    expect(whole.status).toBe(200);
    for (const broken of ["zz\r\n{}\r\n", "-1\r\n", "ffffffffffffffffff\r\n", `2\r\n${body}\r\n0\r\n\r\n`]) {
      checkAnswer(await raw(chunked, broken), JSON.stringify(broken));
    }
    await stillServes();
  });

  it("above the bound are refused, declared or not, before they are taken in", async () => {
    const declared = await raw(
      head("POST", "/v1/score/fraud", ["content-type: application/json", "content-length: 99999999999"]),
    );
    expect([declared.status, declared.text]).toEqual([413, expect.stringContaining("body_too_large")]);
    const chunked = head("POST", "/v1/score/fraud", ["content-type: application/json", "transfer-encoding: chunked"]);
    const piece = `40000\r\n${" ".repeat(0x40000)}\r\n`;
    const undeclared = await raw(chunked, piece, piece, piece, piece);
    expect([undeclared.status, undeclared.text]).toEqual([413, expect.stringContaining("body_too_large")]);
    await stillServes();
  });

  it("seeded mutations of a good one", async () => {
    const good = PATHS.map((path) => [path, goodBody(path)] as const);
    const mutation = fc.record({
      at: fc.double({ min: 0, max: 1, noNaN: true }),
      drop: fc.nat(6),
      put: fc.oneof(
        fc.constantFrom(
          '"',
          "{",
          "}",
          "[",
          "]",
          ",",
          ":",
          "\\",
          "null",
          "NaN",
          "-",
          "1e400",
          "\u0000",
          "\\u",
          "__proto__",
          "é",
          "𝄞",
        ),
        fc.string({ unit: "binary", maxLength: 4 }),
      ),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...good),
        fc.array(mutation, { minLength: 1, maxLength: 4 }),
        async ([path, body], mutations) => {
          let bytes = Buffer.from(body);
          for (const { at, drop, put } of mutations) {
            const place = Math.floor(at * bytes.length);
            bytes = Buffer.concat([bytes.subarray(0, place), Buffer.from(put), bytes.subarray(place + drop)]);
          }
          checkAnswer(await post(path, bytes), `${path} ${JSON.stringify(bytes.toString("latin1"))}`);
        },
      ),
      { numRuns: 200, seed: 20_260_131 },
    );
    await stillServes();
  });
});

function goodBody(path: string): string {
  const online = {
    entities: { card_id: "c1" },
    features: ["card_activity:tx_count_1h", "card_activity:amount_sum_1h"],
  };
  if (path.endsWith("/recommendation")) {
    return JSON.stringify({
      user_id: "u1",
      category: null,
      candidates: ["i1", { item_id: "i2", category: "x" }],
      k: 2,
    });
  }
  if (path === "/score/fraud") return JSON.stringify({ card_id: "c1", transaction_amount: 10 });
  if (path.endsWith("/fraud")) return JSON.stringify({ ...scorable, explain: true });
  if (path.endsWith("/fraud/batch")) return JSON.stringify({ rows: [scorable, scorable] });
  if (path.endsWith("/online")) return JSON.stringify(online);
  if (path.endsWith("/batch")) return JSON.stringify({ ...online, entities: [online.entities] });
  if (path.endsWith("/transactions")) return JSON.stringify([transaction(), transaction()]);
  if (path.endsWith("/clicks"))
    return JSON.stringify({ click_id: "k", event_time: Date.now(), user_id: "u", item_id: "i", action: "view" });
  return JSON.stringify({ entities: { card_id: ["c1"] }, features: online.features });
}

describe("paths and headers", () => {
  it.each([
    ...["/v1/features/card/%", "/v1/features/card/%ff%fe", "/v1/features/card/%c0%af", "/v1/features/card/%00"],
    ...["/v1/features/__proto__/constructor", "/v1/features/card/..%2f..%2fetc%2fpasswd", "//v1//score//fraud"],
    ...[
      "/../../etc/passwd",
      "/v1/features/card/\u007f",
      `/v1/features/card/${"x".repeat(10_000)}`,
      "/v1/audit?limit=%",
    ],
    ...[
      "/v1/audit?limit=1&limit=2",
      "/v1/context/card/%00?max_tokens=1e9",
      "/v1/features/historical/%2e%2e",
      "http://elsewhere/health",
      "*",
      "/?%",
    ],
  ])("GET %.60s", async (path) => {
    checkAnswer(await raw(head("GET", path, [])), path);
    await stillServes();
  });

  it.each([
    ["many", Array.from({ length: 3_000 }, (_, i) => `x-h${i}: ${i}`)],
    ["one of 100 KB", [`x-long: ${"a".repeat(100_000)}`]],
    ["a key that is no key", ["x-api-key: fk_\u0080\u00ff_é"]],
    ["a name with a blank", ["bad name: 1"]],
    ["a bare carriage return", ["x-a: 1\rx-b: 2"]],
    ["a folded line", ["x-a: 1", " folded"]],
    ["a request id that would forge a log line", ["x-request-id: a\u0000b"]],
    ["a content type that is none", ["content-type: ;;;;/,"]],
    ["a range and a condition", ["range: bytes=0-1", "if-none-match: *", "expect: 100-continue"]],
  ])("headers: %s", async (name, headers) => {
    checkAnswer(await raw(head("POST", "/v1/score/fraud", [...headers, "content-length: 2"]), "{}"), name);
    await stillServes();
  });

  it.each(["TRACE", "CONNECT", "PATCH", "OPTIONS", "PROPFIND", "GETT", "get", "HEAD"])("method %s", async (method) => {
    const answer = await raw(head(method, "/v1/score/fraud", ["content-length: 0"]));
    // CONNECT is refused by closing.
    if (answer.status !== null) checkAnswer(answer, method);
    await stillServes();
  });
});

describe("a connection", () => {
  it("that sends calls without waiting is answered each once and in their order, and errors between end none of them", async () => {
    const count = 60;
    // Calls that no host turns away, however busy: what is held to here is their framing.
    const calls = Array.from({ length: count }, (_, i) => {
      const body = "x".repeat(i * 37);
      const [method, path] = i % 3 === 0 ? ["POST", "/v1/nothing"] : ["GET", "/health"];
      const headers = [`x-request-id: call-${i}`, ...(i === count - 1 ? ["connection: close"] : [])];
      const length = method === "POST" ? [`content-length: ${body.length}`] : [];
      const lines = [`${method} ${path} HTTP/1.1`, "host: localhost", ...headers, ...length, "", ""];
      return lines.join("\r\n") + (method === "POST" ? body : "");
    });
    const socket = connect(port, "127.0.0.1");
    let text = "";
    const ended = new Promise((resolve) => socket.on("close", resolve));
    socket.on("data", (bytes) => {
      text += bytes.toString("latin1");
    });
    // Cut anywhere, in the middle of headers and bodies.
    const bytes = Buffer.from(calls.join(""));
    for (let at = 0; at < bytes.length; at += 997) socket.write(bytes.subarray(at, at + 997));
    await ended;
    const answers = [...text.matchAll(/HTTP\/1\.1 (\d{3})[\s\S]*?x-request-id: call-(\d+)/g)];
    expect(answers.map(([, status, n]) => [Number(n), status])).toEqual(
      calls.map((_, i) => [i, i % 3 === 0 ? "404" : "200"]),
    );
    await stillServes();
  });

  it.each([
    ["another protocol's greeting", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    ["a TLS greeting", Buffer.from("160301020001000001fc0303", "hex")],
    ["an HTTP/0.9 call", "GET /health\r\n\r\n"],
    ["a version of its own", "GET /health HTTP/9.9\r\nhost: localhost\r\n\r\n"],
    ["no host", "GET /health HTTP/1.1\r\n\r\n"],
    ["zeros", Buffer.alloc(4_096)],
    ["a store's protocol", "*1\r\n$8\r\nFLUSHALL\r\n"],
  ])("that speaks otherwise is refused or closed: %s", async (name, bytes) => {
    const answer = await raw(bytes);
    if (answer.status !== null) checkAnswer(answer, name);
    await stillServes();
  });

  it.each([
    ["websocket", ["connection: upgrade", "upgrade: websocket", "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA=="]],
    ["h2c", ["connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQAAP__"]],
  ])("that asks for %s goes on with what it has", async (name, headers) => {
    const start = ["GET /health HTTP/1.1", "host: localhost", ...headers, "", ""].join("\r\n");
    const answer = await raw(start);
    if (answer.status !== null) checkAnswer(answer, name);
    await stillServes();
  });

  it("whose chunks have extensions and trailers is read, and their size is bounded", async () => {
    const body = JSON.stringify(scorable);
    const chunked = head("POST", "/v1/score/fraud", ["content-type: application/json", "transfer-encoding: chunked"]);
    const size = body.length.toString(16);
    const good = await raw(chunked, `${size};name="value"\r\n${body}\r\n0\r\nx-api-key: another\r\n\r\n`);
    expect(good.status).toBe(200);
    const long = await raw(chunked, `${size};${"x".repeat(200_000)}\r\n${body}\r\n0\r\n\r\n`);
    if (long.status !== null) checkAnswer(long, "a long extension");
    const many = Array.from({ length: 5_000 }, (_, i) => `x-t${i}: ${i}\r\n`).join("");
    const trailed = await raw(chunked, `${size}\r\n${body}\r\n0\r\n${many}\r\n`);
    if (trailed.status !== null) checkAnswer(trailed, "many trailers");
    await stillServes();
  });
});

describe("request smuggling: no second request is ever answered", () => {
  const hidden = "GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n";
  const shapes: Record<string, readonly string[]> = {
    "a length and chunks": [`content-length: ${4 + hidden.length}`, "transfer-encoding: chunked"],
    "two lengths": ["content-length: 2", `content-length: ${2 + hidden.length}`],
    "a length with a sign": [`content-length: +${2 + hidden.length}`],
    "a length in a list": ["content-length: 2, 2"],
    "chunked behind a tab": ["transfer-encoding:\tchunked", "content-length: 5"],
    "chunked twice": ["transfer-encoding: chunked", "transfer-encoding: identity"],
    "an encoding that is no chunked": ["transfer-encoding: xchunked"],
    "a blank before the colon": ["transfer-encoding : chunked", "content-length: 5"],
  };
  it.each(Object.entries(shapes))("%s", async (name, headers) => {
    const start = ["POST /health HTTP/1.1", "host: localhost", ...headers, "", ""].join("\r\n");
    const answer = await raw(start, `0\r\n\r\n${hidden}`);
    expect(answer.text, name).not.toContain('"openapi"');
    if (answer.status !== null) checkAnswer(answer, name);
    await stillServes();
  });
});

describe("slow clients", () => {
  it("a body that trickles is given up in time, and holds nobody up meanwhile", async () => {
    const sockets = Array.from({ length: 20 }, () => connect(port, "127.0.0.1"));
    const ends = sockets.map((socket, i) => {
      let text = "";
      socket.on("error", () => {});
      socket.on("data", (bytes) => {
        text += bytes.toString();
      });
      // Half of them never end their headers, half never their body.
      if (i % 2 === 0)
        socket.write(head("POST", "/v1/score/fraud", ["content-type: application/json", "content-length: 100000"]));
      else socket.write("POST /v1/score/fraud HTTP/1.1\r\nhost: localhost\r\n");
      const drip = setInterval(() => socket.writable && socket.write(i % 2 === 0 ? " " : "x: y\r\n"), 100);
      return new Promise<string>((resolve) =>
        socket.on("close", () => {
          clearInterval(drip);
          resolve(text);
        }),
      );
    });
    await stillServes();
    for (const text of await Promise.all(ends)) {
      if (text !== "") checkAnswer({ status: Number(text.slice(9, 12)), text }, "a slow client");
    }
    await stillServes();
  });

  it("a client that goes away in the middle of its body is no fault of ours", async () => {
    for (let i = 0; i < 20; i++) {
      const socket = connect(port, "127.0.0.1");
      socket.on("error", () => {});
      socket.write(head("POST", PATHS[i % PATHS.length], ["content-type: application/json", "content-length: 1000"]));
      socket.write('{"card_id":');
      await new Promise((resolve) => setTimeout(resolve, 5));
      socket.destroy();
    }
    await stillServes();
  });
});
