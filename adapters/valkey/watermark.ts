/**
 * Who is working on what: one hash a stream, from which the seal is computed. An invocation registers its batch before its
 * first apply and clears it when all of it is durable, so everything that arrived before a shard's committed arrival is
 * applied, or set aside, and archived.
 *
 *   origin               store time (ms) at which the hash was made: after a loss nothing counts before it
 *   c:<shard>            greatest arrival (ms) that was ever cleared
 *   o:<shard>:<first>    "<arrival of first>:<last>": a batch that was begun and is not cleared
 */
import type { ValkeyConnection } from "./connection.ts";

export interface BatchSpan {
  readonly shard: string;
  readonly firstSequence: string;
  readonly firstArrivalMs: number;
  readonly lastSequence: string;
}

export interface ShardInfo {
  readonly id: string;
  readonly parents: readonly string[];
  readonly closed: boolean;
}

export const watermarkKey = (stream: string): string => `{w:${stream}}shards`;
const outstandingField = (shard: string, sequence: string) => `o:${shard}:${sequence}`;
const spanValue = ({ firstArrivalMs, lastSequence }: BatchSpan) => `${firstArrivalMs}:${lastSequence}`;

export class Watermark {
  private readonly connection: ValkeyConnection;

  constructor(connection: ValkeyConnection) {
    this.connection = connection;
  }

  async register(stream: string, span: BatchSpan): Promise<void> {
    const key = watermarkKey(stream);
    const field = outstandingField(span.shard, span.firstSequence);
    await this.connection.demand([{ key, name: "HSET", args: [key, field, spanValue(span)] }]);
  }

  /**
   * Clears the registrations that lie wholly in the acknowledged part of a batch, and commits its newest arrival.
   * A registration that another delivery has stretched beyond this part stays: that delivery clears it.
   * @param acknowledged sequences of all acknowledged records, in order
   * @param rest first record that is not acknowledged; registered in the same step
   */
  async clear(
    stream: string,
    shard: string,
    acknowledged: readonly string[],
    newestArrivalMs: number,
    rest: BatchSpan | null,
  ): Promise<void> {
    const key = watermarkKey(stream);
    const own = new Set(acknowledged);
    if (rest !== null) own.add(rest.lastSequence);
    const open = (await this.read(stream)).outstanding.filter((span) => span.shard === shard);
    const cleared = open
      .filter(
        ({ firstSequence, lastSequence }) =>
          firstSequence !== rest?.firstSequence && own.has(firstSequence) && own.has(lastSequence),
      )
      .map(({ firstSequence }) => outstandingField(shard, firstSequence));
    const registered = rest === null ? [] : [outstandingField(shard, rest.firstSequence), spanValue(rest)];
    await this.connection.demand([
      {
        key,
        name: "EVAL",
        args: [CLEAR, 1, key, `c:${shard}`, newestArrivalMs, registered.length, ...registered, ...cleared],
      },
    ]);
  }

  async read(
    stream: string,
  ): Promise<{ originMs: number | null; committed: Map<string, number>; outstanding: BatchSpan[] }> {
    const key = watermarkKey(stream);
    const [answer] = await this.connection.demand([{ key, name: "HGETALL", args: [key] }]);
    const flat = (answer as Buffer[]).map(String);
    const committed = new Map<string, number>();
    const outstanding: BatchSpan[] = [];
    let originMs: number | null = null;
    for (let i = 0; i < flat.length; i += 2) {
      const [kind, shard, firstSequence] = flat[i].split(":");
      const value = flat[i + 1];
      if (flat[i] === "origin") originMs = Number(value);
      else if (kind === "c") committed.set(shard, Number(value));
      else if (kind === "o") {
        const [arrival, lastSequence] = value.split(":");
        outstanding.push({ shard, firstSequence, firstArrivalMs: Number(arrival), lastSequence });
      }
    }
    return { originMs, committed, outstanding };
  }

  /** Marks a new or lost hash with the instant from which on acknowledgements count. */
  async begin(stream: string, nowMs: number): Promise<void> {
    const key = watermarkKey(stream);
    await this.connection.demand([{ key, name: "HSETNX", args: [key, "origin", nowMs] }]);
  }

  /** Forgets shards that the stream no longer lists: they were closed, read, and have expired. */
  async forget(stream: string, shards: readonly string[]): Promise<void> {
    if (shards.length === 0) return;
    const key = watermarkKey(stream);
    await this.connection.demand([{ key, name: "HDEL", args: [key, ...shards.map((shard) => `c:${shard}`)] }]);
  }
}

/**
 * The arrival before which everything on every shard is done; null while any shard holds it back without a bound: one
 * without an acknowledgement since the registrations began.
 * A closed shard counts as read to its end once a child has been worked on: a mapping reads children after their parents.
 */
export function committedArrival(
  { originMs, committed, outstanding }: Awaited<ReturnType<Watermark["read"]>>,
  shards: readonly ShardInfo[],
): number | null {
  if (originMs === null || shards.length === 0) return null;
  const touched = new Set([...committed.keys(), ...outstanding.map(({ shard }) => shard)]);
  let lowest = Number.POSITIVE_INFINITY;
  for (const { id, closed } of shards) {
    const open = outstanding.filter(({ shard }) => shard === id).map(({ firstArrivalMs }) => firstArrivalMs);
    const finished =
      closed && open.length === 0 && shards.some((child) => child.parents.includes(id) && touched.has(child.id));
    if (finished) continue;
    const newest = committed.get(id);
    if (newest === undefined || newest < originMs) return null;
    lowest = Math.min(lowest, newest, ...open);
  }
  return Number.isFinite(lowest) ? lowest : null;
}

// KEYS[1] watermark hash; ARGV[1] field and ARGV[2] value of the committed arrival, ARGV[3] number of arguments to set,
// then field and value of the rest, then fields to delete.
const CLEAR = `
local before = redis.call("HGET", KEYS[1], ARGV[1])
if not before or tonumber(before) < tonumber(ARGV[2]) then redis.call("HSET", KEYS[1], ARGV[1], ARGV[2]) end
local set = tonumber(ARGV[3])
for i = 4 + set, #ARGV do redis.call("HDEL", KEYS[1], ARGV[i]) end
if set > 0 then redis.call("HSET", KEYS[1], ARGV[4], ARGV[5]) end
return 1`;
