/** The runbook's entry store-memory, carried out: a store without memory blocks applies and keeps reads, and goes on by itself when it has some. */
import { Redis } from "iovalkey";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { EventFields } from "../../adapters/avro/event-codec.ts";
import type { OnlineReader } from "../../adapters/online-store/online-store.ts";
import { createReader } from "../../adapters/valkey/reader.ts";
import { plan } from "../../features/plan.ts";
import { startAggregation, type TestAggregation } from "../harness/aggregation.ts";
import { KinesisMapping } from "../harness/kinesis-mapping.ts";
import { seededRandom } from "../harness/random.ts";

let path: TestAggregation;
let reader: OnlineReader;
let admin: Redis;

beforeAll(async () => {
  path = await startAggregation("transactions");
  reader = createReader(plan, { host: path.valkey.host, port: path.valkey.port, timeoutMs: 20_000 });
  admin = new Redis({ host: path.valkey.host, port: path.valkey.port });
  await path.tick();
});
afterAll(async () => {
  admin?.disconnect();
  await reader?.close();
  await path?.stop();
});

const transaction = (id: string, card: string): EventFields => ({
  ...{ tenant: "default", transaction_id: id, event_time: path.clock.now() - 60_000, card_id: card, user_id: "u" },
  ...{ merchant_id: "m", device_id: null, amount: 1, currency: "EUR", country: "DE" },
  ...{ merchant_category: "grocery", channel: "online", status: "approved" },
});
async function countOf(card: string): Promise<unknown> {
  const features = ["card_activity:tx_count_24h"];
  const [answer] = await reader.read([{ tenant: "default", entity: "card", id: card, features }], path.clock.now());
  return answer!.values[0]!.value;
}

test("a full store: events wait, what is there is served, and with more memory each is counted once", async () => {
  const mapping = new KinesisMapping({
    ...{ stream: path.stream, host: path.aggregate, clock: path.clock, random: seededRandom(7) },
    settings: {
      batchSize: 6,
      startingPosition: "LATEST",
      bisectBatchOnFunctionError: true,
      reportBatchItemFailures: true,
    },
  });
  for (let i = 0; i < 6; i++) path.put("before", transaction(`before-${i}`, "before"));
  await mapping.run();
  expect(await countOf("before")).toBe(6);

  await admin.config("SET", "maxmemory", "1mb");
  for (let i = 0; i < 12; i++) path.put(`after-${i % 3}`, transaction(`after-${i}`, `after-${i % 3}`));
  const begun = mapping.invocations.length;
  await mapping.run(() => mapping.invocations.length >= begun + 6);
  const failed = mapping.invocations.slice(begun).flatMap(({ verdict }) => (verdict === null ? [] : [verdict]));
  expect(failed.length).toBeGreaterThan(0);
  for (const verdict of failed)
    expect(verdict).toMatchObject({ kind: "failure", why: expect.stringContaining("no memory left") });
  expect([await countOf("before"), await countOf("after-0")]).toEqual([6, null]);
  expect(mapping.failures).toEqual([]);
  // What `/ready` and `freshet status` say.
  expect(await reader.state()).toMatchObject({ reachable: true, control: "ok", full: true });

  await admin.config("SET", "maxmemory", "0");
  await mapping.run();
  expect(await reader.state()).toMatchObject({ control: "ok", full: false });
  expect(await Promise.all([0, 1, 2].map((i) => countOf(`after-${i}`)))).toEqual([4, 4, 4]);
  expect(mapping.failures).toEqual([]);
  const archived = (await path.archived()).filter(({ eventId }) => eventId?.startsWith("after-"));
  expect(new Set(archived.map(({ eventId }) => eventId)).size).toBe(12);
});
