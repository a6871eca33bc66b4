/** Pushed values on a real Valkey: the newest of each feature wins, whatever the order, and is read with its status. */
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { bucketOf, pushedKey } from "../../../adapters/valkey/layout.ts";
import { isNewer, packValues, unpackValues } from "../../../adapters/valkey/packed.ts";
import { pushRows } from "../../../adapters/valkey/push.ts";
import { createReader } from "../../../adapters/valkey/reader.ts";
import type { BatchView } from "../../../core/plan.ts";
import { naiveRead } from "../../support/naive-pushed.ts";
import { pushedPlan, riskValues, riskView, rowOf, sizeView } from "../../support/pushed-plan.ts";
import { openStore, type TestStore } from "../../support/store.ts";
import { startValkey, type TestValkey } from "../../support/valkey.ts";

const HOUR = 3_600_000;
let valkey: TestValkey;
let store: TestStore;
let reader: ReturnType<typeof createReader>;
let tenants = 0;

beforeAll(async () => {
  valkey = await startValkey();
  store = await openStore(pushedPlan, valkey, Date.now() - HOUR);
  reader = createReader(pushedPlan, { host: valkey.host, port: valkey.port, timeoutMs: 5_000 });
});
afterAll(async () => {
  await reader?.close();
  await store?.connection.close();
  await valkey?.stop();
});

async function read(view: BatchView, tenant: string, asOfMs: number, id = "s1") {
  const features = view.features.map(({ name }) => name);
  const [{ values, degraded }] = await reader.read([{ tenant, entity: "shop", id, features }], asOfMs);
  expect(degraded).toBeNull();
  return values;
}

describe("of what was pushed", () => {
  it("each feature has its newest value, whatever order and repetition", async () => {
    const start = Date.now();
    const pushes = fc.array(fc.record({ ageMs: fc.nat(6).map((n) => n * HOUR), values: riskValues }), {
      minLength: 1,
      maxLength: 12,
    });
    await fc.assert(
      fc.asyncProperty(pushes, fc.infiniteStream(fc.nat()), fc.nat(3), async (given, order, trips) => {
        const tenant = `t${tenants++}`;
        const rows = [...given, ...given.slice(0, 3)]
          .map((each) => ({ each, at: order.next().value as number }))
          .sort((a, b) => a.at - b.at)
          .map(({ each }) => rowOf(riskView, tenant, "s1", start - each.ageMs, each.values));
        const size = Math.ceil(rows.length / (trips + 1));
        for (let at = 0; at < rows.length; at += size) await pushRows(store.applier, rows.slice(at, at + size));
        const all = given.map(({ ageMs, values }) => ({ eventTimeMs: start - ageMs, visibleMs: start, values }));
        for (const aheadMs of [0, 2 * HOUR, 2 * HOUR + 1, 20 * HOUR, 26 * HOUR - 1, 26 * HOUR]) {
          expect(await read(riskView, tenant, start + aheadMs)).toEqual(naiveRead(riskView, all, start + aheadMs));
        }
      }),
      { numRuns: 150 },
    );
  });

  it("views of one entity are one hash, read together with its windows, and stay for the greatest reach", async () => {
    const now = Date.now();
    await pushRows(store.applier, [
      rowOf(riskView, "both", "s1", now - HOUR, { n: 3 }),
      rowOf(sizeView, "both", "s1", now - 2 * HOUR, { staff: 7 }),
    ]);
    const features = ["size:staff", "activity:payments_1h", "risk:n", "risk:rate"];
    const [{ values }] = await reader.read([{ tenant: "both", entity: "shop", id: "s1", features }], now);
    expect(values).toEqual([
      { value: 7, status: "PRESENT", eventTimeMs: now - 2 * HOUR },
      { value: null, status: "NOT_FOUND", eventTimeMs: null },
      { value: 3, status: "PRESENT", eventTimeMs: now - HOUR },
      { value: null, status: "NOT_FOUND", eventTimeMs: null },
    ]);
    const key = pushedKey(bucketOf("both", "shop", "s1"), "both", "shop", "s1");
    const [fields, expiry] = await store.connection.demand([
      { key, name: "HKEYS", args: [key] },
      { key, name: "PEXPIRETIME", args: [key] },
    ]);
    expect((fields as Buffer[]).map(String).sort()).toEqual(["#", "risk", "size"]);
    expect(expiry).toBe(now - HOUR + 26 * HOUR);
    expect(await read(riskView, "other", now)).toEqual(naiveRead(riskView, [], now));
  });

  it("a value too far ahead is refused, and its neighbours are not", async () => {
    const now = Date.now();
    const rows = [50_000, 70_000].map((aheadMs, i) => rowOf(riskView, "ahead", `s${i}`, now + aheadMs, { n: 1 }));
    const [near, far] = await pushRows(store.applier, rows);
    expect(near).toBeGreaterThanOrEqual(now);
    expect(far).toBeNull();
    expect((await read(riskView, "ahead", now, "s1")).map(({ status }) => status)).toEqual(
      riskView.features.map(() => "NOT_FOUND"),
    );
  });

  it("nothing is taken by a store that is being restored", async () => {
    await store.controls.setState(1, ["ok"], "restoring");
    await expect(pushRows(store.applier, [rowOf(riskView, "epoch", "s1", Date.now(), { n: 1 })])).rejects.toMatchObject(
      {
        code: "store_not_ready",
      },
    );
    await store.controls.setState(1, ["restoring"], "ok");
  });
});

describe("packed values", () => {
  it("have these bytes, for ever", () => {
    const values = [
      { id: 0, dtype: "int64", value: -2 },
      { id: 1, dtype: "int64", value: 1 },
      { id: 2, dtype: "double", value: 0.5 },
      { id: 3, dtype: "string", value: "é" },
      { id: 300, dtype: "boolean", value: true },
      { id: 301, dtype: "double", value: null },
    ] as const;
    const bytes = packValues([...values].reverse(), 1_700_000_000_000);
    const time = "0068e5cf8b01";
    expect(bytes.toString("hex")).toBe(
      [
        "01",
        `${time}00000202feffffffffffffff0100000000000000`,
        `${time}02000103000000000000e03f`,
        `${time}030001040200c3a9`,
        `${time}2c01010101`,
        `${time}2d010100`,
      ].join(""),
    );
    expect([...unpackValues(bytes)].map(([id, { value }]) => [id, value])).toEqual(
      values.map(({ id, value }) => [id, value]),
    );
  });

  it("at one time are ordered by their hashes, one way", () => {
    const [a, b] = [1, 2].map((value) => ({ id: 0, dtype: "int64" as const, value, eventTimeMs: 5 }));
    expect(isNewer(a, b)).toBe(!isNewer(b, a));
    expect(isNewer(a, { ...a })).toBe(false);
    expect(isNewer({ ...a, eventTimeMs: 6 }, b)).toBe(true);
  });

  it("refuse what is no value of their type", () => {
    const pack = (dtype: "int64" | "double" | "string" | "boolean", value: never) => () =>
      packValues([{ id: 0, dtype, value }], 1);
    expect(pack("int64", (2 ** 53) as never)).toThrow(
      "a value of type int64 is a whole number within 2^53 of zero, given 9007199254740992",
    );
    expect(pack("double", Number.NaN as never)).toThrow("a number is finite");
    expect(pack("boolean", 1 as never)).toThrow("a value of type boolean is a boolean, given a number");
    expect(pack("string", "x".repeat(65_536) as never)).toThrow("a text has at most 65535 bytes, given 65536");
    expect(() => unpackValues(Buffer.from([9]))).toThrow("pushed values have version 9, this reader knows 1");
  });
});
