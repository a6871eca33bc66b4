/** Reads what Kinesis still holds of a shard. */
import {
  GetRecordsCommand,
  GetShardIteratorCommand,
  type GetShardIteratorInput,
  type KinesisClient,
} from "@aws-sdk/client-kinesis";
import { InvocationBatches, type ShardRecord, type Waiting } from "../broker/broker.ts";

type Client = Pick<KinesisClient, "send">;

/** See `Broker.readShard`. */
export async function* readShard(
  kinesis: Client,
  stream: string,
  shard: string,
  from: number | string | null,
): AsyncGenerator<ShardRecord[]> {
  let iterator = await iteratorOf(kinesis, stream, shard, from);
  const batches = new InvocationBatches();
  while (iterator !== undefined) {
    const page = await kinesis.send(new GetRecordsCommand({ ShardIterator: iterator, Limit: 2_000 }));
    for (const { SequenceNumber, ApproximateArrivalTimestamp, Data } of page.Records ?? []) {
      const arrivalMs = ApproximateArrivalTimestamp!.getTime();
      const full = batches.add({ sequence: SequenceNumber!, arrivalMs, data: Data! });
      if (full !== null) yield full;
    }
    // Not until a page is empty: under load none ever is, and what comes now is the mapping's.
    if ((page.MillisBehindLatest ?? 0) === 0) break;
    iterator = page.NextShardIterator;
  }
  const rest = batches.rest();
  if (rest.length > 0) yield rest;
}

/** One read of each shard: what it answers waits at least. */
export async function waitingAfter(
  kinesis: Client,
  stream: string,
  shards: readonly string[],
  sinceMs: number | null,
): Promise<Waiting> {
  let records = 0;
  let oldestMs = Number.POSITIVE_INFINITY;
  for (const shard of shards) {
    const iterator = await iteratorOf(kinesis, stream, shard, sinceMs === null ? null : sinceMs + 1);
    const { Records = [] } = await kinesis.send(new GetRecordsCommand({ ShardIterator: iterator, Limit: 1_000 }));
    records += Records.length;
    const first = Records[0]?.ApproximateArrivalTimestamp?.getTime();
    if (first !== undefined) oldestMs = Math.min(oldestMs, first);
  }
  return { records, oldestMs };
}

async function iteratorOf(kinesis: Client, stream: string, shard: string, from: number | string | null) {
  const { ShardIterator } = await kinesis.send(
    new GetShardIteratorCommand({ StreamName: stream, ShardId: shard, ...startOf(from) }),
  );
  return ShardIterator;
}

function startOf(
  from: number | string | null,
): Pick<GetShardIteratorInput, "ShardIteratorType" | "Timestamp" | "StartingSequenceNumber"> {
  if (from === null) return { ShardIteratorType: "TRIM_HORIZON" };
  if (typeof from === "number") return { ShardIteratorType: "AT_TIMESTAMP", Timestamp: new Date(from) };
  return { ShardIteratorType: "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber: from };
}
