/** The online store as control keeps it: a real Valkey, emptied for each test, a control table in memory, and a clock of the test's own. */
import { Redis } from "iovalkey";
import { afterAll, afterEach, beforeAll, beforeEach } from "vitest";
import { StoreApplier } from "../../adapters/valkey/applier.ts";
import { ValkeyConnection } from "../../adapters/valkey/connection.ts";
import { ControlHashes } from "../../adapters/valkey/control.ts";
import { controlKey, decodeControl, decodeGroupControl, groupField } from "../../adapters/valkey/layout.ts";
import { type ShardInfo, Watermark } from "../../adapters/valkey/watermark.ts";
import { EMPTY_LOCK, type Lock } from "../../core/compile/compile.ts";
import type { Plan } from "../../core/plan.ts";
import { type ControlPorts, controlStep } from "../../functions/shared/control-loop.ts";
import { first } from "./control-plans.ts";

import { MemoryControlTable } from "./memory-control-table.ts";
import { startValkey, type TestValkey } from "./valkey.ts";

export const MINUTE = 60_000;
export const TIMEOUT_MS = 60_000;
/** Lateness, the function's timeout and a minute: how far the seal stays behind. */
export const LAG_MS = 10 * MINUTE + TIMEOUT_MS + MINUTE;
export const NOW = Math.floor(Date.now() / MINUTE) * MINUTE + 17_000;
export const CREATED = NOW - 5 * MINUTE;
export const floor = (ms: number) => Math.floor(ms / MINUTE) * MINUTE;
export const open = (id: string, parents: string[] = []): ShardInfo => ({ id, parents, closed: false });

export interface ControlWorld {
  valkey: TestValkey;
  admin: Redis;
  connection: ValkeyConnection;
  table: MemoryControlTable;
  /** Of the first plan. */
  ports: ControlPorts;
}
const world = {} as ControlWorld;

/** Registers the set-up of a file of tests. */
export function useControlWorld(): ControlWorld {
  beforeAll(async () => {
    world.valkey = await startValkey({ appendonly: true });
    world.admin = new Redis({ host: world.valkey.host, port: world.valkey.port });
    // It reconnects by itself after a restart.
    world.admin.on("error", () => {});
  });
  afterAll(async () => {
    world.admin?.disconnect();
    await world.valkey?.stop();
  });
  beforeEach(async () => {
    await world.admin.flushall();
    await world.admin.call("FUNCTION", "FLUSH");
    world.connection = new ValkeyConnection(world.valkey);
    world.table = new MemoryControlTable();
    world.ports = portsOf(first.plan);
  });
  afterEach(async () => {
    await world.connection.close();
  });
  return world;
}

export const portsOf = (plan: Plan, lock: Lock = EMPTY_LOCK): ControlPorts => ({
  plan,
  lock,
  controls: new ControlHashes(world.connection, plan),
  watermark: new Watermark(world.connection),
  table: world.table.port,
  imports: async () => 0,
  timeoutMs: TIMEOUT_MS,
  loadFunction: () => new StoreApplier(world.connection, plan, 0).loadFunction(),
});
export const shards = (...list: ShardInfo[]) => ({ payments: { createdAtMs: CREATED, shards: list } });
export const tick = (nowMs: number, list: ShardInfo[] = [open("a")], of = world.ports) =>
  controlStep(of, shards(...list), nowMs);
/** A store that has been there for a minute: created, its registrations begun. */
export async function running(): Promise<void> {
  await tick(NOW);
  await tick(NOW + MINUTE);
}
export const acknowledge = async (shard: string, arrivalMs: number, stream = "payments") => {
  const watermark = new Watermark(world.connection);
  const span = { shard, firstSequence: "1", firstArrivalMs: arrivalMs, lastSequence: "1" };
  const stamp = await watermark.register(stream, span);
  await watermark.clear(stream, shard, ["1"], arrivalMs, null, stamp);
};
export const group = async (bucket: number, name = "card:payments") => {
  const raw = await world.admin.hgetBuffer(controlKey(bucket), groupField(name));
  return raw === null ? null : decodeGroupControl(raw);
};
export const head = async (bucket = 0) => decodeControl((await world.admin.hgetBuffer(controlKey(bucket), "c"))!);
export const births = async (bucket: number) =>
  Object.fromEntries(
    (await group(bucket))!.births.map(({ object, slot, baseIndex }) => [
      `${object ? "object" : "cell"} ${slot}`,
      baseIndex,
    ]),
  );
