import { GetObjectCommand, ListObjectsV2Command, S3Client } from "@aws-sdk/client-s3";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type ArchiveRow, ArchiveWriter, readArchive } from "../../../adapters/archive/archive.ts";
import { DURABLE_CLIENT } from "../../../adapters/aws/durable-call.ts";
import { type FaultProxy, startAwsFaultProxy } from "../../../local/faults/aws-proxy.ts";
import { createBucket, startEmulator, type TestEmulator, testClients } from "../../harness/emulator.ts";

const BUCKET = "archive-test";
const SHARD = "shardId-000000000003";
const HOUR_MS = 3_600_000;
const NINE = Date.UTC(2026, 10, 21, 9);

const row = (tenant: string | null, arrivalMs: number, subSequence: number): ArchiveRow => ({
  tenant,
  stream: "transactions",
  eventId: `e${subSequence}`,
  eventTimeMs: arrivalMs - 5,
  identity: "00ff12ab34cd56ef",
  arrivalMs,
  shard: SHARD,
  sequence: "49590338271490256608559692538361571095921575989136588898",
  subSequence,
  fields: { tenant, amount: 1.5 },
  fates: [{ entity: "card", id: "c1", fate: "applied", visibleMs: arrivalMs + 9 }],
});

let emulator: TestEmulator;
let proxy: FaultProxy;

beforeAll(async () => {
  emulator = await startEmulator();
  await createBucket(emulator.url, BUCKET);
  proxy = await startAwsFaultProxy(emulator.url);
});
afterEach(() => proxy.use(null));
afterAll(async () => {
  await proxy?.stop();
  await emulator?.stop();
});

const writer = () => new ArchiveWriter({ bucket: BUCKET, s3: testClients(proxy.url).s3 });
const context = { stream: "transactions", shard: SHARD };

async function read(key: string): Promise<ArchiveRow[]> {
  const { s3 } = testClients(emulator.url);
  const object = await s3.send(new GetObjectCommand({ Bucket: BUCKET, Key: key }));
  return [...readArchive(await object.Body!.transformToByteArray())];
}

describe("ArchiveWriter", () => {
  test("one object for an ordinary invocation, under tenant, stream and hour of arrival", async () => {
    const rows = [row("default", NINE + 7, 0), row("default", NINE + 8, 1)];
    const written = await writer().write(rows, context);
    expect(written).toHaveLength(1);
    expect(written[0]!.key).toMatch(
      /^raw\/tenant=default\/stream=transactions\/dt=2026-11-21\/hh=09\/1795251600007-shardId-000000000003-[0-9a-f-]{36}\.ndjson\.zst$/,
    );
    expect(written[0]!.rows).toBe(2);
    expect(await read(written[0]!.key)).toEqual(rows);
  });

  test("tenants and hours never share an object, and order is kept in each", async () => {
    const rows = [
      row("default", NINE - 1, 0),
      row("acme", NINE - 1, 1),
      row("default", NINE, 2),
      row(null, NINE, 3),
      row("default", NINE - 1, 4),
    ];
    const written = await writer().write(rows, context);
    const found = new Map<string, ArchiveRow[]>();
    for (const { key } of written) found.set(key.slice(0, key.lastIndexOf("/")), await read(key));
    const folder = (tenant: string, hour: string) =>
      `raw/tenant=${tenant}/stream=transactions/dt=2026-11-21/hh=${hour}`;
    expect(found).toEqual(
      new Map([
        [folder("default", "08"), [rows[0], rows[4]]],
        [folder("default", "09"), [rows[2]]],
        [folder("acme", "08"), [rows[1]]],
        [folder("_unattributed", "09"), [rows[3]]],
      ]),
    );
  });

  test("the same rows written twice make two objects: none is ever overwritten", async () => {
    const rows = [row("twice", NINE + 2 * HOUR_MS, 0)];
    await writer().write(rows, context);
    await writer().write(rows, context);
    const list = await testClients(emulator.url).s3.send(
      new ListObjectsV2Command({ Bucket: BUCKET, Prefix: "raw/tenant=twice/" }),
    );
    expect(list.KeyCount).toBe(2);
  });

  test("nothing to write writes nothing", async () => {
    const before = proxy.exchanges.length;
    expect(await writer().write([], context)).toEqual([]);
    expect(proxy.exchanges.length).toBe(before);
  });

  test("two failing attempts are retried", async () => {
    let failures = 2;
    proxy.use(() => (failures-- > 0 ? { kind: "error", status: 503, code: "SlowDown" } : null));
    const [object] = await writer().write([row("default", NINE, 0)], context);
    expect(await read(object!.key)).toHaveLength(1);
    expect(failures).toBeLessThan(0);
  });

  test("a service that stays away blocks, and the message says what and where", async () => {
    proxy.use(() => ({ kind: "error", status: 503, code: "SlowDown" }));
    const failure = await writer()
      .write([row("default", NINE, 0)], context)
      .catch((error) => error);
    expect(failure).toMatchObject({
      name: "InfrastructureError",
      code: "archive_unavailable",
      message: "writing an archive object to bucket archive-test failed: SlowDown (HTTP 503)",
      repair: expect.stringContaining("nothing was skipped"),
    });
  });

  test("one object of several that cannot be written fails the whole write", async () => {
    proxy.use(({ index }) => (index % 2 === 0 ? { kind: "error", status: 403, code: "AccessDenied" } : null));
    const rows = [row("a", NINE, 0), row("b", NINE, 1), row("c", NINE, 2)];
    await expect(writer().write(rows, context)).rejects.toThrow(
      "writing an archive object to bucket archive-test failed: AccessDenied (HTTP 403)",
    );
  });

  test("a connection that is refused blocks", async () => {
    proxy.use(() => ({ kind: "refuse" }));
    await expect(writer().write([row("default", NINE, 0)], context)).rejects.toMatchObject({
      name: "InfrastructureError",
      code: "archive_unavailable",
    });
  });

  test("a service that takes the request and never answers is given up, and blocks", async () => {
    proxy.use(() => ({ kind: "hang" }));
    // As deployed, with less patience.
    const requestHandler = { ...DURABLE_CLIENT.requestHandler, requestTimeout: 100 };
    const s3 = new S3Client({
      ...DURABLE_CLIENT,
      maxAttempts: 2,
      requestHandler,
      endpoint: proxy.url,
      forcePathStyle: true,
      region: "us-east-1",
      credentials: { accessKeyId: "test", secretAccessKey: "test" },
    });
    await expect(new ArchiveWriter({ bucket: BUCKET, s3 }).write([row("default", NINE, 0)], context)).rejects.toThrow(
      "writing an archive object to bucket archive-test failed: TimeoutError",
    );
  });

  test("a bucket that is not there blocks", async () => {
    const lost = new ArchiveWriter({ bucket: "no-such-bucket", s3: testClients(proxy.url).s3 });
    await expect(lost.write([row("default", NINE, 0)], context)).rejects.toThrow(
      "writing an archive object to bucket no-such-bucket failed: NoSuchBucket (HTTP 404)",
    );
  });
});
