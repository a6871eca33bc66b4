import {
  CreateStreamCommand,
  type GetRecordsCommandOutput,
  type KinesisClient,
  PutRecordsCommand,
  waitUntilStreamExists,
} from "@aws-sdk/client-kinesis";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import type { ShardRecord } from "../../../adapters/broker/broker.ts";
import { createKinesisClient } from "../../../adapters/kinesis/client.ts";
import { readShard } from "../../../adapters/kinesis/reader.ts";
import { startEmulator, type TestEmulator } from "../../harness/emulator.ts";

const SHARD = "shardId-000000000000";
let emulator: TestEmulator;
let client: KinesisClient;
let stream: string;
let streams = 0;

beforeAll(async () => {
  emulator = await startEmulator();
  client = createKinesisClient({
    endpoint: emulator.url,
    region: "us-east-1",
    credentials: { accessKeyId: "test", secretAccessKey: "test" },
  });
});
afterAll(() => emulator?.stop());
beforeEach(async () => {
  stream = `s${++streams}`;
  await client.send(new CreateStreamCommand({ StreamName: stream, ShardCount: 1 }));
  await waitUntilStreamExists({ client, maxWaitTime: 10, minDelay: 0.05, maxDelay: 0.1 }, { StreamName: stream });
});

async function put(names: readonly string[], bytes = 0): Promise<void> {
  const Records = names.map((name) => ({ Data: Buffer.from(name.padEnd(bytes, ".")), PartitionKey: "p" }));
  for (let at = 0; at < Records.length; at += 500) {
    await client.send(new PutRecordsCommand({ StreamName: stream, Records: Records.slice(at, at + 500) }));
  }
}
const numbered = (count: number, name = "r") => Array.from({ length: count }, (_, i) => `${name}${i}`);
const nameOf = ({ data }: ShardRecord) => Buffer.from(data).toString().replace(/\.+$/, "");

async function read(fromMs: number | null, kinesis: Pick<KinesisClient, "send"> = client): Promise<ShardRecord[][]> {
  const batches: ShardRecord[][] = [];
  for await (const batch of readShard(kinesis, stream, SHARD, fromMs)) batches.push(batch);
  return batches;
}

test("from its beginning every record is read, over several pages", async () => {
  const names = numbered(4_500);
  await put(names);
  expect((await read(null)).flat().map(nameOf)).toEqual(names);
});

test("from an instant on, only what arrived since is asked for", async () => {
  await put(numbered(5, "old"));
  await new Promise((resolve) => setTimeout(resolve, 20));
  const fromMs = Date.now();
  await new Promise((resolve) => setTimeout(resolve, 20));
  await put(numbered(5, "new"));
  const records = (await read(fromMs)).flat();
  expect(records.map(nameOf)).toEqual(numbered(5, "new"));
  expect(Math.min(...records.map(({ arrivalMs }) => arrivalMs))).toBeGreaterThanOrEqual(fromMs);
});

test("an idle shard gives nothing and ends", async () => {
  expect(await read(null)).toEqual([]);
  expect(await read(Date.now() - 60_000)).toEqual([]);
});

test("a batch fits an invocation of 6 MB, by large records and by small ones", async () => {
  for (let i = 0; i < 3; i++) await put(numbered(4), 900_000);
  const large = await read(null);
  expect(large.flat()).toHaveLength(12);
  for (const batch of large) {
    expect(JSON.stringify(batch.map(({ data }) => Buffer.from(data).toString("base64"))).length).toBeLessThan(
      6_000_000,
    );
  }
  await put(numbered(14_000));
  const batches = await read(null);
  expect(batches.flat()).toHaveLength(14_012);
  expect(Math.max(...batches.map((batch) => batch.length))).toBeLessThan(13_000);
});

test("a shard whose load never pauses is read to what was its end, not for ever", async () => {
  await put(numbered(10));
  let pages = 0;
  const busy: Pick<KinesisClient, "send"> = {
    send: (async (command: any) => {
      const answer = (await client.send(command)) as GetRecordsCommandOutput;
      if (answer.Records !== undefined && ++pages < 50) await put([`later${pages}`]);
      return answer;
    }) as KinesisClient["send"],
  };
  expect((await read(null, busy)).flat().map(nameOf)).toEqual(numbered(10));
});
