/** One of `parallelizationFactor` readers of a shard, with the partition keys whose hash falls to it. */
import { md5, type StreamRecord, type StreamShard } from "./kinesis-stream.ts";
import { MAX_PAYLOAD_BYTES, payloadBytes } from "./mapping-protocol.ts";
import type { MappingSettings } from "./mapping-settings.ts";

export interface Batch {
  readonly records: readonly StreamRecord[];
  /** Retries so far, as the retry quota counts them. */
  readonly attempts: number;
  /** How often the function was run with these records. */
  readonly invocations: number;
  readonly notBeforeMs: number;
}

export class Lane {
  readonly shard: StreamShard;
  readonly index: number;
  /** Batches that failed or were split, ahead of everything unread, in order. */
  readonly retries: Batch[] = [];
  readonly #settings: MappingSettings;
  readonly #buffer: StreamRecord[] = [];
  /** Next record of the shard to look at. */
  #cursor: number;
  /** When the oldest of the buffer was read; the batching window runs from here. */
  #bufferedSinceMs = 0;

  constructor(shard: StreamShard, index: number, settings: MappingSettings, fromLatest: boolean) {
    this.shard = shard;
    this.index = index;
    this.#settings = settings;
    this.#cursor = fromLatest ? shard.records.length : 0;
  }

  /** @returns when the lane has something to invoke with; infinity when nothing is in sight */
  readyAtMs(nowMs: number): number {
    if (this.retries.length > 0) return this.retries[0]!.notBeforeMs;
    this.#read(nowMs);
    if (this.#buffer.length === 0) return Number.POSITIVE_INFINITY;
    const full = this.#buffer.length >= this.#settings.batchSize || fits(this.#buffer) < this.#buffer.length;
    return full ? nowMs : this.#bufferedSinceMs + this.#settings.batchWindowMs;
  }

  /** The next batch; a lane that is ready has one. @param choose draws its size from 1 to the given */
  take(nowMs: number, choose: (most: number) => number): Batch {
    const retry = this.retries.shift();
    if (retry !== undefined) return retry;
    const records = this.#buffer.splice(0, choose(fits(this.#buffer)));
    // What stays counts as read now: the window of its predecessors has gone with them.
    this.#bufferedSinceMs = nowMs;
    return { records, attempts: 0, invocations: 0, notBeforeMs: nowMs };
  }

  /** Whether the shard is closed and nothing of it is left here but what may be running. */
  isReadToItsEnd(nowMs: number): boolean {
    this.#read(nowMs);
    const unread = this.#cursor < this.shard.records.length || this.#buffer.length > 0 || this.retries.length > 0;
    return this.shard.endingSequence !== null && !unread;
  }

  /** Moves the lane's records of the shard into the buffer, up to a batch. */
  #read(nowMs: number): void {
    const { records } = this.shard;
    const { batchSize, parallelizationFactor } = this.#settings;
    while (this.#cursor < records.length && this.#buffer.length < batchSize) {
      const record = records[this.#cursor++]!;
      if (laneOf(record, parallelizationFactor) !== this.index) continue;
      if (this.#buffer.length === 0) this.#bufferedSinceMs = nowMs;
      this.#buffer.push(record);
    }
  }
}

/** Every record of a partition key goes to the same lane of its shard. */
const laneOf = (record: StreamRecord, lanes: number): number =>
  lanes === 1 ? 0 : Number(md5(record.partitionKey) % BigInt(lanes));

/** How many of the leading records fit into one payload; at least one. */
function fits(records: readonly StreamRecord[]): number {
  let bytes = 0;
  for (let i = 0; i < records.length; i++) {
    bytes += payloadBytes(records[i]!);
    if (bytes > MAX_PAYLOAD_BYTES && i > 0) return i;
  }
  return records.length;
}
