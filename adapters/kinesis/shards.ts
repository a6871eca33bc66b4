/** What the heartbeat needs of Kinesis: every shard of a stream, and a record onto each open one. */
import {
  DescribeStreamSummaryCommand,
  type KinesisClient,
  ListShardsCommand,
  PutRecordsCommand,
  type Shard,
} from "@aws-sdk/client-kinesis";
import { InfrastructureError } from "../../core/errors.ts";
import { backoffMs } from "../backoff.ts";
import type { ListedShard } from "../broker/broker.ts";

interface ListedStream {
  /** Records are kept for this long. */
  readonly retentionMs: number;
  readonly createdAtMs: number;
  /** Open ones and those that closed within the stream's retention. */
  readonly shards: readonly ListedShard[];
}

const RECORDS_PER_CALL = 500;
const MAX_ROUNDS = 4;
const PAUSE = { firstMs: 400, longestMs: 1_600 };

/** Throws what the SDK throws. @param stream the Kinesis name */
export async function listStream(client: Pick<KinesisClient, "send">, stream: string): Promise<ListedStream> {
  const summary = await client.send(new DescribeStreamSummaryCommand({ StreamName: stream }));
  const { RetentionPeriodHours, StreamCreationTimestamp } = summary.StreamDescriptionSummary!;
  const shards: ListedShard[] = [];
  let token: string | undefined;
  do {
    // A token stands for the name and must come alone.
    const page = await client.send(
      new ListShardsCommand(token === undefined ? { StreamName: stream } : { NextToken: token }),
    );
    shards.push(...(page.Shards ?? []).map(listed));
    token = page.NextToken;
  } while (token !== undefined);
  return {
    retentionMs: RetentionPeriodHours! * 3_600_000,
    createdAtMs: StreamCreationTimestamp!.getTime(),
    shards,
  };
}

const listed = (shard: Shard): ListedShard => ({
  id: shard.ShardId!,
  parents: [shard.ParentShardId ?? "", shard.AdjacentParentShardId ?? ""].filter((id) => id !== ""),
  closed: (shard.SequenceNumberRange?.EndingSequenceNumber ?? "") !== "",
  startingHashKey: shard.HashKeyRange!.StartingHashKey!,
});

/**
 * Puts `data` onto every open shard. One that is closed meanwhile passes its record on to a child, which is as good.
 * @throws InfrastructureError `heartbeat_unsent` when a shard does not take its record in four rounds
 */
export async function putOnEveryShard(
  client: Pick<KinesisClient, "send">,
  stream: string,
  shards: readonly ListedShard[],
  data: Uint8Array,
  sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms)),
): Promise<void> {
  let rest = shards.filter((shard) => !shard.closed);
  for (let round = 0; rest.length > 0 && round < MAX_ROUNDS; round++) {
    if (round > 0) await sleep(backoffMs(round, PAUSE));
    const refused: ListedShard[] = [];
    for (let start = 0; start < rest.length; start += RECORDS_PER_CALL) {
      const part = rest.slice(start, start + RECORDS_PER_CALL);
      const answer = await client.send(
        new PutRecordsCommand({
          StreamName: stream,
          Records: part.map(({ id, startingHashKey }) => ({
            Data: data,
            PartitionKey: `heartbeat-${id}`,
            ExplicitHashKey: startingHashKey,
          })),
        }),
      );
      refused.push(...part.filter((_, i) => (answer.Records?.[i]?.ErrorCode ?? null) !== null));
    }
    rest = refused;
  }
  if (rest.length === 0) return;
  throw new InfrastructureError(
    "heartbeat_unsent",
    `${rest.length} shards of ${stream} took no heartbeat in ${MAX_ROUNDS} rounds, the first is ${rest[0]!.id}`,
    { repair: "none needed if it passes: the seal waits for the next minute; else give the stream more shards" },
  );
}
