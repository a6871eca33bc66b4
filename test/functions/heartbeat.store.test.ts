/** The bundled function against a real emulator's Kinesis; Lambda's Invoke is answered here, to see what control gets. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import {
  CreateStreamCommand,
  DeleteStreamCommand,
  GetRecordsCommand,
  GetShardIteratorCommand,
  KinesisClient,
  waitUntilStreamExists,
} from "@aws-sdk/client-kinesis";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { isHeartbeat } from "../../adapters/avro/event-codec.ts";
import { startEmulator, type TestEmulator } from "../harness/emulator.ts";
import { bundleHandler, type FunctionBundle, type FunctionHost, processHost } from "../harness/function-host.ts";

const CONTEXT = { awsRequestId: "r", functionName: "heartbeat", invokedFunctionArn: "arn:h", timeoutMs: 55_000 };

let emulator: TestEmulator;
let lambda: Server;
let bundle: FunctionBundle;
let host: FunctionHost;
let kinesis: KinesisClient;
let invocations: { path: string; type: string; payload: any }[] = [];

beforeAll(async () => {
  emulator = await startEmulator();
  lambda = createServer(async (request, answer) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    const type = String(request.headers["x-amz-invocation-type"]);
    invocations.push({ path: request.url!, type, payload: JSON.parse(body) });
    answer.writeHead(202).end();
  });
  await new Promise<void>((resolve) => lambda.listen(0, "127.0.0.1", resolve));
  const credentials = { AWS_REGION: "us-east-1", AWS_ACCESS_KEY_ID: "test", AWS_SECRET_ACCESS_KEY: "test" };
  bundle = await bundleHandler("functions/heartbeat.ts");
  host = processHost(bundle, {
    ...credentials,
    POWERTOOLS_LOG_LEVEL: "SILENT",
    AWS_ENDPOINT_URL: emulator.url,
    AWS_ENDPOINT_URL_LAMBDA: `http://127.0.0.1:${(lambda.address() as AddressInfo).port}`,
    FRESHET_STREAMS: JSON.stringify({ transactions: "hb-transactions", clicks: "hb-clicks" }),
    FRESHET_CONTROL_FUNCTION: "hb-control",
  });
  kinesis = new KinesisClient({
    endpoint: emulator.url,
    region: "us-east-1",
    credentials: { accessKeyId: "test", secretAccessKey: "test" },
  });
  await createStream("hb-transactions", 3);
  await createStream("hb-clicks", 1);
});
beforeEach(() => {
  invocations = [];
});
afterAll(async () => {
  await host?.close();
  bundle?.remove();
  lambda?.close();
  await emulator?.stop();
});

async function createStream(name: string, shards: number): Promise<void> {
  await kinesis.send(new CreateStreamCommand({ StreamName: name, ShardCount: shards }));
  await waitUntilStreamExists(
    { client: kinesis, maxWaitTime: 10, minDelay: 0.05, maxDelay: 0.1 },
    { StreamName: name },
  );
}

async function records(stream: string, shard: string): Promise<Buffer[]> {
  const { ShardIterator } = await kinesis.send(
    new GetShardIteratorCommand({ StreamName: stream, ShardId: shard, ShardIteratorType: "TRIM_HORIZON" }),
  );
  const answer = await kinesis.send(new GetRecordsCommand({ ShardIterator }));
  return answer.Records!.map((record) => Buffer.from(record.Data!));
}

const open = (id: string) => ({ id, parents: [], closed: false });

describe("heartbeat function", () => {
  test("puts one heartbeat onto every open shard and hands control all shards, in one asynchronous call", async () => {
    await host.invoke({}, CONTEXT);
    for (const [stream, shard] of [
      ["hb-transactions", "shardId-000000000000"],
      ["hb-transactions", "shardId-000000000001"],
      ["hb-transactions", "shardId-000000000002"],
      ["hb-clicks", "shardId-000000000000"],
    ] as const) {
      expect((await records(stream, shard)).map(isHeartbeat)).toEqual([true]);
    }
    expect(invocations).toEqual([
      {
        path: "/2015-03-31/functions/hb-control/invocations",
        type: "Event",
        payload: {
          kind: "tick",
          streams: {
            transactions: {
              createdAtMs: expect.any(Number),
              shards: [open("shardId-000000000000"), open("shardId-000000000001"), open("shardId-000000000002")],
            },
            clicks: { createdAtMs: expect.any(Number), shards: [open("shardId-000000000000")] },
          },
        },
      },
    ]);
  });

  test("a stream that cannot be read fails the function, and the others' seals still move", async () => {
    await kinesis.send(new DeleteStreamCommand({ StreamName: "hb-clicks" }));
    await expect(host.invoke({}, CONTEXT)).rejects.toMatchObject({ name: "ResourceNotFoundException" });
    expect(invocations.map(({ payload }) => Object.keys(payload.streams))).toEqual([["transactions"]]);
    expect(await records("hb-transactions", "shardId-000000000000")).toHaveLength(2);
  });
});
