/** A primary that is killed in the middle of applies, and one that lost the end of its log: tiles and identities agree. */
import { readdirSync, statSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { StoreApplier } from "../../../adapters/valkey/applier.ts";
import { ValkeyConnection } from "../../../adapters/valkey/connection.ts";
import { ControlHashes } from "../../../adapters/valkey/control.ts";
import { bucketOf, entityKey, tileField } from "../../../adapters/valkey/layout.ts";
import { createReader } from "../../../adapters/valkey/reader.ts";
import type { PreparedEvent } from "../../../adapters/valkey/record.ts";
import { RecordPacker } from "../../../adapters/valkey/record.ts";
import { startTcpFaultProxy } from "../../../local/faults/tcp-proxy.ts";
import { plan } from "../../support/fixture-plan.ts";
import { openStore } from "../../support/store.ts";
import { startValkey, type TestValkey } from "../../support/valkey.ts";

const MINUTE = 60_000;
const START = Date.UTC(2026, 0, 5, 22, 17);
const CARDS = 5;
const packer = new RecordPacker(plan, "payments");
const batch = (b: number): PreparedEvent[] =>
  Array.from({ length: 60 }, (_, n) => {
    const at = START + ((b * 60 + n) % 4) * MINUTE;
    const event = { id: `e${b}-${n}`, at, card: `c${n % CARDS}`, shop: null, amount: 1, country: "NO", online: true };
    return packer.prepare("default", event.id, at, event);
  });

let valkey: TestValkey;
afterEach(async () => {
  await valkey?.stop();
});

/** For each card: events counted in base tiles, and identities beside them. */
async function census(connection: ValkeyConnection) {
  const found: { counted: number; identities: number }[] = [];
  for (let c = 0; c < CARDS; c++) {
    const key = entityKey(bucketOf("default", "card", `c${c}`), "default", "card", "payments", `c${c}`);
    const [answer] = await connection.demand([{ key, name: "HGETALL", args: [key] }]);
    const flat = answer as Buffer[];
    let [counted, identities] = [0, 0];
    for (let i = 0; i < flat.length; i += 2) {
      const [name, value] = [flat[i], flat[i + 1]];
      // Slot 0, the count of all events, is the first cell of a base tile.
      if (name.length === 5 && name[0] === tileField(0, 0)[0]) counted += value.readUIntLE(value[0] + 1, 5);
      if (name[0] === 0x69 && value.length > 1) identities += value.length / 12;
    }
    found.push({ counted, identities });
  }
  return found;
}

async function replayAll(batches: number) {
  const connection = new ValkeyConnection(valkey);
  const controls = new ControlHashes(connection, plan);
  expect(await controls.noticeFailover()).toBe(1_024);
  const before = await census(connection);
  for (const { counted, identities } of before) expect(counted).toBe(identities);
  const applier = new StoreApplier(connection, plan, 1);
  for (let b = 0; b < batches; b++) expect((await applier.apply(batch(b))).failover).toBe(true);
  await controls.setState(1, ["failover"], "ok");
  expect((await applier.apply(batch(0))).failover).toBe(false);
  for (const { counted, identities } of await census(connection)) {
    expect([counted, identities]).toEqual([batches * 12, batches * 12]);
  }
  const reader = createReader(plan, { ...valkey, timeoutMs: 5_000 });
  const [{ values, degraded }] = await reader.read(
    [{ tenant: "default", entity: "card", id: "c0", features: ["everything:n_24h", "everything:total_1h"] }],
    START + 5 * MINUTE,
  );
  expect([...values.map(({ value }) => value), degraded]).toEqual([batches * 12, batches * 12, null]);
  await reader.close();
  await connection.close();
  return before.reduce((total, { counted }) => total + counted, 0);
}

describe("a path to the primary that is dead", () => {
  it("is given up after seconds, not when the kernel does: whoever asks then is answered on another connection", async () => {
    valkey = await startValkey();
    await openStore(plan, valkey, START - 60 * MINUTE);
    const proxy = await startTcpFaultProxy(valkey);
    const connection = new ValkeyConnection({ host: proxy.host, port: proxy.port, timeoutMs: 200, waitMs: 0 });
    const ask = () =>
      connection.demand([{ key: "{0}ctl", name: "EXISTS", args: ["{0}ctl"] }]).then(
        ([found]) => found,
        ({ code }) => code,
      );
    try {
      expect(await ask()).toBe(1);
      // Nothing of what goes over this connection will ever be answered, and nobody says so.
      proxy.strand();
      expect(await ask()).toBe("store_unavailable");
      await expect.poll(ask, { timeout: 60_000, interval: 100 }).toBe(1);
    } finally {
      await connection.close();
      await proxy.stop();
    }
  });
});

describe("a primary with an append-only file", () => {
  it("that is killed in the middle of applies has all that it acknowledged, and the rest comes by replay", async () => {
    valkey = await startValkey({ appendonly: true });
    const store = await openStore(plan, valkey, START - 60 * MINUTE);
    await store.applier.apply(batch(0));
    let acknowledged = 1;
    const load = (async () => {
      for (let b = 1; ; b++) {
        await store.applier.apply(batch(b));
        acknowledged = b + 1;
      }
    })().catch((error) => error as { code?: string });
    await expect.poll(() => acknowledged, { timeout: 30_000, interval: 5 }).toBeGreaterThan(20);
    await valkey.kill("SIGKILL");
    expect(await load).toMatchObject({ code: "store_unavailable" });
    await store.connection.close();
    await valkey.restart();
    const survived = await replayAll(acknowledged + 1);
    expect(survived).toBeGreaterThanOrEqual(acknowledged * 60);
    expect(survived).toBeLessThanOrEqual((acknowledged + 1) * 60);
  });

  it.each([7, 301, 2_503])(
    "that lost the last %i bytes of it has whole entities only, and the rest comes by replay",
    async (bytes) => {
      valkey = await startValkey({ appendonly: true });
      const store = await openStore(plan, valkey, START - 60 * MINUTE);
      for (let b = 0; b < 4; b++) await store.applier.apply(batch(b));
      // On a busy disk the server keeps writes back while an earlier fsync runs, two seconds at most: what is lost is the
      // test's choice alone.
      const [node] = await store.connection.primaries();
      expect(await node.call("WAITAOF", 1, 0, 10_000)).toEqual([1, 0]);
      await valkey.kill("SIGKILL");
      await store.connection.close();
      const folder = join(valkey.dir, "appendonlydir");
      const log = join(folder, readdirSync(folder).find((name) => name.endsWith(".incr.aof"))!);
      truncateSync(log, statSync(log).size - bytes);
      await valkey.restart();
      expect(await replayAll(4)).toBeLessThan(4 * 60);
    },
  );

  it("that comes back empty has lost its control hashes: applies are blocked, and reads say so", async () => {
    valkey = await startValkey({ appendonly: true });
    const store = await openStore(plan, valkey, START - 60 * MINUTE);
    await store.applier.apply(batch(0));
    await store.connection.close();
    await valkey.kill("SIGKILL");
    await valkey.restart({ empty: true });
    const connection = new ValkeyConnection(valkey);
    await expect(new StoreApplier(connection, plan, 1).apply(batch(0))).rejects.toMatchObject({ code: "control_lost" });
    expect(await new ControlHashes(connection, plan).summary()).toEqual({
      epoch: null,
      present: 0,
      ok: 0,
      state: null,
    });
    const reader = createReader(plan, { ...valkey, timeoutMs: 5_000 });
    expect(await reader.state()).toMatchObject({ reachable: true, control: "lost" });
    await reader.close();
    await connection.close();
  });
});
