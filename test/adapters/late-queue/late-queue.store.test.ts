import { QueryCommand } from "@aws-sdk/client-dynamodb";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type LateItem, LateQueue, lateKey } from "../../../adapters/late-queue/late-queue.ts";
import { type FaultProxy, startAwsFaultProxy } from "../../../local/faults/aws-proxy.ts";
import { createTable, startEmulator, type TestEmulator, testClients } from "../../harness/emulator.ts";

const TABLE = "late-test";

const item = (stream: string, n: number, over: Partial<LateItem> = {}): LateItem => ({
  tenant: "default",
  entity: "card",
  id: "c1",
  stream,
  baseIndex: 29_920_000 + n,
  identity: n.toString(16).padStart(16, "0"),
  eventId: `e${n}`,
  eventTimeMs: (29_920_000 + n) * 60_000 + 17,
  arrivalMs: 1_795_248_000_000,
  ...over,
});

let emulator: TestEmulator;
let proxy: FaultProxy;

beforeAll(async () => {
  emulator = await startEmulator();
  await createTable(emulator.url, TABLE);
  proxy = await startAwsFaultProxy(emulator.url);
});
afterEach(() => proxy.use(null));
afterAll(async () => {
  await proxy?.stop();
  await emulator?.stop();
});

/** Backoff is skipped: what is tested is how often, not how long. */
const queue = () => new LateQueue({ table: TABLE, dynamodb: testClients(proxy.url).dynamodb, sleep: async () => {} });

describe("LateQueue", () => {
  test("one query yields all that repair must do for an entity, in order of time", async () => {
    await queue().put([item("repair", 10), item("repair", 2), item("repair", 2, { id: "c2" })]);
    const { dynamodb } = testClients(emulator.url);
    const answer = await dynamodb.send(
      new QueryCommand({
        TableName: TABLE,
        KeyConditionExpression: "pk = :pk",
        ExpressionAttributeValues: { ":pk": { S: lateKey(item("repair", 0)).pk } },
      }),
    );
    expect(answer.Items!.map((found) => found["base_index"]!.N)).toEqual(["29920002", "29920010"]);
    expect(answer.Items![0]).toEqual({
      pk: { S: "7:default4:card2:c16:repair" },
      sk: { S: "000000029920002#0000000000000002" },
      tenant: { S: "default" },
      entity: { S: "card" },
      id: { S: "c1" },
      stream: { S: "repair" },
      base_index: { N: "29920002" },
      identity: { S: "0000000000000002" },
      event_id: { S: "e2" },
      event_time_ms: { N: "1795200120017" },
      arrival_ms: { N: "1795248000000" },
    });
  });

  test("put again, in the same call or a later one, an event is pending once", async () => {
    await queue().put([item("once", 1), item("once", 1), item("once", 2)]);
    await queue().put([item("once", 2)]);
    expect(await queue().count("once")).toEqual({ pending: 2, complete: true });
  });

  test("more than one call's worth is put whole", async () => {
    await queue().put(Array.from({ length: 130 }, (_, n) => item("many", n)));
    expect(await queue().count("many")).toEqual({ pending: 130, complete: true });
  });

  test("streams are counted apart, entities and tenants together", async () => {
    await queue().put([
      item("x", 1),
      item("x", 1, { tenant: "acme" }),
      item("x", 1, { entity: "device" }),
      item("y", 1),
    ]);
    expect(await queue().count("x")).toEqual({ pending: 3, complete: true });
    expect(await queue().count("nobody")).toEqual({ pending: 0, complete: true });
  });

  test("what DynamoDB hands back is put again until all is written", async () => {
    proxy.use(({ operation }) => (operation === "BatchWriteItem" ? { kind: "unprocessed", written: 7 } : null));
    await queue().put(Array.from({ length: 25 }, (_, n) => item("parts", n)));
    proxy.use(null);
    expect(await queue().count("parts")).toEqual({ pending: 25, complete: true });
  });

  test("a table that never takes the rest blocks, and says how many are left", async () => {
    proxy.use(({ index }) => ({ kind: "unprocessed", written: index === firstIndex ? 3 : 0 }));
    const firstIndex = proxy.exchanges.filter((exchange) => exchange.operation === "BatchWriteItem").length;
    const failure = await queue()
      .put(Array.from({ length: 5 }, (_, n) => item("never", n)))
      .catch((error) => error);
    expect(failure).toMatchObject({
      name: "InfrastructureError",
      code: "late_queue_unavailable",
      message: "writing late events in table late-test: 2 left after 10 rounds",
    });
  });

  test("an unreachable table blocks", async () => {
    proxy.use(() => ({ kind: "refuse" }));
    await expect(queue().put([item("away", 1)])).rejects.toMatchObject({
      name: "InfrastructureError",
      code: "late_queue_unavailable",
      message: expect.stringMatching(/^writing late events in table late-test failed: /),
    });
  });

  test("nothing to put calls nobody", async () => {
    const before = proxy.exchanges.length;
    await queue().put([]);
    expect(proxy.exchanges.length).toBe(before);
  });
});
