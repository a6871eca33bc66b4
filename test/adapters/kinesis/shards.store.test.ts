import {
  CreateStreamCommand,
  DescribeStreamSummaryCommand,
  GetRecordsCommand,
  GetShardIteratorCommand,
  KinesisClient,
  PutRecordsCommand,
  SplitShardCommand,
  waitUntilStreamExists,
} from "@aws-sdk/client-kinesis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ListedShard } from "../../../adapters/broker/broker.ts";
import { listStream, putOnEveryShard } from "../../../adapters/kinesis/shards.ts";
import { startEmulator, type TestEmulator } from "../../harness/emulator.ts";

const HEARTBEAT = Buffer.from("heartbeat");
let emulator: TestEmulator;
let client: KinesisClient;

beforeAll(async () => {
  emulator = await startEmulator();
  client = new KinesisClient({
    endpoint: emulator.url,
    region: "us-east-1",
    credentials: { accessKeyId: "test", secretAccessKey: "test" },
  });
});
afterAll(() => emulator?.stop());

async function activeStream(name: string, shards: number): Promise<void> {
  await client.send(new CreateStreamCommand({ StreamName: name, ShardCount: shards }));
  await waitUntilStreamExists({ client, maxWaitTime: 10, minDelay: 0.05, maxDelay: 0.1 }, { StreamName: name });
}

async function recordsOn(stream: string, shard: ListedShard): Promise<number> {
  const { ShardIterator } = await client.send(
    new GetShardIteratorCommand({ StreamName: stream, ShardId: shard.id, ShardIteratorType: "TRIM_HORIZON" }),
  );
  return (await client.send(new GetRecordsCommand({ ShardIterator }))).Records!.length;
}

describe("listStream and putOnEveryShard", () => {
  test("each open shard gets one record, a closed one none, and children name their parent", async () => {
    await activeStream("split", 2);
    await client.send(
      new SplitShardCommand({
        StreamName: "split",
        ShardToSplit: "shardId-000000000000",
        NewStartingHashKey: (2n ** 126n).toString(),
      }),
    );
    const { shards, createdAtMs } = await listStream(client, "split");
    // The emulator lists a closed shard no more; the next test has one.
    expect(shards.map(({ id, parents, closed }) => ({ id, parents, closed }))).toEqual([
      { id: "shardId-000000000001", parents: [], closed: false },
      { id: "shardId-000000000002", parents: ["shardId-000000000000"], closed: false },
      { id: "shardId-000000000003", parents: ["shardId-000000000000"], closed: false },
    ]);
    expect(Math.abs(Date.now() - createdAtMs)).toBeLessThan(60_000);
    await putOnEveryShard(client, "split", shards, HEARTBEAT);
    expect(await Promise.all(shards.map((shard) => recordsOn("split", shard)))).toEqual([1, 1, 1]);
  });

  test("closed shards are listed as such and get no heartbeat, as AWS lists them", async () => {
    const range = { StartingHashKey: "0", EndingHashKey: "9" };
    const sent: string[] = [];
    const aws = {
      send: async (command: any) => {
        if (command instanceof DescribeStreamSummaryCommand) {
          return {
            StreamDescriptionSummary: {
              StreamARN: "arn:aws:kinesis:eu-west-1:1:stream/s",
              RetentionPeriodHours: 24,
              StreamCreationTimestamp: new Date(1_795_248_000_000),
            },
          };
        }
        if (command instanceof PutRecordsCommand) {
          sent.push(...command.input.Records!.map((record) => record.ExplicitHashKey!));
          return { Records: command.input.Records!.map(() => ({ SequenceNumber: "1" })) };
        }
        return {
          Shards: [
            {
              ShardId: "a",
              HashKeyRange: range,
              SequenceNumberRange: { StartingSequenceNumber: "1", EndingSequenceNumber: "2" },
            },
            {
              ShardId: "b",
              HashKeyRange: range,
              SequenceNumberRange: { StartingSequenceNumber: "1", EndingSequenceNumber: "2" },
            },
            {
              ShardId: "c",
              ParentShardId: "a",
              AdjacentParentShardId: "b",
              HashKeyRange: { StartingHashKey: "7", EndingHashKey: "9" },
              SequenceNumberRange: { StartingSequenceNumber: "3" },
            },
          ],
        };
      },
    };
    const listed = await listStream(aws as any, "merged");
    expect(listed).toEqual({
      retentionMs: 86_400_000,
      createdAtMs: 1_795_248_000_000,
      shards: [
        { id: "a", parents: [], closed: true, startingHashKey: "0" },
        { id: "b", parents: [], closed: true, startingHashKey: "0" },
        { id: "c", parents: ["a", "b"], closed: false, startingHashKey: "7" },
      ],
    });
    await putOnEveryShard(aws as any, "merged", listed.shards, HEARTBEAT);
    expect(sent).toEqual(["7"]);
  });

  test("a list of several pages is read to its end", async () => {
    await activeStream("paged", 5);
    const tokens: (string | undefined)[] = [];
    // The emulator's pages hold 1,000 shards, so the second page is made here of a part of the first.
    const paging = {
      send: async (command: any) => {
        const answer: any = await client.send(
          command.input.NextToken === undefined ? command : new (command.constructor as any)({ StreamName: "paged" }),
        );
        if (answer.Shards === undefined) return answer;
        tokens.push(command.input.NextToken);
        expect(command.input.NextToken === undefined || command.input.StreamName === undefined).toBe(true);
        const first = command.input.NextToken === undefined;
        return {
          Shards: first ? answer.Shards.slice(0, 3) : answer.Shards.slice(3),
          NextToken: first ? "more" : undefined,
        };
      },
    };
    const { shards } = await listStream(paging as any, "paged");
    expect(shards.map(({ id }) => Number(id.slice(-1)))).toEqual([0, 1, 2, 3, 4]);
    expect(tokens).toEqual([undefined, "more"]);
  });

  /** A broker that refuses records of the named shard, for the given number of rounds. */
  function throttling(stream: string, shard: string, rounds: number) {
    const calls: string[][] = [];
    const send = async (command: any) => {
      if (!(command instanceof PutRecordsCommand)) return client.send(command);
      calls.push(command.input.Records!.map((record) => record.PartitionKey!));
      const accepted = command.input.Records!.filter(
        (record) => record.PartitionKey !== `heartbeat-${shard}` || calls.length > rounds,
      );
      if (accepted.length > 0) await client.send(new PutRecordsCommand({ StreamName: stream, Records: accepted }));
      return {
        Records: command.input.Records!.map((record) =>
          accepted.includes(record) ? { SequenceNumber: "1" } : { ErrorCode: "ProvisionedThroughputExceededException" },
        ),
      };
    };
    return { calls, client: { send } as any };
  }

  test("only the shards that refused are tried again", async () => {
    await activeStream("busy", 2);
    const { shards } = await listStream(client, "busy");
    const busy = throttling("busy", "shardId-000000000001", 2);
    await putOnEveryShard(busy.client, "busy", shards, HEARTBEAT, async () => {});
    expect(busy.calls.map((keys) => keys.length)).toEqual([2, 1, 1]);
    expect(await Promise.all(shards.map((shard) => recordsOn("busy", shard)))).toEqual([1, 1]);
  });

  test("a shard that never takes its heartbeat is named", async () => {
    await activeStream("full", 2);
    const { shards } = await listStream(client, "full");
    const full = throttling("full", "shardId-000000000000", 99);
    await expect(putOnEveryShard(full.client, "full", shards, HEARTBEAT, async () => {})).rejects.toMatchObject({
      name: "InfrastructureError",
      code: "heartbeat_unsent",
      message: "1 shards of full took no heartbeat in 4 rounds, the first is shardId-000000000000",
    });
    expect(full.calls).toHaveLength(4);
  });
});
