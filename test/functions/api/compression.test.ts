import { brotliDecompressSync, gunzipSync } from "node:zlib";
import { Hono } from "hono";
import { describe, expect, it } from "vitest";
import { compress, encodingFor } from "../../../functions/api/compression.ts";
import { createAuthenticator } from "../../../functions/api/keys/keys.ts";
import { createPrometheusTelemetry } from "../../../functions/api/observability/telemetry.ts";
import { createRouter } from "../../../functions/api/router.ts";
import { memoryKeyStore } from "./doubles.ts";

const text = (length: number) => JSON.stringify({ text: "ü".repeat(length) });
const open = { br: brotliDecompressSync, gzip: gunzipSync };

it.each([
  ["gzip, deflate, br, zstd", "br"],
  ["gzip, deflate", "gzip"],
  ["GZIP;Q=0.5, br;q=0.4", "gzip"],
  ["br;q=0, gzip", "gzip"],
  ["br;q=0, gzip;q=0.0", null],
  ["*", "br"],
  ["*;q=0", null],
  ["*, br;q=0", "gzip"],
  ["identity", null],
  ["identity;q=1, gzip;q=0.5", null],
  ["deflate, zstd", null],
  ["", null],
  ["gzip;q=nonsense", null],
  [",;=,;q,gzip", "gzip"],
])("%j takes %s", (accepted, encoding) => {
  expect(encodingFor(accepted)).toBe(encoding);
});

it.each([2_000, 200_000])("what was compressed is what was to be sent, of %i characters", async (length) => {
  for (const encoding of ["br", "gzip"] as const) {
    const compressed = await compress(encoding, text(length));
    expect(compressed?.encoding).toBe(encoding);
    expect(compressed!.body.length).toBeLessThan(length / 2);
    expect(open[encoding](compressed!.body).toString()).toBe(text(length));
  }
});

describe("answers", () => {
  async function answer(length: number, accepted: string | null, compresses: boolean) {
    const app = new Hono();
    const authenticate = createAuthenticator(memoryKeyStore(), () => 0);
    const register = createRouter(app, {
      authenticate,
      telemetry: createPrometheusTelemetry(),
      onError: () => {},
      audit: null,
      compresses,
    });
    register("GET", "/", null, () => ({ status: 200, body: text(length), headers: { "x-own": "1" } }));
    const reply = await app.request("/", { headers: accepted === null ? {} : { "accept-encoding": accepted } });
    const { headers } = reply;
    const bytes = Buffer.from(await reply.arrayBuffer());
    return { encoding: headers.get("content-encoding"), vary: headers.get("vary"), own: headers.get("x-own"), bytes };
  }

  it("are compressed when they are long and it is asked for", async () => {
    const { encoding, vary, own, bytes } = await answer(5_000, "gzip", true);
    expect([encoding, vary, own]).toEqual(["gzip", "accept-encoding", "1"]);
    expect(gunzipSync(bytes).toString()).toBe(text(5_000));
  });

  it.each([
    ["it is not asked for", 5_000, null, true, "accept-encoding"],
    ["they are short", 500, "gzip", true, null],
    ["something before this host does it", 5_000, "gzip", false, null],
  ])("are sent as they are when %s", async (_, length, accepted, compresses, vary) => {
    const reply = await answer(length, accepted, compresses);
    expect([reply.encoding, reply.vary, reply.bytes.toString()]).toEqual([null, vary, text(length)]);
  });
});
