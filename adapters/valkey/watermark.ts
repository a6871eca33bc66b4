/**
 * Who is working on what: one hash a stream, from which the seal is computed. An invocation registers its batch before its
 * first apply and clears it when all of it is durable, so everything that arrived before a shard's committed arrival is
 * applied, or set aside, and archived.
 *
 *   origin               store time (ms) at which the hash was made: after a loss nothing counts before it
 *   c:<shard>            greatest arrival (ms) that was ever cleared
 *   o:<shard>:<first>    "<arrival of first>:<last>:<store time in µs>": a batch that was begun then and is not cleared. Of one whose
 *                        first part was begun again by itself, or cleared, it stands under the last record
 *   b:<shard>:<last>     "<event time>:<store time in µs>": such a batch holds an event above the seal that its arrival does not
 *                        protect, since it is later than the allowed lateness: the seal stays at or below this base tile.
 *                        Under the batch's last record, so that it stands until the last part of a bisected batch is cleared
 *   t:<shard>            "<sequence>:<stamp>": the greatest sequence that was registered or cleared, and when one was last. A delivery that
 *                        is heard of so late that somebody else has been at its records since must not register: nobody would clear it
 *   seal                 event time (ms) up to which every bucket is sealed: what is older needs no protection
 *   next                 "<event time>:<store time in µs>": a control run is moving the seal there
 */
import { setTimeout as sleep } from "node:timers/promises";
import { InfrastructureError } from "../../core/errors.ts";
import type { Stream } from "../../core/plan.ts";
import type { ValkeyConnection } from "./connection.ts";
import { ANNOUNCE, CLEAR, DROP, REGISTER, RESTART, SETTLE } from "./watermark-scripts.ts";

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

/** An outstanding batch's oldest event of those that only this keeps above the seal. */
interface LateBound {
  readonly shard: string;
  readonly lastSequence: string;
  readonly eventMs: number;
  readonly stamp: number;
}

export interface Registrations {
  readonly originMs: number | null;
  readonly committed: ReadonlyMap<string, number>;
  readonly outstanding: readonly OutstandingSpan[];
  readonly bounds: readonly LateBound[];
  /** By shard, what is known of the newest work on it, as it is stored. */
  readonly newest: ReadonlyMap<string, string>;
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
const boundField = ({ shard, lastSequence }: Pick<LateBound, "shard" | "lastSequence">) => `b:${shard}:${lastSequence}`;
const boundValue = ({ eventMs, stamp }: LateBound) => `${eventMs}:${stamp}`;

/** Every delivery renews its registration: one that is this old is of a batch that the mapping has given up. */
const GIVEN_UP_MS = 6 * 3_600_000;
const isGivenUp = ({ stamp }: { readonly stamp: number }, nowMs: number): boolean => stamp / 1000 < nowMs - GIVEN_UP_MS;
/** Longer than any run of control: one that announced a move before that has ended, and moves nothing more. */
const MOVING_US = 60_000_000;
/** So much earlier nothing of it takes effect any more: clocks of primaries differ. */
const MOVED_BEFORE_US = 10_000_000;
/** Answers of `REGISTER`; the third one is to ask again, as somebody who has heard of what was done meanwhile. */
const [BEGUN, SEAL_MOVES] = [1, 0];
/** A move takes some ten ms. */
const MOVING_TRIES = 40;
const MOVING_DELAY_MS = 50;

export class Watermark {
  private readonly connection: ValkeyConnection;
  /** By stream, the newest stamp that this process has heard of: what it sends was sent after that. */
  private readonly heard = new Map<string, number>();

  constructor(connection: ValkeyConnection) {
    this.connection = connection;
  }

  /**
   * @param lateStarts starts (ms) of the base tiles of events that are later than the allowed lateness, ascending
   * @param protectedMs event time from which on there may be others. They are above the seal when the batch comes in time; that
   *   of a lane which has fallen behind may come while the seal passes them. @default the batch has none
   * @returns the registration's stamp, which `clear` wants
   * @throws InfrastructureError `seal_moving` when the seal is just passing one of these: which side it is on is not known
   */
  async register(
    stream: string,
    span: BatchSpan,
    lateStarts: readonly number[] = [],
    protectedMs = Number.MAX_SAFE_INTEGER,
  ): Promise<number> {
    const key = watermarkKey(stream);
    const { shard, firstSequence, firstArrivalMs, lastSequence } = span;
    const limits = [MOVING_US, Math.min(protectedMs, Number.MAX_SAFE_INTEGER)];
    for (let tries = 0; tries < MOVING_TRIES; ) {
      const fields = [shard, firstSequence, firstArrivalMs, lastSequence, this.heard.get(stream) ?? 0];
      const args = [REGISTER, 1, key, ...fields, ...limits, ...lateStarts];
      const [answer] = await this.connection.demand([{ key, name: "EVAL", args }]);
      const [code, stamp] = (answer as (number | Buffer)[]).map(Number);
      if (code === SEAL_MOVES) {
        tries++;
        await sleep(MOVING_DELAY_MS);
        continue;
      }
      this.hear(stream, stamp);
      if (code === BEGUN) return stamp;
    }
    throw new InfrastructureError("seal_moving", `the seal of ${stream} is moving past late events of this batch`, {
      repair: "it is delivered again; a move that was cut off is given up after a minute",
    });
  }

  /**
   * Commits the newest arrival of the acknowledged part of a batch, and clears what it settles: registrations that lie wholly
   * in it, and those of earlier deliveries that begin in it. Such an earlier delivery has failed or is a zombie; whatever it
   * held beyond this part is delivered after it. A later delivery that begins here and reaches further stays: it is the
   * newest, and clears itself. What a cleared one held beyond this part stays, under its last record: other lanes of the shard
   * commit arrivals before it is delivered again.
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
    const { outstanding, bounds } = await this.read(stream);
    const settled = outstanding.filter(
      (span) =>
        span.shard === shard && own.has(span.firstSequence) && (span.stamp <= stamp || own.has(span.lastSequence)),
    );
    const freed = bounds.filter(
      (bound) => bound.shard === shard && own.has(bound.lastSequence) && bound.stamp <= stamp,
    );
    const isBeyond = ({ lastSequence }: BatchSpan): boolean =>
      !own.has(lastSequence) && lastSequence !== rest?.lastSequence;
    const cleared = [
      ...settled.map((span) => [
        spanField(span),
        spanValue(span),
        isBeyond(span) ? outstandingField(shard, span.lastSequence) : "",
      ]),
      ...freed.map((bound) => [boundField(bound), boundValue(bound), ""]),
    ];
    // Nothing acknowledged, nothing committed: the arrival of 0 changes nothing.
    const committed = acknowledged.length > 0 ? newestArrivalMs : 0;
    const registered = rest === null ? [] : [spanField(rest), spanValue({ ...rest, stamp })];
    const args = [CLEAR, 1, key, shard, committed, acknowledged.at(-1) ?? "", registered.length, ...registered];
    const [answer] = await this.connection.demand([{ key, name: "EVAL", args: [...args, ...cleared.flat()] }]);
    this.hear(stream, Number(answer));
  }

  private hear(stream: string, stamp: number): void {
    this.heard.set(stream, Math.max(stamp, this.heard.get(stream) ?? 0));
  }

  /**
   * Says that the seal is about to move, before any bucket's does: late events between are neither begun nor answered for until
   * `settle`. In the same step it stays below what outstanding batches hold, those too that have come since the registrations
   * were read.
   * @param shards that the stream lists
   * @returns where it may move to, at most `sealMs`, and until when by the store's clock (µs); null when another run is moving it further
   */
  async announce(
    { name, allowedLatenessMs, baseMs }: Pick<Stream, "name" | "allowedLatenessMs" | "baseMs">,
    sealMs: number,
    shards: readonly Pick<ShardInfo, "id">[],
  ): Promise<{ readonly sealMs: number; readonly untilUs: number } | null> {
    const key = watermarkKey(name);
    const limits = [MOVING_US, GIVEN_UP_MS * 1_000, allowedLatenessMs, baseMs];
    const args = [ANNOUNCE, 1, key, sealMs, ...limits, ...shards.map(({ id }) => id)];
    const [answer] = await this.connection.demand([{ key, name: "EVAL", args }]);
    if (answer === null) return null;
    const [target, stamp] = (answer as Buffer[]).map(Number);
    return { sealMs: target, untilUs: stamp + MOVING_US - MOVED_BEFORE_US };
  }

  /**
   * Ends a move. @param sealMs the least of all buckets'
   * @param announcedMs as answered by `announce`; null when nothing was announced
   */
  async settle(stream: string, sealMs: number, announcedMs: number | null): Promise<void> {
    const key = watermarkKey(stream);
    await this.connection.demand([{ key, name: "EVAL", args: [SETTLE, 1, key, sealMs, announcedMs ?? ""] }]);
  }

  async read(stream: string): Promise<Registrations> {
    const key = watermarkKey(stream);
    const [answer] = await this.connection.demand([{ key, name: "HGETALL", args: [key] }]);
    const flat = (answer as Buffer[]).map(String);
    const committed = new Map<string, number>();
    const outstanding: OutstandingSpan[] = [];
    const bounds: LateBound[] = [];
    const newest = new Map<string, string>();
    let originMs: number | null = null;
    for (let i = 0; i < flat.length; i += 2) {
      const [kind, shard, firstSequence] = flat[i].split(":");
      const value = flat[i + 1];
      if (flat[i] === "origin") originMs = Number(value);
      else if (kind === "c") committed.set(shard, Number(value));
      else if (kind === "t") newest.set(shard, value);
      else if (kind === "o") {
        const [arrival, lastSequence, stamp] = value.split(":");
        outstanding.push({
          shard,
          firstSequence,
          firstArrivalMs: Number(arrival),
          lastSequence,
          stamp: Number(stamp),
        });
      } else if (kind === "b") {
        const [eventMs, stamp] = value.split(":").map(Number);
        bounds.push({ shard, lastSequence: firstSequence, eventMs, stamp });
      }
    }
    return { originMs, committed, outstanding, bounds, newest };
  }

  /** Up to where registrations take the stream for sealed, or will when the move that stands is done; 0 when nothing is known. */
  async sealed(stream: string): Promise<number> {
    const key = watermarkKey(stream);
    const [answer] = await this.connection.demand([{ key, name: "HMGET", args: [key, "seal", "next"] }]);
    return Math.max(...(answer as (Buffer | null)[]).map((value) => Number.parseInt(String(value ?? 0), 10)));
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

  /**
   * Forgets shards that the stream lists no more (they were closed, read, and have expired), and batches given up. A batch of
   * no listed shard stays until then: it may be one that was given up and is delivered again.
   */
  async forget(stream: string, state: Registrations, shards: readonly ShardInfo[], nowMs: number): Promise<void> {
    const listed = new Set(shards.map(({ id }) => id));
    const gone = [...state.committed].filter(([shard]) => !listed.has(shard));
    const forgotten = [...state.newest].filter(
      ([shard, value]) => !listed.has(shard) && isGivenUp({ stamp: Number(value.split(":")[1]) }, nowMs),
    );
    const spans = state.outstanding.filter((span) => isGivenUp(span, nowMs));
    const bounds = state.bounds.filter((bound) => isGivenUp(bound, nowMs));
    const pairs = [
      ...gone.map(([shard, arrivalMs]) => [`c:${shard}`, String(arrivalMs)]),
      ...forgotten.map(([shard, value]) => [`t:${shard}`, value]),
      ...spans.map((span) => [spanField(span), spanValue(span)]),
      ...bounds.map((bound) => [boundField(bound), boundValue(bound)]),
    ];
    if (pairs.length === 0) return;
    const key = watermarkKey(stream);
    await this.connection.demand([{ key, name: "EVAL", args: [DROP, 1, key, ...pairs.flat()] }]);
  }
}

/**
 * The arrival before which everything on every shard is done; null while any shard holds it back without a bound: one
 * without an acknowledgement since the registrations began.
 * A closed shard counts as read to its end once a child has been worked on, or a child of one: a mapping reads children after
 * their parents. After registrations were begun anew nobody works any more on what was closed twice before.
 */
export function committedArrival(
  state: Pick<Registrations, "originMs" | "committed" | "outstanding">,
  shards: readonly ShardInfo[],
  nowMs: number,
): number | null {
  const { originMs, committed } = state;
  if (originMs === null || shards.length === 0) return null;
  const outstanding = state.outstanding.filter((span) => !isGivenUp(span, nowMs));
  const touched = new Set([...committed.keys(), ...outstanding.map(({ shard }) => shard)]);
  let lowest = Number.POSITIVE_INFINITY;
  for (const { id, closed } of shards) {
    const open = outstanding.filter(({ shard }) => shard === id).map(({ firstArrivalMs }) => firstArrivalMs);
    const finished = closed && open.length === 0 && isPassed(id, shards, touched);
    if (finished) continue;
    const newest = committed.get(id);
    if (newest === undefined || newest < originMs) return null;
    lowest = Math.min(lowest, newest, ...open);
  }
  return Number.isFinite(lowest) ? lowest : null;
}

/** Whether any shard that a mapping reads after this one has been worked on. */
const isPassed = (id: string, shards: readonly ShardInfo[], touched: ReadonlySet<string>): boolean =>
  shards.some((child) => child.parents.includes(id) && (touched.has(child.id) || isPassed(child.id, shards, touched)));
