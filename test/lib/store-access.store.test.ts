/** The access strings of the store's users, on a real server: the engine runs within them, and what they keep out stays out. */
import { Redis } from "iovalkey";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { StoreApplier } from "../../adapters/valkey/applier.ts";
import { ValkeyConnection } from "../../adapters/valkey/connection.ts";
import { birthsOf, ControlHashes } from "../../adapters/valkey/control.ts";
import { storeMoment, walkHashes } from "../../adapters/valkey/hash-walk.ts";
import { controlKey } from "../../adapters/valkey/layout.ts";
import { dropOldLibraries } from "../../adapters/valkey/libraries.ts";
import { encodePut } from "../../adapters/valkey/put.ts";
import { createReader } from "../../adapters/valkey/reader.ts";
import { RecordPacker } from "../../adapters/valkey/record.ts";
import { addToStats } from "../../adapters/valkey/stats.ts";
import { sweep } from "../../adapters/valkey/sweeper.ts";
import { createTokenBuckets } from "../../adapters/valkey/token-buckets.ts";
import { Watermark } from "../../adapters/valkey/watermark.ts";
import { accept, beginRestore, controlStep } from "../../functions/shared/control-loop.ts";
import { READER_ACCESS, WRITER_ACCESS } from "../../lib/constructs/store-access.ts";
import { compiled } from "../support/fixture-plan.ts";
import { MemoryControlTable } from "../support/memory-control-table.ts";
import { startValkey, type TestValkey } from "../support/valkey.ts";

const { plan, lock } = compiled;
const NOW = Date.UTC(2026, 0, 5, 22, 17);
const event = { id: "e1", at: NOW, card: "c1", shop: "s1", amount: 12.5, country: "NO", online: true };
const feature = plan.views.find(({ name }) => name === "everything")!.features[0].name;
const entity = plan.views.find(({ name }) => name === "everything")!.entity;
let valkey: TestValkey;
let admin: Redis;

beforeAll(async () => {
  valkey = await startValkey();
  admin = new Redis({ host: valkey.host, port: valkey.port });
  for (const [user, access] of [
    ["reader", READER_ACCESS],
    ["writer", WRITER_ACCESS],
  ]) {
    await admin.call("ACL", "SETUSER", user, "reset", `>${user}-secret`, ...access.split(" "));
  }
});
afterAll(async () => {
  admin?.disconnect();
  await valkey?.stop();
});

const optionsOf = (user: string) => ({
  host: valkey.host,
  port: valkey.port,
  user,
  password: async () => `${user}-secret`,
});

async function as(user: string, command: string, ...args: string[]): Promise<unknown> {
  const client = new Redis({ host: valkey.host, port: valkey.port, username: user, password: `${user}-secret` });
  try {
    return await client.call(command, ...args);
  } finally {
    client.disconnect();
  }
}

describe("the writer", () => {
  test("does all that aggregate, control, sweep and build do, and a restore", async () => {
    const connection = new ValkeyConnection(optionsOf("writer"));
    try {
      const controls = new ControlHashes(connection, plan);
      const applier = new StoreApplier(connection, plan, 1);
      const watermark = new Watermark(connection);
      await applier.loadFunction();
      await admin.call("FUNCTION", "LOAD", "#!lua name=freshet_old\nserver.register_function('old', function() end)");
      expect(await dropOldLibraries(connection, applier.library)).toBe(1);
      await controls.create(
        1,
        new Map(plan.groups.map((group) => [group.name, { sealMs: NOW - 3_600_000, births: birthsOf(group, 0) }])),
      );
      await controls.setState(1, ["new"], "ok");
      await watermark.begin("payments", NOW);
      const span = { shard: "shard-0", firstSequence: "1", firstArrivalMs: NOW, lastSequence: "1" };
      const stamp = await watermark.register("payments", span);
      const prepared = new RecordPacker(plan, "payments").prepare("default", event.id, NOW, event);
      const { fates } = await applier.apply([prepared]);
      expect(fates[0].map(({ fate }) => fate)).toEqual(fates[0].map(() => "applied"));
      await watermark.clear("payments", "shard-0", ["1"], NOW, null, stamp);
      for (const group of plan.groups) {
        await controls.putGroup(group, { sealMs: NOW + 60_000, births: birthsOf(group, 0) });
      }
      // A build: the store's clock, then a put over what is there, with a tile to delete and one to write.
      const [node] = await connection.primaries();
      const [seconds] = await node.time();
      const [group] = plan.groups;
      const header = { sealIndex: Math.floor((NOW + 60_000) / group.baseMs), generation: Number(seconds), whole: true };
      const blob = encodePut(group, { ...header, fromIndex: 0, newestMs: NOW }, []);
      const { bucket, key: entity } = prepared.updates.find(({ groupId }) => groupId === group.id)!;
      expect(await applier.put([{ bucket, puts: [{ key: entity, blob }] }])).toEqual([["put"]]);
      const at = { epoch: 1, sealIndex: header.sealIndex, fromIndex: 0 };
      expect(await controls.complete(group, [bucket], at, [])).toEqual([true]);
      const stats = { events: 1, applied: 1, duplicates: 0, late: 0, quarantined: 0, arrivalMs: NOW, visibleMs: NOW };
      await addToStats(connection, "payments", stats);
      const swept = await sweep(connection, applier, plan, Date.now() + 30_000);
      expect(swept).toMatchObject({ complete: true, touched: fates[0].length - 1 });
      expect(await connection.runId("{0}")).toMatch(/^[0-9a-f]{40}$/);

      // The store loses a control hash and is restored: the same user takes away what is left and opens the next epoch.
      const table = new MemoryControlTable();
      table.store = { epoch: 1, state: "ready" };
      const loadFunction = () => applier.loadFunction();
      const ports = {
        plan,
        lock,
        controls,
        watermark,
        table: table.port,
        imports: async () => 0,
        timeoutMs: 60_000,
        loadFunction,
      };
      const key = prepared.updates[0].key;
      expect(await admin.exists(key)).toBe(1);
      await admin.del(controlKey(7));
      expect(await controlStep(ports, {}, NOW)).toMatchObject({ epoch: 1, state: "lost" });
      expect(await beginRestore(ports, NOW)).toBe(2);
      expect(await admin.exists(key)).toBe(0);
      const replay = new StoreApplier(connection, plan, 2, { replaying: true });
      expect((await replay.apply([prepared])).fates[0].every(({ fate }) => fate === "applied")).toBe(true);
      await accept(ports, undefined, NOW);
      expect(await controlStep(ports, {}, NOW)).toMatchObject({ epoch: 2, state: "ok" });
      expect(await controls.lacksPushed()).toBe(true);
      await controls.pushedIsBack([...(await controls.pushedMarks()).values()]);
    } finally {
      await connection.close();
    }
  });

  test.each([
    ["FLUSHALL"],
    ["FLUSHDB"],
    ["SWAPDB", "0", "1"],
    ["FUNCTION", "FLUSH"],
    ["SCRIPT", "FLUSH"],
    ["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"],
    ["KEYS", "*"],
    ["SHUTDOWN"],
    ["ACL", "LIST"],
    ["SET", "k", "v"],
  ])("may not %s", async (command, ...args) => {
    await expect(as("writer", command, ...args)).rejects.toThrow(/^NOPERM/);
  });
});

describe("the reader", () => {
  test("reads features and the store's state", async () => {
    const reader = createReader(plan, { ...optionsOf("reader"), timeoutMs: 5_000 });
    try {
      const [answer] = await reader.read([{ tenant: "default", entity, id: "c1", features: [feature] }], NOW + 1_000);
      expect(answer.values[0]).toMatchObject({ status: "PRESENT" });
      expect(await reader.state()).toMatchObject({ reachable: true, control: "ok" });
    } finally {
      await reader.close();
    }
  });

  test("walks the store for snapshots", async () => {
    const connection = new ValkeyConnection(optionsOf("reader"));
    try {
      const kept = { ...plan, entities: plan.entities.map((one) => ({ ...one, fallback: true as const })) };
      expect((await storeMoment(connection)).clockUs).toBeGreaterThan(NOW);
      const hashes = [];
      for await (const step of walkHashes(connection, kept, () => 0, null)) hashes.push(...step.hashes);
      expect(hashes.length).toBeGreaterThan(0);
      expect((await new ControlHashes(connection, plan).summary()).state).toBe("ok");
    } finally {
      await connection.close();
    }
  });

  test("keeps token buckets, and scripts it runs may do no more than it may", async () => {
    const connection = new ValkeyConnection(optionsOf("reader"));
    const limit = { perSecond: 1, burst: 2, perDay: 10 };
    try {
      const buckets = createTokenBuckets(connection);
      const charged = await buckets.charge({ tenant: "team-a", routeClass: "score", limit, spent: 0, cost: 2 });
      expect(charged).toMatchObject({ admitted: true, bucket: { usedToday: 2 } });
      const [answer] = await connection.run([
        { key: "{l:x}", name: "EVAL", args: ['return redis.call("HSET", KEYS[1], "f", "v")', 1, "{l:x}"] },
      ]);
      expect(answer).toBe(1);
    } finally {
      await connection.close();
    }
    const script = 'return redis.call("HSET", "k", "f", "v")';
    await expect(as("reader", "EVAL", script, "0")).rejects.toThrow(/NOPERM|ACL failure|no permissions/i);
    expect(await admin.exists("k")).toBe(0);
  });

  test.each([
    ["HSET", "k", "f", "v"],
    ["HDEL", "k", "f"],
    ["PEXPIREAT", "k", "1"],
    ["FCALL", "f", "0"],
    ["EVAL", "return 1", "1", "k"],
    ["SCRIPT", "LOAD", "return 1"],
    ["FUNCTION", "LOAD", "#!lua name=x"],
    ["DEL", "k"],
    ["FLUSHALL"],
    ["KEYS", "*"],
  ])("may not %s", async (command, ...args) => {
    await expect(as("reader", command, ...args)).rejects.toThrow(/^NOPERM/);
  });
});

test("the server's own user is not needed by either", async () => {
  await admin.call("ACL", "SETUSER", "default", "off");
  await expect(as("writer", "PING")).resolves.toBe("PONG");
  await admin.call("ACL", "SETUSER", "default", "on");
});
