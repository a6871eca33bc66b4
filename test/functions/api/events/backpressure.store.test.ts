/** A stream at its limit: ingest tries refused records again for a while, then hands them back, each with what to do. */
import { CreateStreamCommand, GetRecordsCommand, GetShardIteratorCommand } from "@aws-sdk/client-kinesis";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { createKinesisClient } from "../../../../adapters/kinesis/client.ts";
import { createKinesisPublisher } from "../../../../adapters/kinesis/publisher.ts";
import { createApp } from "../../../../functions/api/app.ts";
import { createKey } from "../../../../functions/api/keys/keys.ts";
import { type FaultProxy, startAwsFaultProxy } from "../../../../local/faults/aws-proxy.ts";
import { startEmulator, type TestEmulator } from "../../../harness/emulator.ts";
import { transaction } from "../contract/contract-calls.ts";
import { testDependencies } from "../doubles.ts";

const STREAM = "backpressure-transactions";
let emulator: TestEmulator;
let proxy: FaultProxy;
let app: ReturnType<typeof createApp>;
let key: string;

const client = (endpoint: string) => {
  const credentials = { accessKeyId: "test", secretAccessKey: "test" };
  return createKinesisClient({ endpoint, region: "us-east-1", credentials, maxAttempts: 1 });
};
beforeAll(async () => {
  emulator = await startEmulator();
  proxy = await startAwsFaultProxy(emulator.url);
  await client(emulator.url).send(new CreateStreamCommand({ StreamName: STREAM, ShardCount: 1 }));
  const { dependencies, keys } = testDependencies();
  key = (await createKey(keys, { tenant: "team-a", scopes: ["write"], nowMs: 0 })).key;
  // The budget runs on a clock of its own, however slow this machine is.
  let nowMs = 0;
  const publisher = createKinesisPublisher(client(proxy.url), {
    streamNames: { transactions: STREAM },
    now: () => nowMs,
    sleep: async (ms) => {
      nowMs += ms;
    },
  });
  app = createApp({ ...dependencies, ingest: { ...dependencies.ingest!, publisher } });
});
beforeEach(() => proxy.use(null));
afterAll(async () => {
  await proxy?.stop();
  await emulator?.stop();
});

async function send(count: number) {
  const events = Array.from({ length: count }, (_, i) => transaction({ card_id: `card-${i}` }));
  const headers = { "x-api-key": key, "content-type": "application/json" };
  const reply = await app.request("/v1/events/transactions", { method: "POST", headers, body: JSON.stringify(events) });
  return { status: reply.status, retryAfter: reply.headers.get("retry-after"), body: (await reply.json()) as any };
}

async function inStream(): Promise<number> {
  const kinesis = client(emulator.url);
  const from = { StreamName: STREAM, ShardId: "shardId-000000000000", ShardIteratorType: "TRIM_HORIZON" } as const;
  const { ShardIterator } = await kinesis.send(new GetShardIteratorCommand(from));
  const { Records = [] } = await kinesis.send(new GetRecordsCommand({ ShardIterator }));
  return Records.length;
}
const throttle = { kind: "error", status: 400, code: "ProvisionedThroughputExceededException" } as const;

it("a limit that passes is waited for: every event is queued, once", async () => {
  let left = 3;
  proxy.use(({ operation }) => (operation === "PutRecords" && left-- > 0 ? throttle : null));
  const before = await inStream();
  const { status, body } = await send(20);
  expect([status, body.queued, body.throttled]).toEqual([202, 20, 0]);
  expect((await inStream()) - before).toBe(20);
});

it("one that stays is told with 429, when to come back, and each record's own result", async () => {
  proxy.use(({ operation }) => (operation === "PutRecords" ? throttle : null));
  const tried = proxy.exchanges.length;
  const before = await inStream();
  const { status, retryAfter, body } = await send(5);
  expect([status, body.code, retryAfter]).toEqual([429, "throttled", "1"]);
  expect(body.results.map((one: any) => [one.index, one.status, one.code])).toEqual(
    Array.from({ length: 5 }, (_, i) => [i, "throttled", "throttled"]),
  );
  // Within the request's budget it was tried more than once.
  expect(proxy.exchanges.slice(tried).filter(({ operation }) => operation === "PutRecords").length).toBeGreaterThan(1);
  expect((await inStream()) - before).toBe(0);
});
