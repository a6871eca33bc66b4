/** The stream and Lambda's mapping: shards that split and merge, lanes by partition key, and everything that a mapping may do again. */

import { encodeHeartbeat } from "../../adapters/avro/event-codec.ts";
import { hash64 } from "../../adapters/hash.ts";
import type { ShardInfo } from "../../adapters/valkey/watermark.ts";
import type { StreamRecord } from "../../functions/shared/aggregation/aggregation.ts";
import type { SimulatedEvent } from "./events.ts";
import { Actor, type Scheduler } from "./scheduler.ts";

export interface BrokerRecord extends StreamRecord {
  readonly events: readonly SimulatedEvent[];
}

interface Lane {
  readonly name: string;
  readonly queue: BrokerRecord[];
  /** Records before this were acknowledged, or are in `again`. */
  next: number;
  again: BrokerRecord[][];
  busy: boolean;
  attempts: number;
}

export interface Shard {
  readonly id: string;
  readonly parents: readonly string[];
  /** Hash keys, in [from, to). */
  readonly from: number;
  readonly to: number;
  closed: boolean;
  readonly records: BrokerRecord[];
  readonly lanes: Lane[];
}

/** What runs an invocation to its end; rejects when it throws. */
export type Invoke = (actor: Actor, shard: string, records: readonly BrokerRecord[]) => Promise<void>;

export interface BrokerOptions {
  readonly shards: number;
  /** Parallelization factor. */
  readonly lanes: number;
  readonly batchSize: number;
  /** Longest that a lane waits for a batch to fill, in ms. */
  readonly windowMs: number;
  readonly timeoutMs: number;
  readonly invoke: Invoke;
  /** Called once for each batch that the mapping takes for done. */
  readonly acknowledged: (records: readonly BrokerRecord[], actor: Actor) => void;
}

const KEYS = 2 ** 32;
const keyHash = (key: string): number => Number.parseInt(hash64(key).slice(0, 8), 16);

export class Broker {
  readonly shards: Shard[] = [];
  readonly createdAtMs: number;
  deliveries = 0;
  private sequence = 1_000_000;
  private readonly scheduler: Scheduler;
  private readonly options: BrokerOptions;
  private readonly hashes = new Map<string, number>();

  constructor(scheduler: Scheduler, options: BrokerOptions) {
    this.scheduler = scheduler;
    this.options = options;
    this.createdAtMs = scheduler.nowMs;
    for (let i = 0; i < options.shards; i++) {
      this.open((KEYS / options.shards) * i, (KEYS / options.shards) * (i + 1), []);
    }
  }

  put(partitionKey: string, bytes: Buffer, events: readonly SimulatedEvent[]): string {
    let hash = this.hashes.get(partitionKey);
    if (hash === undefined) this.hashes.set(partitionKey, (hash = keyHash(partitionKey)));
    return this.append(
      this.shards.find(({ closed, from, to }) => !closed && hash >= from && hash < to)!,
      hash,
      bytes,
      events,
    );
  }

  heartbeat(): void {
    for (const shard of this.shards) {
      if (!shard.closed) this.append(shard, this.sequence, encodeHeartbeat(Math.floor(this.scheduler.nowMs)), []);
    }
  }

  split(shard: Shard): void {
    shard.closed = true;
    const middle = (shard.from + shard.to) / 2;
    this.open(shard.from, middle, [shard.id]);
    this.open(middle, shard.to, [shard.id]);
  }

  merge(a: Shard, b: Shard): void {
    a.closed = true;
    b.closed = true;
    this.open(Math.min(a.from, b.from), Math.max(a.to, b.to), [a.id, b.id]);
  }

  list(): ShardInfo[] {
    return this.shards.map(({ id, parents, closed }) => ({ id, parents, closed }));
  }

  /** Whether everything that was put has been acknowledged. */
  get idle(): boolean {
    return this.shards.every((shard) => isRead(shard));
  }

  private open(from: number, to: number, parents: readonly string[]): void {
    const id = `shardId-${String(this.shards.length).padStart(12, "0")}`;
    const lanes = Array.from({ length: this.options.lanes }, (_, lane) => ({
      name: `s${this.shards.length}.${lane}`,
      queue: [],
      next: 0,
      again: [],
      busy: false,
      attempts: 0,
    }));
    this.shards.push({ id, parents, from, to, closed: false, records: [], lanes });
  }

  private append(shard: Shard, hash: number, bytes: Buffer, events: readonly SimulatedEvent[]): string {
    const record = { sequence: String(++this.sequence), arrivalMs: Math.floor(this.scheduler.nowMs), bytes, events };
    shard.records.push(record);
    const lane = shard.lanes[hash % shard.lanes.length];
    lane.queue.push(record);
    this.pump(shard, lane);
    return record.sequence;
  }

  /** Begins the next delivery of a lane, unless one is under way. A shard is read when its parents have been. */
  private pump(shard: Shard, lane: Lane): void {
    if (lane.busy || (lane.again.length === 0 && lane.next >= lane.queue.length)) return;
    if (!this.shards.every((parent) => !shard.parents.includes(parent.id) || isRead(parent))) return;
    lane.busy = true;
    const { dice } = this.scheduler;
    const name = `${lane.name}#${++lane.attempts}`;
    const delayMs =
      lane.again.length > 0 ? dice.between(`${name} retry`, 50, 6_000) : dice.between(name, 50, this.options.windowMs);
    this.scheduler.after(delayMs, () => this.deliver(shard, lane, name));
  }

  private deliver(shard: Shard, lane: Lane, name: string): void {
    const { scheduler } = this;
    const { dice } = scheduler;
    let records = lane.again.shift();
    if (records === undefined) {
      const most = Math.ceil(this.options.batchSize * dice.unit(`${name} size`) ** 2);
      records = lane.queue.slice(lane.next, lane.next + Math.max(1, most));
      lane.next += records.length;
    } else if (lane.again.length === 0 && !scheduler.calm && dice.fault("retry reaches further", name, 0.2)) {
      const more = lane.queue.slice(lane.next, lane.next + 1 + dice.below(`${name} further`, 20));
      lane.next += more.length;
      records = [...records, ...more];
    }
    this.deliveries++;
    const actor = new Actor(name);
    const batch = records;
    let over = false;
    const end = (done: boolean): void => {
      if (over) return;
      over = true;
      this.settle(shard, lane, name, batch, done, actor);
    };
    actor.onDeath = () => scheduler.after(dice.between(`${name} noticed`, 1, 3_000), () => end(false));
    // Lambda ends it for certain.
    scheduler.after(this.options.timeoutMs, () => actor.kill(scheduler.nowMs));
    if (!scheduler.calm && dice.fault("given up", name, 0.015)) {
      // It goes on, and the mapping believes that it has failed.
      scheduler.after(dice.between(`${name} given up`, 1, this.options.timeoutMs / 4), () => end(false));
    }
    this.options.invoke(actor, shard.id, batch).then(
      () => scheduler.after(0, () => end(scheduler.calm || !dice.fault("acknowledgement lost", name, 0.02))),
      () => scheduler.after(0, () => end(false)),
    );
  }

  private settle(shard: Shard, lane: Lane, name: string, batch: BrokerRecord[], done: boolean, actor: Actor): void {
    const { dice, calm } = this.scheduler;
    lane.busy = false;
    if (done) {
      this.options.acknowledged(batch, actor);
      if (!calm && lane.again.length === 0 && dice.fault("rewound", name, 0.01)) {
        // The mapping's place in the shard was lost: it goes on from an earlier one.
        const from = Math.max(0, lane.next - 1 - dice.below(`${name} back`, 40));
        lane.again.push(lane.queue.slice(from, lane.next));
      }
    } else if (batch.length > 1 && dice.unit(`${name} bisect`) < 0.6) {
      dice.happened("bisected");
      const middle = Math.ceil(batch.length / 2);
      lane.again.unshift(batch.slice(0, middle), batch.slice(middle));
    } else lane.again.unshift(batch);
    this.pump(shard, lane);
    if (isRead(shard)) for (const child of this.shards) for (const each of child.lanes) this.pump(child, each);
  }
}

const isRead = (shard: Shard): boolean =>
  shard.lanes.every(({ busy, again, next, queue }) => !busy && again.length === 0 && next >= queue.length);
