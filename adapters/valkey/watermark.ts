/**
 * Who is working on what: one hash a stream, from which the seal is computed. An invocation registers its batch before its
 * first apply and clears it when all of it is durable, so everything that arrived before a shard's committed arrival is
 * applied, or set aside, and archived.
 *
 *   origin               store time (ms) at which the hash was made: after a loss nothing counts before it
 *   c:<shard>            greatest arrival (ms) that was ever cleared
 *   o:<shard>:<first>    "<arrival of first>:<last>:<store time in µs>": a batch that was begun then and is not cleared
 */
import type { ValkeyConnection } from "./connection.ts";

export interface BatchSpan {
  readonly shard: string;
  readonly firstSequence: string;
  readonly firstArrivalMs: number;
  readonly lastSequence: string;
}

/** A registration as it stands in the hash. */
export interface OutstandingSpan extends BatchSpan {
  /** Store time (µs) at which the newest delivery that begins with this record was registered. */
  readonly stamp: number;
}

export interface Registrations {
  readonly originMs: number | null;
  readonly committed: ReadonlyMap<string, number>;
  readonly outstanding: readonly OutstandingSpan[];
}

export interface ShardInfo {
  readonly id: string;
  readonly parents: readonly string[];
  readonly closed: boolean;
}

export const watermarkKey = (stream: string): string => `{w:${stream}}shards`;
const outstandingField = (shard: string, sequence: string) => `o:${shard}:${sequence}`;
const spanField = ({ shard, firstSequence }: BatchSpan) => outstandingField(shard, firstSequence);
const spanValue = ({ firstArrivalMs, lastSequence, stamp }: OutstandingSpan) =>
  `${firstArrivalMs}:${lastSequence}:${stamp}`;

/** Every delivery renews its registration: one that is this old is of a batch that the mapping has given up. */
const GIVEN_UP_MS = 6 * 3_600_000;
const isGivenUp = ({ stamp }: OutstandingSpan, nowMs: number): boolean => stamp / 1000 < nowMs - GIVEN_UP_MS;

export class Watermark {
  private readonly connection: ValkeyConnection;

  constructor(connection: ValkeyConnection) {
    this.connection = connection;
  }

  /** @returns the registration's stamp, which `clear` wants */
  async register(stream: string, span: BatchSpan): Promise<number> {
    const key = watermarkKey(stream);
    const args = [REGISTER, 1, key, spanField(span), span.firstArrivalMs, span.lastSequence];
    const [stamp] = await this.connection.demand([{ key, name: "EVAL", args }]);
    return Number(stamp);
  }

  /**
   * Commits the newest arrival of the acknowledged part of a batch, and clears what it settles: registrations that lie wholly
   * in it, and those of earlier deliveries that begin in it. Such an earlier delivery has failed or is a zombie; whatever it
   * held beyond this part is delivered after it. A later delivery that begins here and reaches further stays: it is the
   * newest, and clears itself.
   * @param acknowledged sequences of all acknowledged records, in order
   * @param rest first record that is not acknowledged; registered in the same step
   * @param stamp of this delivery's own registration
   */
  async clear(
    stream: string,
    shard: string,
    acknowledged: readonly string[],
    newestArrivalMs: number,
    rest: BatchSpan | null,
    stamp: number,
  ): Promise<void> {
    const key = watermarkKey(stream);
    const own = new Set(acknowledged);
    const settled = (await this.read(stream)).outstanding.filter(
      (span) =>
        span.shard === shard && own.has(span.firstSequence) && (span.stamp <= stamp || own.has(span.lastSequence)),
    );
    // Nothing acknowledged, nothing committed: the arrival of 0 changes nothing.
    const committed = acknowledged.length > 0 ? newestArrivalMs : 0;
    const registered = rest === null ? [] : [spanField(rest), spanValue({ ...rest, stamp })];
    const args = [CLEAR, 1, key, `c:${shard}`, committed, registered.length, ...registered];
    await this.connection.demand([
      { key, name: "EVAL", args: [...args, ...settled.flatMap((span) => [spanField(span), spanValue(span)])] },
    ]);
  }

  async read(stream: string): Promise<Registrations> {
    const key = watermarkKey(stream);
    const [answer] = await this.connection.demand([{ key, name: "HGETALL", args: [key] }]);
    const flat = (answer as Buffer[]).map(String);
    const committed = new Map<string, number>();
    const outstanding: OutstandingSpan[] = [];
    let originMs: number | null = null;
    for (let i = 0; i < flat.length; i += 2) {
      const [kind, shard, firstSequence] = flat[i].split(":");
      const value = flat[i + 1];
      if (flat[i] === "origin") originMs = Number(value);
      else if (kind === "c") committed.set(shard, Number(value));
      else if (kind === "o") {
        const [arrival, lastSequence, stamp] = value.split(":");
        outstanding.push({
          shard,
          firstSequence,
          firstArrivalMs: Number(arrival),
          lastSequence,
          stamp: Number(stamp),
        });
      }
    }
    return { originMs, committed, outstanding };
  }

  /** Marks a new or lost hash with the instant from which on acknowledgements count. */
  async begin(stream: string, nowMs: number): Promise<void> {
    const key = watermarkKey(stream);
    await this.connection.demand([{ key, name: "HSETNX", args: [key, "origin", nowMs] }]);
  }

  /**
   * Begins anew: nothing that was acknowledged counts any more. For a store that may have lost a suffix of this hash, where
   * registrations stand that were cleared long ago and that nobody will clear again.
   */
  async restart(stream: string, nowMs: number): Promise<void> {
    const key = watermarkKey(stream);
    await this.connection.demand([{ key, name: "EVAL", args: [RESTART, 1, key, nowMs] }]);
  }

  /** Forgets shards that the stream lists no more (they were closed, read, and have expired), and batches given up. */
  async forget(stream: string, state: Registrations, shards: readonly ShardInfo[], nowMs: number): Promise<void> {
    const listed = new Set(shards.map(({ id }) => id));
    const gone = [...state.committed].filter(([shard]) => !listed.has(shard));
    const spans = state.outstanding.filter((span) => !listed.has(span.shard) || isGivenUp(span, nowMs));
    const pairs = [
      ...gone.map(([shard, arrivalMs]) => [`c:${shard}`, String(arrivalMs)]),
      ...spans.map((span) => [spanField(span), spanValue(span)]),
    ];
    if (pairs.length === 0) return;
    const key = watermarkKey(stream);
    await this.connection.demand([{ key, name: "EVAL", args: [DROP, 1, key, ...pairs.flat()] }]);
  }
}

/**
 * The arrival before which everything on every shard is done; null while any shard holds it back without a bound: one
 * without an acknowledgement since the registrations began.
 * A closed shard counts as read to its end once a child has been worked on: a mapping reads children after their parents.
 */
export function committedArrival(state: Registrations, shards: readonly ShardInfo[], nowMs: number): number | null {
  const { originMs, committed } = state;
  if (originMs === null || shards.length === 0) return null;
  const outstanding = state.outstanding.filter((span) => !isGivenUp(span, nowMs));
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

// KEYS[1] watermark hash; ARGV[1] field, ARGV[2] arrival of the first record, ARGV[3] last sequence. Returns the stamp.
const REGISTER = `
local time = redis.call("TIME")
local stamp = time[1] .. string.format("%06d", time[2])
redis.call("HSET", KEYS[1], ARGV[1], ARGV[2] .. ":" .. ARGV[3] .. ":" .. stamp)
return stamp`;

// KEYS[1] watermark hash; ARGV[1] the new origin.
const RESTART = `
redis.call("DEL", KEYS[1])
return redis.call("HSET", KEYS[1], "origin", ARGV[1])`;

// KEYS[1] watermark hash; ARGV fields to delete, each with the value that it must still have.
const DROP = `
for i = 1, #ARGV, 2 do
  if redis.call("HGET", KEYS[1], ARGV[i]) == ARGV[i + 1] then redis.call("HDEL", KEYS[1], ARGV[i]) end
end
return 1`;

// KEYS[1] watermark hash; ARGV[1] field and ARGV[2] value of the committed arrival, ARGV[3] number of arguments to set,
// then field and value of the rest, then fields to delete, each with the value that it must still have.
const CLEAR = `
local before = redis.call("HGET", KEYS[1], ARGV[1])
if tonumber(ARGV[2]) > tonumber(before or 0) then redis.call("HSET", KEYS[1], ARGV[1], ARGV[2]) end
local set = tonumber(ARGV[3])
for i = 4 + set, #ARGV, 2 do
  if redis.call("HGET", KEYS[1], ARGV[i]) == ARGV[i + 1] then redis.call("HDEL", KEYS[1], ARGV[i]) end
end
if set > 0 then redis.call("HSET", KEYS[1], ARGV[4], ARGV[5]) end
return 1`;
