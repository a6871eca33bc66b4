/** Reads what a topic still holds: its bounds, and a partition from somewhere to its end. */
import { Consumer, FetchIsolationLevels, ListOffsetTimestamps } from "@platformatic/kafka";
import { InfrastructureError } from "../../core/errors.ts";
import { framedValue } from "../avro/framing.ts";
import { InvocationBatches, type ShardRecord } from "../broker/broker.ts";
import type { KafkaSettings } from "../broker/open-broker.ts";
import { assertReachable, connectionOptions } from "./connection.ts";
import { recordsOf } from "./records.ts";

/** A fetch waits for so long where there is nothing; a partition that is to have more gives it within the other. */
const FETCH_WAIT_MS = 500;
const STALLED_MS = 30_000;
const FETCH_BYTES = 4 * 1024 * 1024;

/** A position with the time of the record there; -1 for neither. */
export interface OffsetAt {
  readonly offset: bigint;
  readonly timestamp: bigint;
}

/**
 * Joins no group: it reads for itself alone.
 * @throws FreshetError `kafka_settings`
 */
export function createReader(settings: KafkaSettings): Consumer {
  const options = { ...connectionOptions(settings), groupId: "freshet-reader", maxWaitTime: FETCH_WAIT_MS };
  return new Consumer({ ...options, isolationLevel: FetchIsolationLevels.READ_COMMITTED });
}

/** The first record of each partition at or after a time, or an end of it (`ListOffsetTimestamps`), by partition. */
export async function offsetsAt(
  consumer: Consumer,
  topic: string,
  timestamp: bigint,
  partition?: number,
): Promise<Map<number, OffsetAt>> {
  const partitions = partition === undefined ? undefined : { [topic]: [partition] };
  return (await consumer.listOffsetsWithTimestamps({ topics: [topic], partitions, timestamp })).get(topic) ?? new Map();
}

/** See `Broker.readShard`. One consumer each: a broker keeps one position of reading for each client. */
export async function* readPartition(
  settings: KafkaSettings,
  topic: string,
  partition: number,
  from: number | string | null,
): AsyncGenerator<ShardRecord[]> {
  const consumer = createReader(settings);
  try {
    consumer.topics.track(topic);
    const { end, start } = await bounds(consumer, topic, partition, from);
    const batches = new InvocationBatches();
    let position = start;
    let movedMs = Date.now();
    while (position < end) {
      const { records, next } = recordsOf(await fetchFrom(consumer, settings, topic, partition, position), position);
      if (next !== null && next > position) {
        position = next;
        movedMs = Date.now();
      } else if (Date.now() - movedMs > STALLED_MS) {
        throw new InfrastructureError("topic_unreadable", `${topic}-${partition} gives nothing from ${position} on`, {
          repair: "look after the broker, then run this again",
        });
      }
      for (const { offset, timestampMs, timestampType, value, headers } of records) {
        if (offset >= end) break;
        // Was set aside when it was delivered; it comes again out of the quarantine.
        if (timestampType !== "LOG_APPEND_TIME") continue;
        const data = framedValue(
          value ?? Buffer.alloc(0),
          headers.map(([name, content]) => [String(name), content ?? Buffer.alloc(0)]),
        );
        const record = { sequence: String(offset), arrivalMs: timestampMs, data };
        const full = batches.add(record);
        if (full !== null) yield full;
      }
    }
    const rest = batches.rest();
    if (rest.length > 0) yield rest;
  } finally {
    await consumer.close(true);
  }
}

/** Where to begin and end. What retention has taken is passed over. */
async function bounds(consumer: Consumer, topic: string, partition: number, from: number | string | null) {
  const at = async (timestamp: bigint) => (await offsetsAt(consumer, topic, timestamp, partition)).get(partition)!;
  const { offset: end } = await at(ListOffsetTimestamps.LATEST);
  const { offset: oldest } = await at(ListOffsetTimestamps.EARLIEST);
  if (from === null) return { start: oldest, end };
  if (typeof from === "number") {
    const { offset } = await at(BigInt(Math.max(0, from)));
    return { start: offset < 0n ? end : offset, end };
  }
  const after = BigInt(from) + 1n;
  return { start: after < oldest ? oldest : after, end };
}

async function fetchFrom(
  consumer: Consumer,
  settings: KafkaSettings,
  topic: string,
  partition: number,
  fetchOffset: bigint,
) {
  const metadata = await consumer.metadata({ topics: [topic] });
  assertReachable(settings, metadata);
  const { id, partitions } = metadata.topics.get(topic)!;
  const wanted = {
    ...{ partition, fetchOffset, partitionMaxBytes: FETCH_BYTES },
    ...{ currentLeaderEpoch: partitions[partition].leaderEpoch, lastFetchedEpoch: -1 },
  };
  const response = await consumer.fetch({
    node: partitions[partition].leader,
    topics: [{ topicId: id, partitions: [wanted] }],
    ...{ maxWaitTime: FETCH_WAIT_MS, maxBytes: FETCH_BYTES, isolationLevel: FetchIsolationLevels.READ_COMMITTED },
  });
  const found = response.responses.flatMap(({ partitions }) => partitions);
  return found[0] ?? { records: null, abortedTransactions: null };
}
