import { QueryCommand, UpdateItemCommand } from "@aws-sdk/client-dynamodb";
import { GetObjectCommand } from "@aws-sdk/client-s3";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import {
  type QuarantinedRecord,
  QuarantineWriter,
  quarantineId,
  quarantinePartitions,
} from "../../../adapters/quarantine/quarantine.ts";
import { type FaultProxy, startAwsFaultProxy } from "../../../local/faults/aws-proxy.ts";
import { createBucket, createTable, startEmulator, type TestEmulator, testClients } from "../../harness/emulator.ts";

const BUCKET = "quarantine-test";
const TABLE = "quarantine-test";
const ARRIVAL = Date.UTC(2026, 10, 21, 9);

const record = (stream: string, sequence: number, over: Partial<QuarantinedRecord> = {}): QuarantinedRecord => ({
  tenant: "default",
  stream,
  shard: "shardId-000000000000",
  sequence: String(sequence),
  subSequence: 0,
  arrivalMs: ARRIVAL,
  reason: "number_not_finite",
  field: "amount",
  message: "amount is a finite number, given NaN",
  fingerprint: "00ff12ab34cd56ef",
  bytes: Buffer.from([0xc3, 0x01, 0, 255, sequence % 256]),
  ...over,
});

let emulator: TestEmulator;
let proxy: FaultProxy;

beforeAll(async () => {
  emulator = await startEmulator();
  await createBucket(emulator.url, BUCKET);
  await createTable(emulator.url, TABLE);
  proxy = await startAwsFaultProxy(emulator.url);
});
afterEach(() => proxy.use(null));
afterAll(async () => {
  await proxy?.stop();
  await emulator?.stop();
});

const writer = () => new QuarantineWriter({ bucket: BUCKET, table: TABLE, ...testClients(proxy.url) });

async function items(tenant: string | null, stream: string): Promise<Record<string, any>[]> {
  const { dynamodb } = testClients(emulator.url);
  const pages = await Promise.all(
    quarantinePartitions(tenant, stream).map((pk) =>
      dynamodb.send(
        new QueryCommand({
          TableName: TABLE,
          KeyConditionExpression: "pk = :pk",
          ExpressionAttributeValues: { ":pk": { S: pk } },
        }),
      ),
    ),
  );
  return pages.flatMap((page) => page.Items ?? []);
}

async function objectLine(item: Record<string, any>): Promise<Record<string, any>> {
  const { s3 } = testClients(emulator.url);
  const object = await s3.send(new GetObjectCommand({ Bucket: BUCKET, Key: item["object_key"].S }));
  return JSON.parse((await object.Body!.transformToString()).split("\n")[Number(item["object_line"].N)]!);
}

describe("QuarantineWriter", () => {
  test("the index says why and from where, and leads to the exact bytes", async () => {
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    await writer().write([record("exact", 1), record("exact", 2, { bytes, subSequence: 4 })]);
    const found = (await items("default", "exact")).find((item) => item["sequence"].S === "2")!;
    expect(found).toMatchObject({
      sk: { S: quarantineId({ stream: "exact", shard: "shardId-000000000000", sequence: "2", subSequence: 4 }) },
      status: { S: "open" },
      tenant: { S: "default" },
      stream: { S: "exact" },
      reason: { S: "number_not_finite" },
      field: { S: "amount" },
      message: { S: "amount is a finite number, given NaN" },
      fingerprint: { S: "00ff12ab34cd56ef" },
      shard: { S: "shardId-000000000000" },
      sub_sequence: { N: "4" },
      arrival_ms: { N: String(ARRIVAL) },
      size: { N: "256" },
      sha256: { S: "40aff2e9d2d8922e47afd4648e6967497158785fbd1da870e7110266bf944880" },
    });
    expect(found["object_key"].S).toMatch(/^quarantine\/tenant=default\/stream=exact\/dt=2026-11-21\/\d{13}-shardId-/);
    const line = await objectLine(found);
    expect(Buffer.from(line["bytes"], "base64")).toEqual(bytes);
    expect(line).toMatchObject({ v: 1, id: found["sk"].S, reason: "number_not_finite", sub_sequence: 4 });
  });

  test("a record without tenant, field or fingerprint is kept all the same", async () => {
    await writer().write([record("bare", 1, { tenant: null, field: null, fingerprint: null })]);
    const [item] = await items(null, "bare");
    expect(item).not.toHaveProperty("tenant");
    expect(item!["object_key"].S).toMatch(/^quarantine\/tenant=_unattributed\/stream=bare\//);
  });

  test("a tenant's name that broke the rule is kept, and chooses neither path nor key", async () => {
    const tenant = `${"x".repeat(3_000)}/..`;
    await writer().write([record("spelt", 1, { tenant, reason: "tenant_invalid" })]);
    const [item] = await items(null, "spelt");
    expect(item!["tenant"].S).toBe(tenant);
    expect((await objectLine(item!))["tenant"]).toBe(tenant);
    expect(item!["object_key"].S).toMatch(/^quarantine\/tenant=_unattributed\/stream=spelt\//);
  });

  test("delivered twice, a record is one item, and what an operator did with it stays", async () => {
    await writer().write([record("again", 1)]);
    const [first] = await items("default", "again");
    await testClients(emulator.url).dynamodb.send(
      new UpdateItemCommand({
        TableName: TABLE,
        Key: { pk: first!["pk"], sk: first!["sk"] },
        UpdateExpression: "SET #status = :dropped",
        ExpressionAttributeNames: { "#status": "status" },
        ExpressionAttributeValues: { ":dropped": { S: "dropped" } },
      }),
    );
    await writer().write([record("again", 1), record("again", 1, { reason: "another_release_says_otherwise" })]);
    const after = await items("default", "again");
    expect(after).toEqual([{ ...first, status: { S: "dropped" } }]);
  });

  test("a lost answer is retried into the same item", async () => {
    proxy.use(({ operation }) =>
      operation === "PutItem" && !seen.has(operation) && seen.add(operation) ? { kind: "lose-answer" } : null,
    );
    const seen = new Set<string>();
    await writer().write([record("lost", 1)]);
    expect(seen.size).toBe(1);
    expect(await items("default", "lost")).toHaveLength(1);
  });

  test("sub-records of one aggregated record are items of their own", async () => {
    await writer().write([0, 1, 2].map((subSequence) => record("packed", 9, { subSequence })));
    expect(await items("default", "packed")).toHaveLength(3);
  });

  test("a flood is one object and many items", async () => {
    const before = proxy.exchanges.filter((exchange) => exchange.operation === "PutObject").length;
    await writer().write(Array.from({ length: 300 }, (_, i) => record("flood", i)));
    expect(proxy.exchanges.filter((exchange) => exchange.operation === "PutObject").length - before).toBe(1);
    const found = await items("default", "flood");
    expect(new Set(found.map((item) => item["sequence"].S)).size).toBe(300);
  });

  test("while S3 is away nothing is indexed, and the write blocks", async () => {
    proxy.use(({ operation }) =>
      operation === "PutObject" ? { kind: "error", status: 500, code: "InternalError" } : null,
    );
    await expect(writer().write([record("s3", 1)])).rejects.toMatchObject({
      name: "InfrastructureError",
      code: "quarantine_unavailable",
      message: "writing a quarantine object to bucket quarantine-test failed: InternalError (HTTP 500)",
    });
    expect(await items("default", "s3")).toEqual([]);
  });

  test("while DynamoDB is away the write blocks, and a later one completes it", async () => {
    proxy.use(({ operation }) =>
      operation === "PutItem" ? { kind: "error", status: 400, code: "ProvisionedThroughputExceededException" } : null,
    );
    await expect(writer().write([record("ddb", 1)])).rejects.toMatchObject({
      name: "InfrastructureError",
      code: "quarantine_unavailable",
      message:
        "writing a quarantine item to table quarantine-test failed: ProvisionedThroughputExceededException (HTTP 400)",
    });
    proxy.use(null);
    await writer().write([record("ddb", 1)]);
    expect(await items("default", "ddb")).toHaveLength(1);
  });
});

describe("quarantineId", () => {
  test("differs by each part of a delivery, wherever the boundary between two parts lies", () => {
    const ids = [
      { stream: "a", shard: "bc", sequence: "1", subSequence: 0 },
      { stream: "ab", shard: "c", sequence: "1", subSequence: 0 },
      { stream: "a", shard: "b", sequence: "1", subSequence: 0 },
      { stream: "a", shard: "bc", sequence: "11", subSequence: 0 },
      { stream: "a", shard: "bc", sequence: "1", subSequence: 10 },
      { stream: "a", shard: "bc", sequence: "1", subSequence: 1 },
    ].map(quarantineId);
    expect(new Set(ids).size).toBe(ids.length);
    for (const id of ids) expect(id).toMatch(/^[0-9a-f]{32}$/);
  });
});
