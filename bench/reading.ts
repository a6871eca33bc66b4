/** What the reading rows share: a filled store, the servers, and load against each of them in turn. */

import { parseEntityKey } from "../adapters/valkey/layout.ts";
import { RecordPacker } from "../adapters/valkey/record.ts";
import { floorTo } from "../core/tiles/window.ts";
import { openStore, type TestStore } from "../test/support/store.ts";
import { startValkey, type TestValkey } from "../test/support/valkey.ts";
import { SEAL_LAG_MS } from "./bare-server.ts";
import type { BenchmarkOptions } from "./benchmark.ts";
import { Child } from "./child.ts";
import { servingPlan } from "./definitions.ts";
import type { LoadOrder, LoadResult } from "./load.ts";
import { storeUsage } from "./meters.ts";
import type { ListenOrder, Serving } from "./serve-process.ts";
import { seededRandom, transaction } from "./workload.ts";

/** Entities of each type that requests choose from. */
export const ENTITIES = 500;
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
/** Ages of an entity's events; each entity is shifted by up to twelve hours, evenly on a scale of logarithms: some are busy, some rest. */
const AGES_MS = [
  ...[1, 3, 4, 6, 8, 9].map((minutes) => minutes * MINUTE),
  ...[17, 22, 27, 32, 37, 42, 47].map((minutes) => minutes * MINUTE),
  ...[2, 4, 6, 8, 10, 12, 14, 17, 20].map((hours) => hours * HOUR),
];

/** In minutes. */
const LONGEST_REST = 720;
const HISTORY_MS = 35 * HOUR;

/** A store, and load from a process of its own. */
export interface Loading {
  readonly store: TestStore;
  load(order: Omit<LoadOrder, "durationMs">, durationMs: number): Promise<LoadResult>;
}
export interface Stage extends Loading {
  readonly valkey: TestValkey;
  readonly freshet: Server;
  readonly bare: Server;
  /** Tiles that an entity holds, on average. */
  readonly tiles: number;
  /** Another server over the same store. */
  serve(order: Omit<ListenOrder, "valkeyPort">): Promise<Server>;
  close(): Promise<void>;
}
export interface Server extends Serving {
  cpuUs(): Promise<number>;
  /** On the JavaScript heap, since its start. @default not known */
  allocatedBytes?(): Promise<number>;
  /** Makes the next version of its model champion. @returns ms until it serves */
  promote?(): Promise<number>;
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
    const serve = async (order: Omit<ListenOrder, "valkeyPort">): Promise<Server> => {
      const flags = profile && order.listen === "freshet" ? ["--cpu-prof", `--cpu-prof-dir=${profile}`] : [];
      const child = new Child("serve-process.ts", [], flags);
      children.push(child);
      const serving = await child.ask<Serving>({ ...order, valkeyPort: valkey.port });
      return { ...serving, ...metersOf(child) };
    };
    const freshet = await serve({ listen: "freshet" });
    const bare = await serve({ listen: "bare" });
    const loader = new Child("load-process.ts");
    children.push(loader);
    return {
      valkey,
      store,
      freshet,
      bare,
      tiles,
      serve,
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

/**
 * Entities with a day of history, as it would have come: the seal follows the clock and every apply folds what lies below it.
 * Half an hour ago the hourly sweep passed; who paid since then is folded as far as the seal was at that moment.
 */
async function fill(valkey: TestValkey): Promise<{ store: TestStore; tiles: number }> {
  const nowMs = Date.now();
  const random = seededRandom(7);
  const history = Array.from({ length: ENTITIES }, (_, entity) => {
    const shiftMs = Math.floor(MINUTE * (LONGEST_REST ** random() - 1));
    return AGES_MS.map((ageMs) => ({ entity, timeMs: nowMs - ageMs - shiftMs }));
  }).flat();
  const store = await openStore(servingPlan, valkey, floorTo(nowMs - HISTORY_MS, MINUTE));
  const packer = new RecordPacker(servingPlan, "transactions");
  const sweepMs = nowMs - HOUR / 2;
  for (let fromMs = nowMs - HISTORY_MS + HOUR; fromMs < nowMs; ) {
    const untilMs = fromMs + (fromMs < nowMs - 2 * HOUR ? HOUR : 5 * MINUTE);
    await store.seal(floorTo(fromMs - SEAL_LAG_MS, MINUTE));
    if (fromMs <= sweepMs && sweepMs < untilMs) await touchAll(store);
    const events = history
      .filter(({ timeMs }) => timeMs >= fromMs && timeMs < untilMs)
      .map(({ entity, timeMs }) => {
        const kinds = ["card", "merchant", "device", "user"].map((kind) => [`${kind}_id`, `${kind}_${entity}`]);
        const fields = { ...transaction(random, `tx-${entity}-${timeMs}`, timeMs), ...Object.fromEntries(kinds) };
        return packer.prepare("default", fields["transaction_id"] as string, timeMs, fields as any);
      });
    for (let at = 0; at < events.length; at += 100) await store.applier.apply(events.slice(at, at + 100));
    fromMs = untilMs;
  }
  await store.seal(floorTo(nowMs - SEAL_LAG_MS, MINUTE));
  const [node] = await store.connection.primaries();
  const keys = (await node.keysBuffer("*card*transactions*")).slice(0, 100);
  let tiles = 0;
  for (const key of keys)
    tiles += (await node.hkeysBuffer(key)).filter((field) => field.length === 5 && field[0] < 64).length;
  return { store, tiles: tiles / keys.length };
}

/** What the sweep function does. */
async function touchAll(store: TestStore): Promise<void> {
  const [node] = await store.connection.primaries();
  for (const key of await node.keys("*transactions*")) {
    const entity = parseEntityKey(Buffer.from(key))?.entity;
    const group = servingPlan.groups.find((each) => each.entity === entity);
    const bucket = /^\{(\d+)\}/.exec(key);
    if (group && bucket) await store.applier.touch(Number(bucket[1]), [{ key, groupId: group.id }]);
  }
}

export interface Timed extends LoadResult {
  /** CPU of the server's process for each request. */
  readonly serverUs: number;
  /** CPU of Valkey for each request. */
  readonly storeUs: number;
  /** Allocated by the server on its JavaScript heap for each request; 0 for one that does not tell. */
  readonly allocatedBytes: number;
}

/** What a server's process tells of itself. */
export const metersOf = (child: Child) => ({
  cpuUs: () => child.ask<number>({ usage: true }),
  allocatedBytes: () => child.ask<number>({ allocated: true }),
  promote: () => child.ask<number>({ promote: true }),
});

/** Load on one server, with the CPU that it and Valkey took. */
export async function timed(
  stage: Loading,
  server: Pick<Server, "cpuUs" | "allocatedBytes"> | null,
  order: Omit<LoadOrder, "durationMs">,
  durationMs: number,
): Promise<Timed> {
  const [node] = await stage.store.connection.primaries();
  const storeBefore = await storeUsage(node);
  const allocated = (await server?.allocatedBytes?.()) ?? 0;
  const before = (await server?.cpuUs()) ?? 0;
  const result = await stage.load(order, durationMs);
  const serverUs = (((await server?.cpuUs()) ?? 0) - before) / result.requests;
  const storeUs = ((await storeUsage(node)).cpuUs - storeBefore.cpuUs) / result.requests;
  const allocatedBytes = (((await server?.allocatedBytes?.()) ?? 0) - allocated) / result.requests;
  return { ...result, serverUs, storeUs, allocatedBytes };
}

/** The seal as it would stand now: the control function moves it each minute. */
export async function moveSeal(stage: Stage): Promise<void> {
  await stage.store.seal(floorTo(Date.now() - SEAL_LAG_MS, MINUTE));
}
