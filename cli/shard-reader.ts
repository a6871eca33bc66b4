/** Reads what the broker still holds of a shard, in batches that fit an invocation. */
import {
  GetRecordsCommand,
  GetShardIteratorCommand,
  type GetShardIteratorInput,
  type KinesisClient,
} from "@aws-sdk/client-kinesis";

/** Of one replayed batch as JSON: an invocation takes 6 MB. */
const BATCH_BYTES = 5_000_000;
/** Members of a record beside its data, as JSON. */
const RECORD_BYTES = 400;

export interface ShardRecord {
  readonly sequence: string;
  readonly arrivalMs: number;
  readonly data: Uint8Array;
}

/**
 * Batches of a shard up to its end at some moment after the call.
 * @param from an arrival; a sequence, for what comes after it; null for the shard's beginning
 */
export async function* readShard(
  kinesis: Pick<KinesisClient, "send">,
  stream: string,
  shard: string,
  from: number | string | null,
): AsyncGenerator<ShardRecord[]> {
  const { ShardIterator } = await kinesis.send(
    new GetShardIteratorCommand({
      StreamName: stream,
      ShardId: shard,
      ...startOf(from),
    }),
  );
  let iterator = ShardIterator;
  let batch: ShardRecord[] = [];
  let bytes = 0;
  while (iterator !== undefined) {
    const page = await kinesis.send(new GetRecordsCommand({ ShardIterator: iterator, Limit: 2_000 }));
    for (const { SequenceNumber, ApproximateArrivalTimestamp, Data } of page.Records ?? []) {
      const size = Math.ceil((Data!.length * 4) / 3) + RECORD_BYTES;
      if (bytes + size > BATCH_BYTES && batch.length > 0) {
        yield batch;
        batch = [];
        bytes = 0;
      }
      batch.push({ sequence: SequenceNumber!, arrivalMs: ApproximateArrivalTimestamp!.getTime(), data: Data! });
      bytes += size;
    }
    // Not until a page is empty: under load none ever is, and what comes now is the mapping's.
    if ((page.MillisBehindLatest ?? 0) === 0) break;
    iterator = page.NextShardIterator;
  }
  if (batch.length > 0) yield batch;
}

function startOf(
  from: number | string | null,
): Pick<GetShardIteratorInput, "ShardIteratorType" | "Timestamp" | "StartingSequenceNumber"> {
  if (from === null) return { ShardIteratorType: "TRIM_HORIZON" };
  if (typeof from === "number") return { ShardIteratorType: "AT_TIMESTAMP", Timestamp: new Date(from) };
  return { ShardIteratorType: "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber: from };
}
