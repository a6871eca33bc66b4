import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { ControlTable } from "../../../adapters/control-table/control-table.ts";
import type { Lock } from "../../../core/compile/compile.ts";
import { type FaultProxy, startAwsFaultProxy } from "../../../local/faults/aws-proxy.ts";
import { createTable, startEmulator, type TestEmulator, testClients } from "../../harness/emulator.ts";

let emulator: TestEmulator;
let proxy: FaultProxy;
let table: ControlTable;
let name: string;
let tables = 0;

beforeAll(async () => {
  emulator = await startEmulator();
  proxy = await startAwsFaultProxy(emulator.url);
});
beforeEach(async () => {
  name = `control-${tables++}`;
  await createTable(emulator.url, name);
  table = new ControlTable({ table: name, dynamodb: testClients(proxy.url).dynamodb });
});
afterEach(() => proxy.use(null));
afterAll(async () => {
  await proxy?.stop();
  await emulator?.stop();
});

describe("the store's record", () => {
  test("is absent, then creating, then ready", async () => {
    expect(await table.getStore()).toBeNull();
    expect(await table.beginStore(7)).toEqual({ epoch: 7, state: "creating" });
    expect(await table.getStore()).toEqual({ epoch: 7, state: "creating" });
    await table.finishStore(7);
    expect(await table.getStore()).toEqual({ epoch: 7, state: "ready" });
  });

  test("two beginners get one store", async () => {
    const [a, b] = await Promise.all([table.beginStore(1), table.beginStore(2)]);
    expect(a).toEqual(b);
  });

  test("beginning does not touch a store that is ready", async () => {
    await table.beginStore(1);
    await table.finishStore(1);
    expect(await table.beginStore(2)).toEqual({ epoch: 1, state: "ready" });
  });

  test("finishing twice is finishing once", async () => {
    await table.beginStore(1);
    await table.finishStore(1);
    await table.finishStore(1);
    expect(await table.getStore()).toEqual({ epoch: 1, state: "ready" });
  });

  test("another epoch cannot be finished, nor one that was never begun", async () => {
    await expect(table.finishStore(3)).rejects.toMatchObject({
      code: "control_epoch_conflict",
      message: "store epoch 3 cannot be finished: no store was begun",
    });
    expect(await table.getStore()).toBeNull();
    await table.beginStore(1);
    await expect(table.finishStore(2)).rejects.toThrow("store epoch 2 cannot be finished: epoch 1 stands");
    expect(await table.getStore()).toEqual({ epoch: 1, state: "creating" });
  });

  test("a begin whose answer is lost has begun its own store", async () => {
    let lost = false;
    proxy.use(({ operation }) => {
      if (operation !== "PutItem" || lost) return null;
      lost = true;
      return { kind: "lose-answer" };
    });
    expect(await table.beginStore(5)).toEqual({ epoch: 5, state: "creating" });
    expect(lost).toBe(true);
  });
});

describe("a stream's record", () => {
  test("keeps the first creation that was put", async () => {
    expect(await table.getStream("transactions")).toBeNull();
    const first = { createdAtMs: 1_795_248_000_000, seal0: 29_920_786 };
    expect(await table.putStream("transactions", first)).toEqual(first);
    expect(await table.putStream("transactions", { createdAtMs: 1, seal0: 2 })).toEqual(first);
    expect(await table.getStream("transactions")).toEqual(first);
    expect(await table.getStream("clicks")).toBeNull();
  });
});

test("an unreachable table is an infrastructure failure that names it", async () => {
  proxy.use(() => ({ kind: "error", status: 500, code: "InternalServerError" }));
  await expect(table.getStore()).rejects.toMatchObject({
    name: "InfrastructureError",
    code: "control_table_unavailable",
    message: `reading control table ${name} failed: InternalServerError (HTTP 500)`,
  });
  await expect(table.putStream("s", { createdAtMs: 1, seal0: 1 })).rejects.toThrow(
    `writing control table ${name} failed: InternalServerError (HTTP 500)`,
  );
});

describe("a stream's lease", () => {
  const until = (holder: string, expiresMs: number) => ({ holder, expiresMs });

  test("has one holder at a time, who may renew it", async () => {
    expect(await table.getLease("payments")).toBeNull();
    expect(await table.takeLease("payments", until("build a", 1_000), 0)).toBe(true);
    expect(await table.takeLease("payments", until("repair b", 9_000), 999)).toBe(false);
    expect(await table.takeLease("payments", until("build a", 2_000), 999)).toBe(true);
    expect(await table.getLease("payments")).toEqual(until("build a", 2_000));
    expect(await table.takeLease("clicks", until("repair b", 9_000), 999)).toBe(true);
  });

  test("goes to another when it has expired or was given back by its holder alone", async () => {
    await table.takeLease("payments", until("build a", 1_000), 0);
    await table.releaseLease("payments", "repair b");
    expect(await table.takeLease("payments", until("repair b", 5_000), 500)).toBe(false);
    await table.releaseLease("payments", "build a");
    expect(await table.takeLease("payments", until("repair b", 5_000), 500)).toBe(true);
    expect(await table.takeLease("payments", until("build a", 9_000), 5_000)).toBe(true);
  });
});

test("rounds that are abandoned add up, whoever tells of them at the same time", async () => {
  expect(await table.getAbandoned()).toEqual([]);
  await Promise.all([table.abandonRounds({ beforeEpoch: 2 }), table.abandonRounds({ after: "r1", beforeUs: 7 })]);
  const told = await table.getAbandoned();
  expect(told).toHaveLength(2);
  expect(told).toEqual(expect.arrayContaining([{ beforeEpoch: 2 }, { after: "r1", beforeUs: 7 }]));
});

test("the lock that the store was filled under is replaced by whoever read the one that stands", async () => {
  const lock = (id: number): Lock => ({ version: 1, groups: { g: { id, baseMs: 60_000, levels: {}, slots: {} } } });
  expect(await table.getLock()).toBeNull();
  await table.putLock(lock(1), null);
  await table.putLock(lock(2), null);
  expect(await table.getLock()).toEqual(lock(1));
  await table.putLock(lock(3), lock(1));
  await table.putLock(lock(4), lock(1));
  expect(await table.getLock()).toEqual(lock(3));
});
