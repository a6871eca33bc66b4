/**
 * A Kinesis stream in memory, as its readers see it: shards over ranges of the hash key, closed and followed by children when
 * the stream is resharded, AWS-shaped sequence numbers that grow within a shard and from parent to child, and arrival
 * times that the broker stamps.
 */
import { createHash } from "node:crypto";
import type { VirtualClock } from "./virtual-clock.ts";

export interface StreamRecord {
  readonly shardId: string;
  readonly sequence: string;
  readonly partitionKey: string;
  readonly data: Uint8Array;
  readonly arrivalMs: number;
}

export interface StreamShard {
  readonly id: string;
  /** None for a shard of the beginning, one after a split, two after a merge. */
  readonly parents: readonly string[];
  /** Inclusive, in [0, 2^128). */
  readonly startHash: bigint;
  readonly endHash: bigint;
  readonly records: StreamRecord[];
  /** Null while the shard is open. */
  endingSequence: string | null;
}

const HASH_SPACE = 2n ** 128n;

export class InMemoryStream {
  readonly name: string;
  readonly arn: string;
  readonly createdAtMs: number;
  readonly shards: StreamShard[] = [];
  readonly #clock: VirtualClock;
  #sequences = 0;

  constructor(options: { name: string; clock: VirtualClock; shards?: number }) {
    this.name = options.name;
    this.arn = `arn:aws:kinesis:us-east-1:000000000000:stream/${options.name}`;
    this.#clock = options.clock;
    this.createdAtMs = options.clock.now();
    const count = BigInt(options.shards ?? 1);
    for (let i = 0n; i < count; i++) {
      this.#open((HASH_SPACE * i) / count, (HASH_SPACE * (i + 1n)) / count - 1n, []);
    }
  }

  /**
   * PutRecord.
   * @param record.explicitHashKey decimal, chooses the shard instead of the partition key's MD5
   * @param record.copies 2 for a producer that lost the answer to its first call and sent again: two records, one datum
   */
  put(record: { partitionKey: string; data: Uint8Array; explicitHashKey?: string; copies?: number }): StreamRecord {
    const hash = record.explicitHashKey === undefined ? md5(record.partitionKey) : BigInt(record.explicitHashKey);
    const shard = this.shards.find(
      (open) => open.endingSequence === null && open.startHash <= hash && hash <= open.endHash,
    )!;
    let last!: StreamRecord;
    for (let copy = 0; copy < (record.copies ?? 1); copy++) {
      last = {
        shardId: shard.id,
        sequence: this.#nextSequence(shard),
        partitionKey: record.partitionKey,
        data: record.data,
        arrivalMs: this.#clock.now(),
      };
      shard.records.push(last);
    }
    return last;
  }

  /** SplitShard in the middle of its range. @returns the children's ids */
  split(shardId: string): [string, string] {
    const parent = this.#close(shardId);
    const middle = (parent.startHash + parent.endHash) / 2n;
    return [this.#open(parent.startHash, middle, [shardId]).id, this.#open(middle + 1n, parent.endHash, [shardId]).id];
  }

  /** MergeShards of two neighbours. @returns the child's id */
  merge(shardId: string, adjacentId: string): string {
    const [low, high] = [this.#openShard(shardId), this.#openShard(adjacentId)].sort((a, b) =>
      a.startHash < b.startHash ? -1 : 1,
    ) as [StreamShard, StreamShard];
    if (low.endHash + 1n !== high.startHash) throw new Error(`${shardId} and ${adjacentId} are not adjacent`);
    this.#close(low.id);
    this.#close(high.id);
    return this.#open(low.startHash, high.endHash, [shardId, adjacentId]).id;
  }

  openShards(): StreamShard[] {
    return this.shards.filter((shard) => shard.endingSequence === null);
  }

  /** The shard list as the heartbeat function hands it to control. */
  shardList(): { id: string; parents: readonly string[]; closed: boolean }[] {
    return this.shards.map(({ id, parents, endingSequence }) => ({ id, parents, closed: endingSequence !== null }));
  }

  #openShard(shardId: string): StreamShard {
    const shard = this.shards.find(({ id }) => id === shardId);
    if (shard === undefined || shard.endingSequence !== null) throw new Error(`${shardId} is not an open shard`);
    return shard;
  }

  #close(shardId: string): StreamShard {
    const shard = this.#openShard(shardId);
    shard.endingSequence = this.#nextSequence(shard);
    return shard;
  }

  #open(startHash: bigint, endHash: bigint, parents: string[]): StreamShard {
    const id = `shardId-${String(this.shards.length).padStart(12, "0")}`;
    const shard: StreamShard = { id, parents, startHash, endHash, records: [], endingSequence: null };
    this.shards.push(shard);
    return shard;
  }

  /**
   * 56 decimal digits that begin with 49, as AWS's do: far beyond a double, so whoever compares them as numbers is wrong.
   * The counter leads, then the shard, then the second: it grows within a shard and from a parent to its children.
   */
  #nextSequence(shard: StreamShard): string {
    const index = this.shards.indexOf(shard);
    const hex =
      "2" +
      Math.floor(this.createdAtMs / 1_000)
        .toString(16)
        .padStart(9, "0") +
      (this.#sequences++).toString(16).padStart(17, "0") +
      index.toString(16).padStart(10, "0") +
      Math.floor(this.#clock.now() / 1_000)
        .toString(16)
        .padStart(9, "0") +
      "2";
    return BigInt(`0x${hex}`).toString();
  }
}

/** Where Kinesis puts a partition key. */
export function md5(partitionKey: string): bigint {
  return BigInt(`0x${createHash("md5").update(partitionKey, "utf8").digest("hex")}`);
}
