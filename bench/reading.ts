/** What the reading rows share: a filled store, the servers, and load against each of them in turn. */
import { RecordPacker } from "../adapters/valkey/record.ts";
import { floorTo } from "../core/window.ts";
import { openStore, type TestStore } from "../test/support/store.ts";
import { startValkey, type TestValkey } from "../test/support/valkey.ts";
import { SEAL_LAG_MS } from "./bare-server.ts";
import type { BenchmarkOptions } from "./benchmark.ts";
import { Child } from "./child.ts";
import { servingPlan } from "./definitions.ts";
import type { LoadOrder, LoadResult } from "./load.ts";
import { storeUsage } from "./meters.ts";
import type { Serving } from "./serve-process.ts";
import { seededRandom, transaction } from "./workload.ts";

/** Entities of each type that requests choose from. */
export const ENTITIES = 1_000;
const MINUTE = 60_000;
/** Ages of an entity's events: with the seal 11 minutes behind, 6 tiles of 1m, 7 of 5m and 7 of 1h. */
const AGES_MS = [
  ...[1, 3, 4, 6, 8, 9].map((minutes) => minutes * MINUTE),
  ...[17, 22, 27, 32, 37, 42, 47].map((minutes) => minutes * MINUTE),
  ...[2, 4, 6, 9, 13, 17, 21].map((hours) => hours * 60 * MINUTE),
];

export interface Stage {
  readonly valkey: TestValkey;
  readonly store: TestStore;
  readonly freshet: Server;
  readonly bare: Server;
  /** Tiles that an entity holds, on average. */
  readonly tiles: number;
  load(order: Omit<LoadOrder, "durationMs">, durationMs: number): Promise<LoadResult>;
  close(): Promise<void>;
}
export interface Server extends Serving {
  cpuUs(): Promise<number>;
}

export async function openStage({ signal, say }: BenchmarkOptions): Promise<Stage> {
  signal.throwIfAborted();
  const valkey = await startValkey();
  const children: Child[] = [];
  const close = async (): Promise<void> => {
    await Promise.all(children.map((child) => child.stop()));
    await valkey.stop();
  };
  try {
    const { store, tiles } = await fill(valkey);
    say(`${ENTITIES} entities of 4 types, ${tiles.toFixed(1)} tiles each`);
    const profile = process.env["FRESHET_BENCH_PROFILE"];
    const serve = async (listen: "freshet" | "bare"): Promise<Server> => {
      const flags = profile && listen === "freshet" ? ["--cpu-prof", `--cpu-prof-dir=${profile}`] : [];
      const child = new Child("serve-process.ts", [], flags);
      children.push(child);
      const serving = await child.ask<Serving>({ listen, valkeyPort: valkey.port });
      return { ...serving, cpuUs: () => child.ask<number>({ usage: true }) };
    };
    const freshet = await serve("freshet");
    const bare = await serve("bare");
    const loader = new Child("load-process.ts");
    children.push(loader);
    return {
      valkey,
      store,
      freshet,
      bare,
      tiles,
      load: (order, durationMs) => loader.ask<LoadResult>({ ...order, durationMs }),
      close: async () => {
        await store.connection.close();
        await close();
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Entities with a day of history, folded up to a seal as it stands 11 minutes after the oldest open event. */
async function fill(valkey: TestValkey): Promise<{ store: TestStore; tiles: number }> {
  const nowMs = Date.now();
  const store = await openStore(servingPlan, valkey, floorTo(nowMs - 26 * 60 * MINUTE, MINUTE));
  const packer = new RecordPacker(servingPlan, "transactions");
  const random = seededRandom(7);
  for (const ageMs of [...AGES_MS].reverse()) {
    // The newest events come after the seal, as in life: an apply folds what it finds below the seal.
    if (ageMs === AGES_MS[5]) await store.seal(floorTo(nowMs - SEAL_LAG_MS, MINUTE));
    const events = Array.from({ length: ENTITIES }, (_, i) => {
      const ids = {
        card_id: `card_${i}`,
        merchant_id: `merchant_${i}`,
        device_id: `device_${i}`,
        user_id: `user_${i}`,
      };
      const fields = { ...transaction(random, `tx-${ageMs}-${i}`, nowMs - ageMs), ...ids } as Record<string, any>;
      return packer.prepare("default", fields["transaction_id"], fields["event_time"], fields);
    });
    // In small calls: the first event after the seal has moved by a day folds that day, for each entity.
    for (let from = 0; from < events.length; from += 10) await store.applier.apply(events.slice(from, from + 10));
  }
  const [node] = await store.connection.primaries();
  const keys = (await node.keysBuffer("*card*transactions*")).slice(0, 100);
  let tiles = 0;
  for (const key of keys)
    tiles += (await node.hkeysBuffer(key)).filter((field) => field.length === 5 && field[0] < 64).length;
  return { store, tiles: tiles / keys.length };
}

export interface Timed extends LoadResult {
  /** CPU of the server's process for each request. */
  readonly serverUs: number;
  /** CPU of Valkey for each request. */
  readonly storeUs: number;
}

/** Load on one server, with the CPU that it and Valkey took. */
export async function timed(
  stage: Stage,
  server: Server | null,
  order: Omit<LoadOrder, "durationMs">,
  durationMs: number,
): Promise<Timed> {
  const [node] = await stage.store.connection.primaries();
  const storeBefore = await storeUsage(node);
  const before = (await server?.cpuUs()) ?? 0;
  const result = await stage.load(order, durationMs);
  const serverUs = (((await server?.cpuUs()) ?? 0) - before) / result.requests;
  const storeUs = ((await storeUsage(node)).cpuUs - storeBefore.cpuUs) / result.requests;
  return { ...result, serverUs, storeUs };
}

/** The seal as it would stand now: the control function moves it each minute. */
export async function moveSeal(stage: Stage): Promise<void> {
  await stage.store.seal(floorTo(Date.now() - SEAL_LAG_MS, MINUTE));
}
