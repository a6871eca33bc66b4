/** Bodies that no client means to send, to every path that takes one. Seeded: a failure prints its seed and the request. */
import { brotliCompressSync, deflateSync, gzipSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { scorable, transaction } from "./contract/contract-calls.ts";
import { CHANGES, checkAnswer, head, PATHS, post, raw, stillServes, useEdge } from "./edge-host.ts";

useEdge();

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

  it("compressed ones are read; a bomb is not unpacked, and what is coded otherwise is refused", async () => {
    const score = (body: Buffer, coding: string) =>
      post("/v1/score/fraud", body, ["content-type: application/json", `content-encoding: ${coding}`]);
    const text = Buffer.from(JSON.stringify(scorable));
    const bomb = gzipSync(Buffer.alloc(50_000_000, 0x20));
    const cases: [string, Buffer, number, string | null][] = [
      ["gzip", gzipSync(text), 200, null],
      ["X-GZip", gzipSync(text), 200, null],
      ["deflate", deflateSync(text), 200, null],
      ["identity", text, 200, null],
      ["gzip", bomb, 413, "body_too_large"],
      ["deflate", deflateSync(Buffer.alloc(50_000_000, 0x20)), 413, "body_too_large"],
      ["gzip", text, 400, "body_coding"],
      ["gzip", gzipSync(text).subarray(0, -6), 400, "body_coding"],
      ["deflate", gzipSync(text), 400, "body_coding"],
      ["gzip", gzipSync(Buffer.from("{")), 400, "malformed_json"],
      ["br", brotliCompressSync(text), 415, "content_encoding_unsupported"],
      ["zstd", text, 415, "content_encoding_unsupported"],
      ["gzip, gzip", gzipSync(gzipSync(text)), 415, "content_encoding_unsupported"],
    ];
    for (const [coding, body, status, code] of cases) {
      const answer = await score(body, coding);
      checkAnswer(answer, coding);
      const told = /"code":"(\w+)"/.exec(answer.text)?.[1] ?? null;
      expect([coding, answer.status, told]).toEqual([coding, status, code]);
    }
    // Not said to be compressed.
    expect((await post("/v1/score/fraud", bomb)).status).toBe(400);
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
