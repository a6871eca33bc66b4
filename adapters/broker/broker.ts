/**
 * What the rest of the code needs of a broker: Kinesis (`kinesis/`) or Kafka (`kafka/`). A *shard* is a Kinesis shard or a
 * partition, whose number is its id. A *sequence* places a record in its shard: a sequence number or an offset, in decimal.
 * `stream` is the broker's own name of a stream everywhere here.
 */

export interface ListedShard {
  readonly id: string;
  /** One after a split, two after a merge; parents that have expired are named all the same. Partitions have none. */
  readonly parents: readonly string[];
  /** No record will be added; its last ones may still be unread. Partitions stay open. */
  readonly closed: boolean;
  /** Of Kinesis, in decimal: a record with this explicit hash key lands on the shard while it is open. */
  readonly startingHashKey?: string;
}

export interface ListedStream {
  /** Kafka does not know it: the arrival of its oldest record, or now. */
  readonly createdAtMs: number;
  /** What has arrived since is held; -Infinity where all that ever came is. */
  readonly heldSinceMs: number;
  /** Open ones and those whose records may still be unread. */
  readonly shards: readonly ListedShard[];
}

export interface ShardRecord {
  readonly sequence: string;
  /** Given by the broker. */
  readonly arrivalMs: number;
  /** Empty where a record of Kafka has no value. */
  readonly data: Uint8Array;
}

/** What waits behind an arrival. */
export interface Waiting {
  /** At least. */
  readonly records: number;
  /** Arrival of the oldest; Infinity when there is none. */
  readonly oldestMs: number;
}

export interface Broker {
  /** @throws FreshetError `topic_unsuitable`, where arrivals would not be the broker's; else what the client throws */
  list(stream: string): Promise<ListedStream>;
  /**
   * Puts `data` onto every open shard.
   * @throws InfrastructureError `heartbeat_unsent` when a shard does not take it
   */
  putOnEveryShard(stream: string, shards: readonly ListedShard[], data: Uint8Array): Promise<void>;
  /**
   * Batches that fit an invocation, up to the shard's end at some moment after the call.
   * @param from an arrival; a sequence, for what comes after it; null for what is oldest
   */
  readShard(stream: string, shard: string, from: number | string | null): AsyncGenerator<ShardRecord[]>;
  /** @param sinceMs an arrival; null for all that is held */
  waitingAfter(stream: string, sinceMs: number | null): Promise<Waiting>;
  close(): Promise<void>;
}

export interface OutgoingRecord {
  readonly data: Uint8Array;
  readonly partitionKey: string;
}

/**
 * What became of a record: `queued` (the broker acknowledged it), `throttled` (the shard is at its limit) or `unavailable`
 * (no acknowledgement; it may or may not be in the stream, and sending it again is safe because event ids are idempotent).
 */
export type PublishOutcome = "queued" | "throttled" | "unavailable";

export interface Publisher {
  /**
   * Outcomes aligned with `records`. Never throws for a broker that fails: that is an outcome.
   * @param stream its name in the plan
   */
  publish(stream: string, records: readonly OutgoingRecord[]): Promise<PublishOutcome[]>;
}

/** Of a batch that is read, as JSON: an invocation takes 6 MB. */
const BATCH_BYTES = 5_000_000;
/** Members of a record beside its data, as JSON. */
const RECORD_BYTES = 400;

/** Cuts records into batches that fit an invocation, whatever pages they come in. */
export class InvocationBatches {
  private batch: ShardRecord[] = [];
  private bytes = 0;

  /** @returns a batch that is full without this record, which begins the next one; else null */
  add(record: ShardRecord): ShardRecord[] | null {
    const size = Math.ceil((record.data.length * 4) / 3) + RECORD_BYTES;
    const full = this.bytes + size > BATCH_BYTES && this.batch.length > 0 ? this.rest() : null;
    this.batch.push(record);
    this.bytes += size;
    return full;
  }

  /** What is left; empty when nothing is. */
  rest(): ShardRecord[] {
    const batch = this.batch;
    this.batch = [];
    this.bytes = 0;
    return batch;
  }
}
