/** The bundled heartbeat on a real Kafka: what it needs of the client has to be in the bundle. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, beforeEach, expect, inject, test } from "vitest";
import { isHeartbeat } from "../../adapters/avro/event-codec.ts";
import type { Broker } from "../../adapters/broker/broker.ts";
import { kafkaBroker } from "../../adapters/kafka/broker.ts";
import { bundleHandler, type FunctionBundle, type FunctionHost, processHost } from "../harness/function-host.ts";
import { openTopics, type TestTopics, testSettings } from "../support/topics.ts";

const CONTEXT = { awsRequestId: "r", functionName: "heartbeat", invokedFunctionArn: "arn:h", timeoutMs: 55_000 };
const settings = testSettings(inject("kafka"));

let topics: TestTopics;
let broker: Broker;
let lambda: Server;
let bundle: FunctionBundle;
let ticks: any[] = [];
const hosts: FunctionHost[] = [];

beforeAll(async () => {
  topics = openTopics(settings);
  broker = kafkaBroker(settings);
  lambda = createServer(async (request, answer) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    ticks.push(JSON.parse(body));
    answer.writeHead(202).end();
  });
  await new Promise<void>((resolve) => lambda.listen(0, "127.0.0.1", resolve));
  bundle = await bundleHandler("functions/heartbeat.ts");
});
beforeEach(() => {
  ticks = [];
});
afterAll(async () => {
  for (const host of hosts) await host.close();
  bundle?.remove();
  lambda?.close();
  await broker?.close();
  await topics?.close();
});

function heartbeat(streams: Readonly<Record<string, string>>, environment: Readonly<Record<string, string>> = {}) {
  const host = processHost(bundle, {
    ...{ AWS_REGION: "us-east-1", AWS_ACCESS_KEY_ID: "test", AWS_SECRET_ACCESS_KEY: "test" },
    POWERTOOLS_LOG_LEVEL: "SILENT",
    AWS_ENDPOINT_URL_LAMBDA: `http://127.0.0.1:${(lambda.address() as AddressInfo).port}`,
    FRESHET_STREAMS: JSON.stringify(streams),
    FRESHET_CONTROL_FUNCTION: "hb-control",
    FRESHET_BROKER: "kafka",
    FRESHET_BOOTSTRAP_SERVERS: settings.bootstrapServers,
    ...environment,
  });
  hosts.push(host);
  return host;
}

test("puts a heartbeat onto every partition, and hands control all of them", async () => {
  const streams = { transactions: await topics.create(3), clicks: await topics.create(1) };
  await heartbeat(streams).invoke({}, CONTEXT);
  const shard = (id: string) => ({ id, parents: [], closed: false });
  expect(ticks).toEqual([
    {
      kind: "tick",
      streams: {
        transactions: { createdAtMs: expect.any(Number), shards: [shard("0"), shard("1"), shard("2")] },
        clicks: { createdAtMs: expect.any(Number), shards: [shard("0")] },
      },
    },
  ]);
  for (const partition of ["0", "1", "2"]) {
    const found: boolean[] = [];
    for await (const batch of broker.readShard(streams.transactions, partition, null)) {
      found.push(...batch.map(({ data }) => isHeartbeat(Buffer.from(data))));
    }
    expect(found).toEqual([true]);
  }
});

test("fails over a topic that keeps its producers' times; the others' seals still move", async () => {
  const streams = {
    transactions: await topics.create(1, { "message.timestamp.type": "CreateTime" }),
    clicks: await topics.create(1),
  };
  await expect(heartbeat(streams).invoke({}, CONTEXT)).rejects.toThrow("message.timestamp.type=CreateTime");
  expect(ticks.map((tick) => Object.keys(tick.streams))).toEqual([["clicks"]]);
});
