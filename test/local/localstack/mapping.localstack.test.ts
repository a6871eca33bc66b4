/**
 * What the other emulator leaves out of an event source mapping, on LocalStack, which has it: attempts that are counted, partial
 * failures, the failure destination. (Bisecting it has not; that is held by the template and by test/harness/kinesis-mapping.ts.)
 */
import { randomUUID } from "node:crypto";
import { CloudWatchLogsClient, FilterLogEventsCommand } from "@aws-sdk/client-cloudwatch-logs";
import { PutRecordCommand } from "@aws-sdk/client-kinesis";
import {
  GetEventSourceMappingCommand,
  LambdaClient,
  ListEventSourceMappingsCommand,
  UpdateEventSourceMappingCommand,
} from "@aws-sdk/client-lambda";
import { Redis } from "iovalkey";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { EventCodec, type EventFields } from "../../../adapters/avro/event-codec.ts";
import { createKinesisClient } from "../../../adapters/kinesis/client.ts";
import { transaction } from "../../functions/api/contract/contract-calls.ts";
import { createTenant, deployed, deployedClientConfig } from "../../support/deployed.ts";
import { call, deployment, functionEnvironment, until } from "../../system/app.ts";
import { closeStored, objects } from "../../system/stored.ts";
import { behaveAlike, PROBES } from "./probe.ts";

const lambda = new LambdaClient(deployedClientConfig());
const logs = new CloudWatchLogsClient(deployedClientConfig());
const kinesis = createKinesisClient(deployedClientConfig());
let valkey: Redis;
let mapping: string;
let bucket: string;

beforeAll(async () => {
  const { hostname, port } = new URL(deployed().valkey.url);
  valkey = new Redis({ host: hostname, port: Number(port) });
  const FunctionName = deployment().controlFunction.replace(/control$/, "aggregate");
  const { EventSourceMappings = [] } = await lambda.send(new ListEventSourceMappingsCommand({ FunctionName }));
  const stream = deployed().streams["transactions"];
  mapping = EventSourceMappings.find(({ EventSourceArn }) => EventSourceArn!.endsWith(`/${stream}`))!.UUID!;
  bucket = (await functionEnvironment("aggregate"))["FRESHET_QUARANTINE_BUCKET"];
});
afterEach(async () => {
  await valkey.config("SET", "maxmemory", "0");
  await allow(-1);
});
afterAll(() => {
  valkey.disconnect();
  for (const client of [lambda, logs, kinesis]) client.destroy();
  closeStored();
});

/** How often the deployed mapping delivers a batch again. */
async function allow(MaximumRetryAttempts: number): Promise<void> {
  const now = await lambda.send(new GetEventSourceMappingCommand({ UUID: mapping }));
  if (now.MaximumRetryAttempts === MaximumRetryAttempts) return;
  await lambda.send(new UpdateEventSourceMappingCommand({ UUID: mapping, MaximumRetryAttempts }));
  await until("the mapping to be changed", async () => {
    const { State, MaximumRetryAttempts: allowed } = await lambda.send(
      new GetEventSourceMappingCommand({ UUID: mapping }),
    );
    return State === "Enabled" && allowed === MaximumRetryAttempts;
  });
}

async function put(tenant: string, count: number): Promise<void> {
  const codec = EventCodec.for("transactions.v1");
  for (let i = 0; i < count; i++) {
    const event = { ...transaction(), tenant, transaction_id: randomUUID(), card_id: "c1" };
    const Data = codec.encode(event as unknown as EventFields);
    await kinesis.send(
      new PutRecordCommand({ StreamName: deployed().streams["transactions"], Data, PartitionKey: "c1" }),
    );
  }
}

async function counted(key: string): Promise<number> {
  const feature = "card_activity:tx_count_24h";
  const { body } = await call(deployed().serve.url, "/v1/features/online", key, {
    entities: { card_id: "c1" },
    features: [feature],
  });
  return body.features[feature].value ?? 0;
}

const failed = () => objects(bucket, "aws/lambda/");
const holds = (tenant: string, body: Buffer): boolean => {
  // Text at Lambda, an object here; the app reads either.
  const { payload } = JSON.parse(body.toString("utf8")) as { payload: { Records: { kinesis: { data: string } }[] } };
  return payload.Records.some(({ kinesis: { data } }) => Buffer.from(data, "base64").includes(tenant));
};

/** The shard of our stream whose batch a line of the aggregate function's log says was refused. Other streams' heartbeats are refused, too. */
function blockedShard(line: string): string[] {
  if (!line.startsWith("{")) return [];
  const { code, stream, shard } = JSON.parse(line);
  return code === "store_full" && stream === "transactions" ? [shard] : [];
}
const hasRepeat = (names: readonly string[]): boolean => new Set(names).size < names.length;

describe("the deployed mapping, while the store takes no write", () => {
  it("delivers a batch again until it is applied, and then each event counts once", async () => {
    const { tenant, key } = await createTenant();
    const startTime = Date.now();
    await valkey.config("SET", "maxmemory", "1mb");
    await put(tenant, 5);
    const logGroupName = `/aws/lambda/${deployment().controlFunction.replace(/control$/, "aggregate")}`;
    await until(
      "a shard's batch to fail twice",
      async () => {
        const { events = [] } = await logs.send(new FilterLogEventsCommand({ logGroupName, startTime }));
        return hasRepeat(events.flatMap(({ message = "" }) => blockedShard(message)));
      },
      120_000,
      500,
    );
    expect(await counted(key)).toBe(0);
    await valkey.config("SET", "maxmemory", "0");
    await until("the events to count", async () => (await counted(key)) === 5, 120_000, 500);
    expect((await failed()).filter(({ bytes }) => holds(tenant, bytes))).toEqual([]);
  });

  it("gives a batch up to the bucket when its attempts are used up, and it is brought back without anybody's doing", async () => {
    const { tenant, key } = await createTenant();
    await allow(1);
    await valkey.config("SET", "maxmemory", "1mb");
    await put(tenant, 5);
    const given = await until(
      "the batch to be given up",
      async () => (await failed()).find(({ bytes }) => holds(tenant, bytes)),
      180_000,
      500,
    );
    expect(JSON.parse(given.bytes.toString("utf8"))).toMatchObject({
      requestContext: { condition: "RetryAttemptsExhausted", approximateInvokeCount: 2 },
      version: "1.0",
    });
    expect(await counted(key)).toBe(0);
    await valkey.config("SET", "maxmemory", "0");
    // The replay function's own rule fires each minute.
    await until("the batches to be brought back", async () => (await failed()).length === 0, 240_000, 1_000);
    // Those of a batch that had an attempt left come with that one.
    await until("all of the events to count", async () => (await counted(key)) === 5, 120_000, 500);
    // Delivered as well, when the mapping begins anew from the stream's beginning: no event counts twice.
    await allow(-1);
    await put(tenant, 1);
    await until("what came after to count", async () => (await counted(key)) === 6, 120_000, 500);
  }, 600_000);
});

describe("a mapping of its own, beside the harness that all handlers are tested in", () => {
  it.each(Object.keys(PROBES))("%s: both deliver the same", async (name) => {
    await behaveAlike(PROBES[name]);
  });
});
