/** Running totals for people who watch: `freshet inspect` and the monitor read them. Never a source of truth. */
import type { ValkeyConnection } from "./connection.ts";

export const statsKey = (stream: string): string => `freshet:stats:${stream}`;

/** What became of one batch. */
export interface StatsUpdate {
  readonly events: number;
  readonly applied: number;
  readonly duplicates: number;
  readonly late: number;
  readonly quarantined: number;
  /** Newest arrival of the batch. */
  readonly arrivalMs: number;
  /** The store's clock at the apply; null when nothing was sent to it. */
  readonly visibleMs: number | null;
}

/** Batches of several shards end in any order: one that arrived before another must not make the other's records look as if they waited. */
const NEWEST = `
local known = redis.call('HGET', KEYS[1], 'lastArrivalMs')
if known and tonumber(known) > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'lastArrivalMs', ARGV[1])
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'lastAppliedMs', ARGV[2]) end
return 1`;

export async function addToStats(connection: ValkeyConnection, stream: string, update: StatsUpdate): Promise<void> {
  const key = statsKey(stream);
  const add = (field: string, by: number) => (by > 0 ? [{ key, name: "HINCRBY", args: [key, field, by] }] : []);
  await connection.demand([
    ...add("in", update.events),
    ...add("applied", update.applied),
    ...add("duplicates", update.duplicates),
    ...add("late", update.late),
    ...add("quarantined", update.quarantined),
    { key, name: "EVAL", args: [NEWEST, 1, key, update.arrivalMs, update.visibleMs ?? ""] },
  ]);
}
