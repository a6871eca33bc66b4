/** Baseline of the pipeline row: the same emulator and the same records, with nothing behind the broker. */
import { setTimeout as sleep } from "node:timers/promises";
import {
  CreateStreamCommand,
  DeleteStreamCommand,
  DescribeStreamSummaryCommand,
  GetRecordsCommand,
  GetShardIteratorCommand,
  ListShardsCommand,
} from "@aws-sdk/client-kinesis";
import { createKinesisClient } from "../adapters/kinesis/client.ts";
import { deaggregate } from "../adapters/kinesis/kpl.ts";
import { clientConfig } from "../local/deploy.ts";

const POLL_MS = 20;
const LIMIT_MS = 120_000;

export async function withUnmappedStream<T>(port: number, work: (stream: string) => Promise<T>): Promise<T> {
  const client = createKinesisClient(clientConfig(port));
  const StreamName = `freshet-bench-${Date.now()}`;
  try {
    await client.send(new CreateStreamCommand({ StreamName, ShardCount: 2 }));
    for (;;) {
      const { StreamDescriptionSummary } = await client.send(new DescribeStreamSummaryCommand({ StreamName }));
      if (StreamDescriptionSummary?.StreamStatus === "ACTIVE") break;
      await sleep(POLL_MS);
    }
    return await work(StreamName);
  } finally {
    await client.send(new DeleteStreamCommand({ StreamName })).catch(() => {});
    client.destroy();
  }
}

/** Reads until all events have been seen. @returns when the last was read, epoch ms */
export async function drainUnmapped(
  port: number,
  StreamName: string,
  events: number,
  signal: AbortSignal,
): Promise<number> {
  const client = createKinesisClient(clientConfig(port));
  try {
    const { Shards = [] } = await client.send(new ListShardsCommand({ StreamName }));
    const iterators = await Promise.all(
      Shards.map(async ({ ShardId }) => {
        const start = { StreamName, ShardId, ShardIteratorType: "TRIM_HORIZON" } as const;
        return (await client.send(new GetShardIteratorCommand(start))).ShardIterator;
      }),
    );
    const deadline = performance.now() + LIMIT_MS;
    let seen = 0;
    while (seen < events) {
      signal.throwIfAborted();
      if (performance.now() > deadline) throw new Error(`read back ${seen} of ${events} events in ${LIMIT_MS} ms`);
      const before = seen;
      for (const [i, ShardIterator] of iterators.entries()) {
        const answer = await client.send(new GetRecordsCommand({ ShardIterator }));
        iterators[i] = answer.NextShardIterator;
        for (const { Data } of answer.Records ?? []) seen += deaggregate(Data!)?.length ?? 1;
      }
      if (seen === before) await sleep(POLL_MS);
    }
    return Date.now();
  } finally {
    client.destroy();
  }
}
