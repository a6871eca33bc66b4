/** What the mapping gave up comes back: the loop from its failure destination to the features, nothing lost and nothing counted twice. */
import { randomUUID } from "node:crypto";
import { ScanCommand } from "@aws-sdk/client-dynamodb";
import { ListObjectsV2Command, PutObjectCommand } from "@aws-sdk/client-s3";
import { Redis } from "iovalkey";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { EventCodec, type EventFields } from "../../../../adapters/avro/event-codec.ts";
import type { OnlineReader } from "../../../../adapters/online-store/online-store.ts";
import { createReader } from "../../../../adapters/valkey/reader.ts";
import { watermarkKey } from "../../../../adapters/valkey/watermark.ts";
import { plan } from "../../../../features/plan.ts";
import type { FailedReplayReport } from "../../../../functions/shared/replay/failed-replay.ts";
import { BUCKETS, startAggregation, TABLES, type TestAggregation } from "../../../harness/aggregation.ts";
import { testClients } from "../../../harness/emulator.ts";
import { bundleHandler, type FunctionBundle, type FunctionHost, processHost } from "../../../harness/function-host.ts";
import { KinesisMapping } from "../../../harness/kinesis-mapping.ts";
import { seededRandom } from "../../../harness/random.ts";

let path: TestAggregation;
let bundle: FunctionBundle;
let replay: FunctionHost;
let reader: OnlineReader;
let admin: Redis;

beforeAll(async () => {
  [path, bundle] = await Promise.all([startAggregation("transactions"), bundleHandler("functions/replay.ts")]);
  replay = processHost(bundle, path.environment);
  reader = createReader(plan, { host: path.valkey.host, port: path.valkey.port, timeoutMs: 20_000 });
  admin = new Redis({ host: path.valkey.host, port: path.valkey.port });
  await path.tick();
});
afterEach(() => {
  path.valkeyFaults.refuse(false);
  path.awsFaults.use(null);
});
afterAll(async () => {
  admin?.disconnect();
  await reader?.close();
  await replay?.close();
  bundle?.remove();
  await path?.stop();
});

const transaction = (id: string, card: string, eventTimeMs: number): EventFields => ({
  ...{ tenant: "default", transaction_id: id, event_time: eventTimeMs, card_id: card, user_id: `user-of-${card}` },
  ...{ merchant_id: `merchant-of-${card}`, device_id: null, amount: 1, currency: "EUR", country: "DE" },
  ...{ merchant_category: "grocery", channel: "online", status: "approved" },
});

const context = {
  ...{ awsRequestId: "replay", functionName: "replay", invokedFunctionArn: "arn:replay", timeoutMs: 900_000 },
};
const run = (event: object = {}, killAfterMs?: number) =>
  replay.invoke(event, context, killAfterMs) as Promise<FailedReplayReport>;

/** Puts events of one card, and has the mapping give up all that it cannot deliver. */
async function giveUp(card: string, events: number, ages: readonly number[] = [60_000]): Promise<number> {
  const mapping = new KinesisMapping({
    ...{ stream: path.stream, host: path.aggregate, clock: path.clock, random: seededRandom(events) },
    settings: {
      ...{ batchSize: 5, parallelizationFactor: 2, startingPosition: "LATEST", maximumRetryAttempts: 0 },
      // Deployed, it is on; halves would only be more objects.
      ...{ bisectBatchOnFunctionError: false, reportBatchItemFailures: true },
    },
  });
  for (let i = 0; i < events; i++) {
    path.put(card, transaction(`${card}-${i}`, card, path.clock.now() - ages[i % ages.length]!));
  }
  await mapping.run();
  const { s3 } = testClients(path.emulator.url);
  for (const { key, body } of mapping.failures) {
    await s3.send(new PutObjectCommand({ Bucket: BUCKETS.quarantine, Key: key, Body: JSON.stringify(body) }));
  }
  return mapping.failures.length;
}

/** What Lambda leaves of a batch from MSK: where it lay in the topic, and the event of the invocation as text. */
async function giveUpKafka(records: Readonly<Record<string, readonly { offset: number; timestamp: number }[]>>) {
  const eventSourceArn = "arn:aws:kafka:us-east-1:000000000000:cluster/freshet-local-events/0a1b2c3d-1";
  const bootstrapServers = "b-1.example:9098";
  const times = (at: number) => new Date(at).toISOString();
  const recordsInfo = Object.entries(records).map(([partition, its]) => [
    partition,
    {
      ...{ firstRecordOffset: String(its[0].offset), lastRecordOffset: String(its.at(-1)!.offset) },
      ...{ firstRecordTimestamp: times(its[0].timestamp), lastRecordTimestamp: times(its.at(-1)!.timestamp) },
    },
  ]);
  const payload = JSON.stringify({ eventSource: "aws:kafka", eventSourceArn, bootstrapServers, records });
  const body = {
    requestContext: {
      ...{ requestId: "r", functionArn: "arn:f", condition: "RetryAttemptsExhausted", approximateInvokeCount: 11 },
    },
    responseContext: { statusCode: 200, executedVersion: "$LATEST", functionError: "Unhandled" },
    ...{ version: "1.0", timestamp: times(Date.now()) },
    KafkaBatchInfo: {
      ...{ batchSize: Object.values(records).flat().length, eventSourceArn, bootstrapServers },
      ...{ payloadSize: payload.length, recordsInfo: Object.fromEntries(recordsInfo) },
    },
    payload,
  };
  const Key = `aws/lambda/5e1b0f3a/${randomUUID()}`;
  const { s3 } = testClients(path.emulator.url);
  await s3.send(new PutObjectCommand({ Bucket: BUCKETS.quarantine, Key, Body: JSON.stringify(body) }));
}

async function countOf(card: string): Promise<unknown> {
  const features = ["card_activity:tx_count_24h"];
  const [answer] = await reader.read([{ tenant: "default", entity: "card", id: card, features }], path.clock.now());
  return answer!.values[0]!.value;
}

/** How often each event of a card is archived as visible for it, by its time. */
async function visible(card: string): Promise<Map<string, Set<number>>> {
  const found = new Map<string, Set<number>>();
  for (const { eventId, fates } of await path.archived()) {
    const fate = fates.find(({ entity, id }) => entity === "card" && id === card);
    if (fate?.visibleMs == null) continue;
    found.set(eventId!, (found.get(eventId!) ?? new Set()).add(fate.visibleMs));
  }
  return found;
}

async function objects(): Promise<string[]> {
  const { s3 } = testClients(path.emulator.url);
  const { Contents = [] } = await s3.send(
    new ListObjectsV2Command({ Bucket: BUCKETS.quarantine, Prefix: "aws/lambda/" }),
  );
  return Contents.map(({ Key }) => Key!);
}

const outstanding = async () =>
  (await admin.hkeys(watermarkKey("transactions"))).filter((field) => /^[ob]:/.test(field));

describe("batches that the mapping gave up", () => {
  test("come back with their own arrivals when the store does, and hold the seal no more", async () => {
    path.valkeyFaults.refuse(true);
    const given = await giveUp("away", 12);
    expect(given).toBeGreaterThan(1);
    // The store is still away: nothing is lost, and no batch is blamed.
    for (let i = 0; i < 4; i++) expect(await run()).toMatchObject({ batches: 0, waiting: given, parked: 0 });
    path.valkeyFaults.refuse(false);
    expect(await run()).toMatchObject({ batches: given, applied: 12, duplicates: 0, late: 0, waiting: 0, parked: 0 });
    expect(await countOf("away")).toBe(12);
    expect([...(await visible("away")).values()].map(({ size }) => size)).toEqual(new Array(12).fill(1));
    const put = path.stream.shards
      .flatMap(({ records }) => records)
      .map(({ sequence, arrivalMs }) => [sequence, arrivalMs]);
    const arrivals = new Map(put as [string, number][]);
    for (const row of await path.archived()) expect(row.arrivalMs).toBe(arrivals.get(row.sequence));
    expect([await objects(), await outstanding()]).toEqual([[], []]);
    expect(await run()).toMatchObject({ batches: 0, waiting: 0 });
  });

  test("of Kafka come back with every partition that they hold, each under its number, and count once when they come again", async () => {
    const topic = path.stream.name;
    const codec = EventCodec.for(plan.streams.find(({ name }) => name === "transactions")!.contract);
    const arrivalMs = Date.now();
    const record = (partition: number, offset: number, value: Uint8Array | null) => ({
      ...{ topic, partition, offset, timestamp: arrivalMs, timestampType: "LOG_APPEND_TIME", headers: [] },
      ...{ key: "Yw==", value: value === null ? null : Buffer.from(value).toString("base64") },
    });
    const event = (id: string) => codec.encode(transaction(id, "kafka", arrivalMs - 60_000));
    const records = {
      [`${topic}-0`]: [record(0, 7, event("kafka-a")), record(0, 9, event("kafka-b"))],
      // Nobody's event: it has no value.
      [`${topic}-11`]: [record(11, 3, event("kafka-c")), record(11, 4, null)],
    };
    await giveUpKafka(records);
    expect(await run()).toMatchObject({ batches: 1, applied: 3, duplicates: 0, quarantined: 1, waiting: 0, parked: 0 });
    expect(await countOf("kafka")).toBe(3);
    const rows = (await path.archived()).filter(({ eventId }) => eventId?.startsWith("kafka-"));
    const places = rows.map(({ eventId, shard, sequence }) => `${eventId} ${shard}:${sequence}`);
    expect(places.sort()).toEqual(["kafka-a 0:7", "kafka-b 0:9", "kafka-c 11:3"]);
    for (const row of rows) expect(row.arrivalMs).toBe(arrivalMs);
    await giveUpKafka(records);
    expect(await run()).toMatchObject({ batches: 1, applied: 0, duplicates: 3, waiting: 0 });
    expect(await countOf("kafka")).toBe(3);
    expect([await objects(), await outstanding()]).toEqual([[], []]);
  });

  test("that had been applied are archived with the time at which they were, and not counted again", async () => {
    path.awsFaults.use(({ operation }) =>
      operation === "PutObject" ? { kind: "error", status: 403, code: "AccessDenied" } : null,
    );
    const given = await giveUp("unarchived", 8);
    path.awsFaults.use(null);
    expect(await countOf("unarchived")).toBe(8);
    expect((await visible("unarchived")).size).toBe(0);
    expect((await outstanding()).length).toBeGreaterThan(0);
    const beforeMs = Date.now();
    expect(await run()).toMatchObject({ batches: given, applied: 0, duplicates: 8 });
    expect(await countOf("unarchived")).toBe(8);
    const times = [...(await visible("unarchived")).values()].flatMap((set) => [...set]);
    expect(times).toHaveLength(8);
    for (const time of times) expect(time).toBeLessThanOrEqual(beforeMs);
    expect(await outstanding()).toEqual([]);
  });

  test("that the seal has passed meanwhile wait for repair", async () => {
    path.valkeyFaults.refuse(true);
    await giveUp("sealed", 4, [60_000, 86_400_000]);
    path.valkeyFaults.refuse(false);
    expect(await run()).toMatchObject({ applied: 2, late: 2, waiting: 0 });
    const { dynamodb } = testClients(path.emulator.url);
    const { Items = [] } = await dynamodb.send(new ScanCommand({ TableName: TABLES.late }));
    const late = Items.filter((item) => item["event_id"]?.S?.startsWith("sealed-"));
    expect(late.map((item) => item["event_id"]!.S).sort()).toEqual(
      ["sealed-1", "sealed-3"].flatMap((id) => [id, id, id]),
    );
  });

  test("are counted once, whenever the function is killed, and by two at once", async () => {
    path.valkeyFaults.refuse(true);
    const given = await giveUp("killed", 15);
    path.valkeyFaults.refuse(false);
    for (const afterMs of [0, 5, 15, 30, 60]) await run({}, afterMs).catch(() => {});
    const both = await Promise.all([run(), run()].map((one) => one.catch(() => null)));
    const last = await run();
    expect(last).toMatchObject({ waiting: 0, parked: 0 });
    expect(given).toBeGreaterThan(0);
    expect(both).toHaveLength(2);
    expect(await countOf("killed")).toBe(15);
    expect([...(await visible("killed")).values()].map(({ size }) => size)).toEqual(new Array(15).fill(1));
    expect(await outstanding()).toEqual([]);
  });

  test("are parked after three tries that fail for a reason of their own, and keep nobody waiting", async () => {
    const { s3 } = testClients(path.emulator.url);
    const key = "aws/lambda/0-other/shardId-0/2026/11/21/a";
    await s3.send(new PutObjectCommand({ Bucket: BUCKETS.quarantine, Key: key, Body: "no record of an invocation" }));
    path.valkeyFaults.refuse(true);
    const given = await giveUp("beside", 6);
    path.valkeyFaults.refuse(false);
    expect(await run()).toMatchObject({ batches: given, waiting: 1, parked: 0 });
    expect(await countOf("beside")).toBe(6);
    expect(await run()).toMatchObject({ waiting: 1, parked: 0 });
    expect(await run()).toMatchObject({ waiting: 1, parked: 1 });
    // Not looked at any more, until somebody asks for it.
    await s3.send(new PutObjectCommand({ Bucket: BUCKETS.quarantine, Key: key, Body: '{"payload":{}}' }));
    expect(await run()).toMatchObject({ batches: 0, waiting: 1, parked: 1 });
    expect(await objects()).toEqual([key]);
    expect(await run({ retryParked: true })).toMatchObject({ waiting: 1, parked: 1 });
  });
});
