/**
 * Valkey stands still, and is killed, under concurrent scores: each is answered, from snapshots, without waiting for what is
 * known to be away; and the store is found again. Times are only held to what no noisy machine should exceed.
 */
import { type AddressInfo, createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { OnlineReader } from "../../../adapters/online-store/online-store.ts";
import { createSnapshotReader } from "../../../adapters/snapshot/snapshot-reader.ts";
import { SnapshotTable } from "../../../adapters/snapshot/snapshot-table.ts";
import { createReader } from "../../../adapters/valkey/reader.ts";
import { RecordPacker } from "../../../adapters/valkey/record.ts";
import { createKey } from "../../../functions/api/keys/keys.ts";
import { listen, type RunningServer } from "../../../functions/api/server.ts";
import { startEmulator, type TestEmulator, testClients } from "../../harness/emulator.ts";
import { openSnapshotWorld, type SnapshotWorld } from "../../support/snapshot-world.ts";
import { startValkey, type TestValkey } from "../../support/valkey.ts";
import { callerOf, scorable, transaction } from "./contract/contract-calls.ts";
import { plan, testDependencies } from "./doubles.ts";

const TOTAL_MS = 2_000;
/** Beyond any pause that the machine may make. */
const NEVER_MS = 10 * TOTAL_MS;
const LANES = 8;
let valkey: TestValkey;
let emulator: TestEmulator;
let world: SnapshotWorld;
let server: RunningServer;
let key: string;
/** Reads that have reached the store's own reader. */
let asked = 0;
const call = callerOf(
  plan,
  () => server,
  () => key,
);

interface Seen {
  readonly status: number;
  readonly reason: string | null;
  readonly tookMs: number;
  readonly used: readonly string[];
}

/** Scores without a pause until it is told to end. */
function load() {
  const seen: Seen[] = [];
  let isOver = false;
  const lanes = Array.from({ length: LANES }, async () => {
    while (!isOver) {
      const startedMs = performance.now();
      const { status, body } = await call("/v1/score/fraud", { body: scorable });
      seen.push({
        status,
        reason: body.degraded_reason,
        tookMs: performance.now() - startedMs,
        used: body.features_used,
      });
      await sleep(5);
    }
  });
  return {
    seen,
    /** Waits for so many answers from now on that are like that. */
    async until(like: (one: Seen) => boolean, count = LANES): Promise<void> {
      const from = seen.length;
      await expect.poll(() => seen.slice(from).filter(like).length, { timeout: 60_000 }).toBeGreaterThanOrEqual(count);
    },
    async end(): Promise<void> {
      isOver = true;
      await Promise.all(lanes);
    },
  };
}

beforeAll(async () => {
  [valkey, emulator] = await Promise.all([startValkey({ appendonly: true }), startEmulator()]);
  const nowMs = Date.now();
  world = await openSnapshotWorld(plan, valkey, emulator, Math.floor(nowMs / 60_000) * 60_000 - 15 * 60_000);
  const packer = new RecordPacker(plan, "transactions");
  const events = Array.from({ length: 20 }, (_, i) => ({
    ...transaction(scorable),
    amount: i,
    event_time: nowMs - i * 1_000,
  }));
  await world.store.applier.apply(
    events.map((event: any) =>
      packer.prepare("team-a", event.transaction_id, event.event_time, { ...event, tenant: "team-a" }),
    ),
  );
  expect(await world.round()).toMatchObject({ outcome: "complete", written: 2 });
  const { dependencies, keys } = testDependencies();
  key = (await createKey(keys, { tenant: "team-a", scopes: ["read", "score"], nowMs: 0 })).key;
  const store = createReader(plan, valkey);
  const reader: OnlineReader = {
    read(requests, asOfMs) {
      asked++;
      return store.read(requests, asOfMs);
    },
    state: () => store.state(),
    close: () => store.close(),
  };
  const table = new SnapshotTable({ table: world.name, dynamodb: testClients(emulator.url).dynamodb });
  const snapshots = createSnapshotReader(plan, table, Date.now);
  const fallback = { snapshots, budget: { totalMs: TOTAL_MS, storeMs: 200 } };
  server = await listen({ port: 0, dependencies: { ...dependencies, reader, fallback } });
});
afterAll(async () => {
  await server?.close();
  await world?.close();
  await Promise.all([valkey?.stop(), emulator?.stop()]);
});

const cardFeatures = plan.services[0].features.filter((name) => name.startsWith("card_activity:tx_count"));
const bySnapshot = ({ reason }: Seen) => reason === "snapshot";
const byStore = ({ reason }: Seen) => reason === null || reason === "failover";

it("answers every score while the store stands still, asks it for next to nothing, and finds it again", async () => {
  const { seen, until, end } = load();
  await until(byStore);
  process.kill(valkey.pid, "SIGSTOP");
  try {
    await until(bySnapshot, 5 * LANES);
    // By now the breaker is open: of all that is answered from here on, only probes have asked.
    expect((await call("/ready")).body.checks.breakers).toEqual({ store: "open", snapshots: "closed" });
    const [askedBefore, sinceMs] = [asked, performance.now()];
    await until(bySnapshot, 25 * LANES);
    const tries = Math.ceil((performance.now() - sinceMs) / 500) + 1;
    expect(asked - askedBefore).toBeLessThanOrEqual(tries);
  } finally {
    process.kill(valkey.pid, "SIGCONT");
  }
  await until(byStore);
  expect((await call("/ready")).body.checks.breakers).toEqual({ store: "closed", snapshots: "closed" });
  await end();
  expect(new Set(seen.map(({ status }) => status))).toEqual(new Set([200]));
  expect(seen.filter((one) => !byStore(one) && !bySnapshot(one))).toEqual([]);
  for (const { used } of seen.filter(bySnapshot)) expect(used).toEqual(expect.arrayContaining(cardFeatures));
  expect(Math.max(...seen.map(({ tookMs }) => tookMs))).toBeLessThan(NEVER_MS);
});

it("answers every score while the store is dead, and finds the one that takes its place", async () => {
  const { seen, until, end } = load();
  await until(byStore);
  await valkey.kill("SIGKILL");
  await until(bySnapshot, 10 * LANES);
  await valkey.restart();
  await until(byStore);
  await end();
  expect(new Set(seen.map(({ status }) => status))).toEqual(new Set([200]));
  expect(Math.max(...seen.map(({ tookMs }) => tookMs))).toBeLessThan(NEVER_MS);
});

it("answers by rules when the snapshots' table is away as well", async () => {
  const { seen, until, end } = load();
  await until(byStore);
  process.kill(valkey.pid, "SIGSTOP");
  try {
    await until(bySnapshot);
    await emulator.stop();
    await until(({ reason }) => reason === "store_unavailable", 10 * LANES);
  } finally {
    process.kill(valkey.pid, "SIGCONT");
  }
  await until(byStore);
  await end();
  expect(new Set(seen.map(({ status }) => status))).toEqual(new Set([200]));
  expect(Math.max(...seen.map(({ tookMs }) => tookMs))).toBeLessThan(NEVER_MS);
});

it("answers by rules while store and table take connections and say nothing", async () => {
  const sockets = new Set<Socket>();
  const silent = createServer((socket) => void sockets.add(socket.on("error", () => {})));
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  const { port } = silent.address() as AddressInfo;
  const { dependencies, keys } = testDependencies();
  const { key: own } = await createKey(keys, { tenant: "team-a", scopes: ["score"], nowMs: 0 });
  const table = new SnapshotTable({ table: "none", dynamodb: testClients(`http://127.0.0.1:${port}`).dynamodb });
  const fallback = {
    snapshots: createSnapshotReader(plan, table, Date.now),
    budget: { totalMs: TOTAL_MS, storeMs: 200 },
  };
  const store = createReader(plan, { host: "127.0.0.1", port });
  const other = await listen({ port: 0, dependencies: { ...dependencies, reader: store, fallback } });
  const ask = callerOf(
    plan,
    () => other,
    () => own,
  );
  try {
    const scores = Array.from({ length: 40 }, () => ask("/v1/score/fraud", { body: scorable }));
    for (const { status, body } of await Promise.all(scores)) {
      expect([status, body.degraded_reason]).toEqual([200, "store_unavailable"]);
    }
    expect((await ask("/ready")).body.checks.breakers).toEqual({ store: "open", snapshots: "open" });
  } finally {
    for (const socket of sockets) socket.destroy();
    await Promise.all([other.close(), new Promise((resolve) => silent.close(resolve))]);
  }
});
