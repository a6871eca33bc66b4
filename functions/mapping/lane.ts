/**
 * One partition as the mapping goes through it: what was read and waits, what is in flight, and where to go on. Pure: time and
 * randomness are given.
 */

import type { TopicRecord } from "../../adapters/kafka/records.ts";

export interface LaneLimits {
  /** Records of an invocation at most. */
  readonly batchSize: number;
  /** How long the first record of a batch that is not full waits for others. */
  readonly batchWindowMs: number;
}

/** Keys and values of one invocation at most: with base64 and the envelope, what Lambda would take. */
const BATCH_BYTES = 3_500_000;
/** What waits at most; a full lane is not fetched for. A single fetch may pass it. */
const BUFFER_BYTES = 8_000_000;
const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 30_000;
/** Of a record beside key and value. */
const RECORD_BYTES = 300;

export class Lane {
  readonly topic: string;
  readonly partition: number;
  readonly #limits: LaneLimits;
  readonly #queue: TopicRecord[] = [];
  #bytes = 0;
  /** Offset to fetch from; what a record's offset says does not count where a log has gaps. */
  #readTo: bigint;
  #highWatermark: bigint | null = null;
  /** Of the next batch: halved by each failure, so that the cause comes to stand alone. */
  #size: number;
  #inFlight: readonly TopicRecord[] | null = null;
  #notBeforeMs = 0;
  #oldestSinceMs: number | null = null;
  /** Failures in a row. */
  attempts = 0;
  blockedSinceMs: number | null = null;
  /** Another member has the partition now: what is still in flight is acknowledged no more. */
  revoked = false;

  constructor(topic: string, partition: number, from: bigint, limits: LaneLimits) {
    this.topic = topic;
    this.partition = partition;
    this.#readTo = from;
    this.#limits = limits;
    this.#size = limits.batchSize;
  }

  get readTo(): bigint {
    return this.#readTo;
  }

  /** All below is done for good. */
  get position(): bigint {
    return this.#queue[0]?.offset ?? this.#readTo;
  }

  /** Records that the broker has beyond what is done, as far as is known; null before the first answer. */
  get lag(): number | null {
    if (this.#highWatermark === null) return null;
    return Number(this.#highWatermark > this.position ? this.#highWatermark - this.position : 0n);
  }

  wantsMore(): boolean {
    return this.#queue.length < 2 * this.#limits.batchSize && this.#bytes < BUFFER_BYTES;
  }

  /** @param readTo where the next fetch begins: behind these records, and behind what the broker keeps to itself */
  add(records: readonly TopicRecord[], readTo: bigint, highWatermark: bigint, nowMs: number): void {
    for (const record of records) {
      if (record.offset < this.#readTo) continue;
      this.#queue.push(record);
      this.#bytes += sizeOf(record);
    }
    if (readTo > this.#readTo) this.#readTo = readTo;
    this.#highWatermark = highWatermark;
    if (this.#queue.length > 0) this.#oldestSinceMs ??= nowMs;
  }

  /** Goes on elsewhere, where the broker no longer has (or never had) what would come next. */
  moveTo(offset: bigint): void {
    if (this.#queue.length === 0 && this.#inFlight === null) this.#readTo = offset;
  }

  /** When a batch can be taken; null while nothing waits or one is in flight. */
  dueMs(): number | null {
    if (this.#inFlight !== null || this.#queue.length === 0 || this.revoked) return null;
    const isFull = this.#queue.length >= this.#size || this.#bytes >= BATCH_BYTES;
    const windowMs = isFull || this.attempts > 0 ? 0 : this.#limits.batchWindowMs;
    return Math.max(this.#notBeforeMs, (this.#oldestSinceMs ?? 0) + windowMs);
  }

  /** The next batch, which is in flight from then on; null when none is due. */
  take(nowMs: number): readonly TopicRecord[] | null {
    const due = this.dueMs();
    if (due === null || due > nowMs) return null;
    let count = 0;
    let bytes = 0;
    while (count < this.#queue.length && count < this.#size) {
      bytes += sizeOf(this.#queue[count]!);
      if (count > 0 && bytes > BATCH_BYTES) break;
      count++;
    }
    this.#inFlight = this.#queue.slice(0, count);
    return this.#inFlight;
  }

  /** @param done how many records of the batch in flight are done for good, from its beginning on */
  settle(done: number, nowMs: number, random: () => number): void {
    const taken = this.#inFlight!.length;
    this.#inFlight = null;
    for (const record of this.#queue.splice(0, done)) this.#bytes -= sizeOf(record);
    this.#oldestSinceMs = this.#queue.length > 0 ? nowMs : null;
    if (done === taken) {
      this.attempts = 0;
      this.blockedSinceMs = null;
      this.#notBeforeMs = 0;
      this.#size = Math.min(this.#limits.batchSize, this.#size * 2);
      return;
    }
    // Some were done: what is left has failed for the first time.
    this.attempts = done > 0 ? 1 : this.attempts + 1;
    this.blockedSinceMs = done > 0 ? nowMs : (this.blockedSinceMs ?? nowMs);
    this.#size = Math.max(1, Math.floor((taken - done) / 2));
    const delayMs = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.min(this.attempts - 1, 16));
    // Lanes that failed together do not come back together.
    this.#notBeforeMs = nowMs + delayMs * (0.5 + random() / 2);
  }
}

const sizeOf = ({ key, value }: TopicRecord): number => RECORD_BYTES + (key?.length ?? 0) + (value?.length ?? 0);
