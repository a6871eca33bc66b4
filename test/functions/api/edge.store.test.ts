/**
 * The HTTP edge under bytes that no client means to send: every answer is one of ours, in time, and says nothing of the
 * inside; and afterwards the server still serves. Bodies: edge-bodies.store.test.ts.
 */
import { describe, expect, it } from "vitest";
import { scorable } from "./contract/contract-calls.ts";
import { checkAnswer, head, open, PATHS, raw, stillServes, useEdge } from "./edge-host.ts";

useEdge();

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

  it("with an escape that is no UTF-8 are refused; it is not the text of an id", async () => {
    for (const path of [
      "/v1/features/card/%ff",
      "/v1/features/card/%zz",
      "/v1/features/card/c?x=%",
      "/v1/audit?after=%c0",
    ]) {
      const { status, text } = await raw(head("GET", path, []));
      expect([path, status, text]).toEqual([path, 400, expect.stringContaining('"code":"url_encoding"')]);
    }
    expect((await raw(head("GET", "/v1/features/card/100%25%C3%A4", []))).status).toBe(200);
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
    const socket = open();
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
    const sockets = Array.from({ length: 20 }, () => open());
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
      const socket = open();
      socket.on("error", () => {});
      socket.write(head("POST", PATHS[i % PATHS.length], ["content-type: application/json", "content-length: 1000"]));
      socket.write('{"card_id":');
      await new Promise((resolve) => setTimeout(resolve, 5));
      socket.destroy();
    }
    await stillServes();
  });
});
