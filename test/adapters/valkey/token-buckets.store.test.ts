/** The script against the model in core, on a real Valkey. */
import fc from "fast-check";
import { Redis } from "iovalkey";
import { afterAll, beforeAll, expect, it } from "vitest";
import { ValkeyConnection } from "../../../adapters/valkey/connection.ts";
import { createTokenBuckets, limitKey } from "../../../adapters/valkey/token-buckets.ts";
import { type Bucket, charge, FULL, settle, shortageOf } from "../../../core/token-bucket.ts";
import { startValkey, type TestValkey } from "../../support/valkey.ts";

let valkey: TestValkey;
let admin: Redis;
let connection: ValkeyConnection;
const store = { charge: (request: any) => createTokenBuckets(connection).charge({ routeClass: "score", ...request }) };

beforeAll(async () => {
  valkey = await startValkey();
  admin = new Redis({ host: valkey.host, port: valkey.port });
  admin.on("error", () => {});
  connection = new ValkeyConnection({ host: valkey.host, port: valkey.port });
});
afterAll(async () => {
  admin?.disconnect();
  await connection?.close();
  await valkey?.stop();
});

it("decides and keeps as the model does, at the store's own instants", async () => {
  const step = fc.record({
    spent: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 40 })),
    cost: fc.integer({ min: 0, max: 30 }),
  });
  const limit = fc.record({
    perSecond: fc.constantFrom(0.7, 3, 1_000, 200_000),
    burst: fc.integer({ min: 1, max: 30 }),
    perDay: fc.option(fc.integer({ min: 1, max: 100 }), { nil: null }),
  });
  let runs = 0;
  await fc.assert(
    fc.asyncProperty(limit, fc.array(step, { minLength: 1, maxLength: 25 }), async (limit, steps) => {
      const tenant = `model-${runs++}`;
      let model: Bucket = FULL;
      for (const { spent, cost } of steps) {
        const { admitted, bucket, nowUs } = await store.charge({ tenant, limit, spent, cost });
        model = settle(model, limit, spent, nowUs);
        const expected = cost > 0 && shortageOf(model, limit, cost, nowUs) === null;
        if (expected) model = charge(model, limit, cost, nowUs);
        expect(admitted).toBe(expected);
        // A key that said nothing more may be gone: what it said lay in the past.
        expect(Math.max(bucket.fullAtUs, nowUs)).toBe(Math.ceil(Math.max(model.fullAtUs, nowUs)));
        if (limit.perDay !== null) expect(bucket.usedToday).toBe(model.usedToday);
      }
    }),
    { numRuns: 40 },
  );
});

it("costs nothing once it is full again, and keeps a day's use until midnight", async () => {
  const brief = { perSecond: 1_000, burst: 10, perDay: null };
  await store.charge({ tenant: "idle", limit: brief, spent: 0, cost: 5 });
  expect(await admin.pttl(limitKey("idle", "score"))).toBeLessThanOrEqual(7);
  await expect.poll(() => admin.exists(limitKey("idle", "score"))).toBe(0);
  await store.charge({ tenant: "daily", limit: { ...brief, perDay: 100 }, spent: 0, cost: 5 });
  const left = await admin.pttl(limitKey("daily", "score"));
  expect(left).toBeGreaterThan(0);
  expect(Math.abs(left - (86_400_000 - (Date.now() % 86_400_000)))).toBeLessThan(2_000);
});

it("writes nothing for what it refuses", async () => {
  const limit = { perSecond: 0.001, burst: 3, perDay: null };
  expect((await store.charge({ tenant: "full", limit, spent: 0, cost: 3 })).admitted).toBe(true);
  const before = await admin.hgetBuffer(limitKey("full", "score"), "b");
  expect((await store.charge({ tenant: "full", limit, spent: 0, cost: 1 })).admitted).toBe(false);
  expect(await admin.hgetBuffer(limitKey("full", "score"), "b")).toEqual(before);
});

it("keeps tenants and route classes apart", async () => {
  const limit = { perSecond: 0.001, burst: 1, perDay: null };
  const ask = (tenant: string, routeClass: string) => store.charge({ tenant, routeClass, limit, spent: 0, cost: 1 });
  expect((await ask("a", "score")).admitted).toBe(true);
  expect((await ask("a", "score")).admitted).toBe(false);
  expect((await ask("a", "read")).admitted).toBe(true);
  expect((await ask("b", "score")).admitted).toBe(true);
});

it("goes on with a server that has forgotten the script", async () => {
  const limit = { perSecond: 0.001, burst: 2, perDay: null };
  await store.charge({ tenant: "forgotten", limit, spent: 0, cost: 1 });
  await admin.script("FLUSH");
  expect((await store.charge({ tenant: "forgotten", limit, spent: 0, cost: 1 })).admitted).toBe(true);
  expect((await store.charge({ tenant: "forgotten", limit, spent: 0, cost: 1 })).admitted).toBe(false);
});

it("says so when the store cannot take a write", async () => {
  await admin.config("SET", "maxmemory", "1");
  const limit = { perSecond: 1, burst: 2, perDay: null };
  await expect(store.charge({ tenant: "oom", limit, spent: 0, cost: 1 })).rejects.toMatchObject({ code: "store_full" });
  await admin.config("SET", "maxmemory", "0");
});
