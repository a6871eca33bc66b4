/** The bundled aggregate function, given what mappings of Kafka deliver: several partitions at once, each a batch of its own. */
import { ScanCommand } from "@aws-sdk/client-dynamodb";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { EventCodec, encodeHeartbeat } from "../../adapters/avro/event-codec.ts";
import type { OnlineReader } from "../../adapters/online-store/online-store.ts";
import { ValkeyConnection } from "../../adapters/valkey/connection.ts";
import { createReader } from "../../adapters/valkey/reader.ts";
import { committedArrival, Watermark } from "../../adapters/valkey/watermark.ts";
import { plan } from "../../features/plan.ts";
import { startAggregation, TABLES, type TestAggregation } from "../harness/aggregation.ts";
import { testClients } from "../harness/emulator.ts";
import { bundleHandler, type FunctionBundle, type FunctionHost, processHost } from "../harness/function-host.ts";

const CONTEXT = { awsRequestId: "r", functionName: "aggregate", invokedFunctionArn: "arn:a", timeoutMs: 60_000 };
const codec = EventCodec.for(plan.streams.find(({ name }) => name === "transactions")!.contract);

let path: TestAggregation;
let topic: string;
let reader: OnlineReader;
let connection: ValkeyConnection;
let watermark: Watermark;
let bundle: FunctionBundle;
/** As `path.aggregate`, behind a mapping that takes a partial answer. */
let partial: FunctionHost;
let replayBundle: FunctionBundle;
let replay: FunctionHost;

beforeAll(async () => {
  path = await startAggregation("transactions");
  topic = path.stream.name;
  const at = { host: path.valkey.host, port: path.valkey.port };
  reader = createReader(plan, { ...at, timeoutMs: 20_000 });
  connection = new ValkeyConnection(at);
  watermark = new Watermark(connection);
  [bundle, replayBundle] = await Promise.all(["functions/aggregate.ts", "functions/replay.ts"].map(bundleHandler));
  replay = processHost(replayBundle, path.environment);
  partial = processHost(bundle, { ...path.environment, FRESHET_PARTIAL_RESPONSES: "1" });
  expect(await path.tick()).toMatchObject({ state: "ok" });
});
beforeEach(async () => {
  path.awsFaults.use(null);
  await watermark.restart("transactions", 0);
});
afterAll(async () => {
  await Promise.all([partial?.close(), replay?.close()]);
  bundle?.remove();
  replayBundle?.remove();
  await connection?.close();
  await reader?.close();
  await path?.stop();
});

/** Every event is a second older than it, however long a busy machine takes to come to its test. */
const ARRIVED = Date.now();
const transaction = (id: string, card: string, cents = 100) =>
  codec.encode({
    ...{ tenant: "default", transaction_id: id, event_time: ARRIVED - 1_000, card_id: card },
    ...{ user_id: `user-of-${card}`, merchant_id: `merchant-of-${card}`, device_id: null, amount: cents / 100 },
    ...{ currency: "EUR", country: "DE", merchant_category: "grocery", channel: "online", status: "approved" },
  });

type Given = Buffer | null | { readonly value: Buffer; readonly timestampType: string; readonly timestamp?: number };
/** Offsets have gaps, as behind transactions and compaction. */
const partition = (number: number, values: readonly Given[], of = topic, first = 100) => ({
  [`${of}-${number}`]: values.map((given, i) => {
    const { value, ...time } = given === null || Buffer.isBuffer(given) ? { value: given } : given;
    return {
      ...{ topic: of, partition: number, offset: first + 3 * i, timestamp: ARRIVED, timestampType: "LOG_APPEND_TIME" },
      ...{
        key: "Y2FyZA==",
        headers: [{ traced: [1, 2] }],
        ...(value === null ? {} : { value: value.toString("base64") }),
      },
      ...time,
    };
  }),
});
const event = (...partitions: object[]) => ({
  ...{ eventSource: "aws:kafka", eventSourceArn: "arn:aws:kafka:eu-west-1:1:cluster/c/1", bootstrapServers: "b:9098" },
  records: Object.assign({}, ...partitions),
});
const numbered = (name: string, count: number) => Array.from({ length: count }, (_, i) => `${name}-${i}`);
const values = (card: string, ids: readonly string[]) => ids.map((id) => transaction(id, card));

async function countOf(card: string): Promise<unknown> {
  const features = ["card_activity:tx_count_24h"];
  const [answer] = await reader.read([{ tenant: "default", entity: "card", id: card, features }], Date.now());
  return answer!.values[0]!.value;
}
const archivedOf = async (shard: string, prefix: string) =>
  (await path.archived()).filter((row) => row.shard === shard && row.eventId?.startsWith(prefix));
const quarantined = async () => {
  const { dynamodb } = testClients(path.emulator.url);
  return (await dynamodb.send(new ScanCommand({ TableName: TABLES.quarantine }))).Items ?? [];
};
/** Of the invocation that follows, the first object of the archive is refused: that of one partition. */
function failOneArchive(): void {
  let isDone = false;
  path.awsFaults.use(({ operation }) => {
    if (operation !== "PutObject" || isDone) return null;
    isDone = true;
    return { kind: "error", status: 403, code: "AccessDenied" };
  });
}

describe("an invocation with several partitions", () => {
  test("counts each event once, under its partition and offset, however often it is delivered", async () => {
    const given = event(
      partition(0, values("several-a", numbered("several-a", 5))),
      partition(7, values("several-b", numbered("several-b", 4))),
    );
    for (let i = 0; i < 3; i++) expect(await path.aggregate.invoke(given, CONTEXT)).toEqual({ batchItemFailures: [] });
    expect([await countOf("several-a"), await countOf("several-b")]).toEqual([5, 4]);
    const rows = await archivedOf("7", "several-b");
    expect([...new Set(rows.map(({ sequence }) => sequence))].sort()).toEqual(["100", "103", "106", "109"]);
    expect(new Set(rows.map(({ arrivalMs }) => arrivalMs))).toEqual(new Set([ARRIVED]));
    const { committed, outstanding } = await watermark.read("transactions");
    expect(Object.fromEntries(committed)).toEqual({ 0: ARRIVED, 7: ARRIVED });
    expect(outstanding).toEqual([]);
  });

  test("of which one fails acknowledges that one not, and says so to a mapping that takes a partial answer", async () => {
    const cards = ["part-a", "part-b"];
    const parts = cards.map((card, i) => partition(i, values(card, numbered(card, 3))));
    failOneArchive();
    const answer: any = await partial.invoke(event(...parts), CONTEXT);
    expect(answer.batchItemFailures).toHaveLength(1);
    const index = Number(answer.batchItemFailures[0].itemIdentifier.partition.at(-1));
    expect(answer).toEqual({
      batchItemFailures: [{ itemIdentifier: { partition: `${topic}-${index}`, offset: 100 } }],
    });
    const state = await watermark.read("transactions");
    expect([...state.committed.keys()]).toEqual([String(1 - index)]);
    expect(state.outstanding.map(({ shard }) => shard)).toEqual([String(index)]);
    path.awsFaults.use(null);
    expect(await partial.invoke(event(parts[index]!), CONTEXT)).toEqual({ batchItemFailures: [] });
    expect(await Promise.all(cards.map(countOf))).toEqual([3, 3]);
    expect((await archivedOf("0", "part-a")).length + (await archivedOf("1", "part-b")).length).toBe(6);
    expect((await watermark.read("transactions")).outstanding).toEqual([]);
  });

  test("of which one fails has failed for any other mapping, and nothing counts twice when all comes again", async () => {
    const cards = ["whole-a", "whole-b"];
    const given = event(...cards.map((card, i) => partition(i, values(card, numbered(card, 3)))));
    failOneArchive();
    await expect(path.aggregate.invoke(given, CONTEXT)).rejects.toThrow("AccessDenied");
    path.awsFaults.use(null);
    expect(await path.aggregate.invoke(given, CONTEXT)).toEqual({ batchItemFailures: [] });
    expect(await Promise.all(cards.map(countOf))).toEqual([3, 3]);
  });

  test("of a topic that the plan has no stream for fails for that one", async () => {
    const given = event(partition(0, values("known", ["known-0"])), partition(4, values("x", ["x-0"]), "another"));
    expect(await partial.invoke(given, CONTEXT)).toEqual({
      batchItemFailures: [{ itemIdentifier: { partition: "another-4", offset: 100 } }],
    });
    expect(await countOf("known")).toBe(1);
    await expect(path.aggregate.invoke(given, CONTEXT)).rejects.toThrow("the plan has no stream for another");
  });
});

describe("a partition", () => {
  test("whose records are no events has them set aside, and its events counted", async () => {
    const huge = Buffer.alloc(900_000, 1);
    const given = [null, Buffer.from("nonsense"), huge, transaction("neighbour-0", "neighbour")];
    const result = await path.aggregate.invoke(event(partition(2, given)), CONTEXT);
    expect(result).toEqual({ batchItemFailures: [] });
    expect(await countOf("neighbour")).toBe(1);
    const items = (await quarantined()).filter((item) => item["shard"]?.S === "2");
    expect(items.map((item) => item["reason"].S)).toEqual(Array(3).fill("not_single_object"));
    const { committed } = await watermark.read("transactions");
    expect(committed.get("2")).toBe(ARRIVED);
  });

  test("that was added holds the seal until it has acknowledged something", async () => {
    const shard = (id: string) => ({ id, parents: [], closed: false });
    await path.aggregate.invoke(event(partition(0, [encodeHeartbeat(0)])), CONTEXT);
    const before = await watermark.read("transactions");
    expect(committedArrival(before, [shard("0")], ARRIVED)).toBe(ARRIVED);
    expect(committedArrival(before, [shard("0"), shard("1")], ARRIVED)).toBeNull();
    await path.aggregate.invoke(event(partition(1, [encodeHeartbeat(0)])), CONTEXT);
    expect(committedArrival(await watermark.read("transactions"), [shard("0"), shard("1")], ARRIVED)).toBe(ARRIVED);
  });
});

describe("records that keep their producer's time", () => {
  const theirs = (value: Buffer, timestamp = 1_000) => ({ value, timestampType: "CREATE_TIME", timestamp });

  test("are set aside, and no arrival is taken from them", async () => {
    const far = Date.now() + 86_400_000;
    const given = partition(5, [theirs(transaction("theirs-0", "theirs"), far), theirs(encodeHeartbeat(0), far)]);
    expect(await path.aggregate.invoke(event(given), CONTEXT)).toEqual({ batchItemFailures: [] });
    expect(await countOf("theirs")).toBeNull();
    const [item] = (await quarantined()).filter(({ shard }) => shard?.S === "5");
    expect(item).toMatchObject({ reason: { S: "arrival_untrusted" }, tenant: { S: "default" } });
    const { committed, outstanding } = await watermark.read("transactions");
    expect(committed.get("5") ?? 0).toBe(0);
    expect(outstanding).toEqual([]);
  });

  test("count once when they are replayed, by the time of their delivery, and still no arrival is taken from them", async () => {
    const since = Date.now();
    const given = event(partition(8, [theirs(transaction("replayed-0", "replayed"), since + 86_400_000)]));
    await path.aggregate.invoke(given, CONTEXT);
    const until = Date.now();
    const change = {
      kind: "replay",
      filter: { tenant: "default", streams: ["transactions"], reason: "arrival_untrusted" },
    };
    for (let i = 0; i < 2; i++) {
      await replay.invoke(
        { kind: "quarantine", change: { ...change, beganMs: Date.now() + 1 }, budgetMs: 60_000 },
        { ...CONTEXT, functionName: "replay", timeoutMs: 900_000 },
      );
      expect(await countOf("replayed")).toBe(1);
    }
    const [item] = (await quarantined()).filter(({ shard }) => shard?.S === "8");
    expect(item!["status"]).toEqual({ S: "replayed" });
    const rows = await archivedOf("8", "replayed");
    expect(rows.length).toBeGreaterThan(0);
    for (const { arrivalMs } of rows) {
      expect(arrivalMs).toBeGreaterThanOrEqual(since);
      expect(arrivalMs).toBeLessThanOrEqual(until);
    }
    const { committed, outstanding } = await watermark.read("transactions");
    expect([committed.get("8") ?? 0, outstanding]).toEqual([0, []]);
  });

  test("beside records with arrivals leave these as they are", async () => {
    const own = ["mixed-0", "mixed-1"].map((id) => transaction(id, "mixed"));
    const given = [
      theirs(transaction("mixed-x", "mixed"), 5),
      own[0]!,
      theirs(transaction("mixed-y", "mixed")),
      own[1]!,
    ];
    expect(await path.aggregate.invoke(event(partition(6, given)), CONTEXT)).toEqual({ batchItemFailures: [] });
    expect(await countOf("mixed")).toBe(2);
    const { committed, outstanding } = await watermark.read("transactions");
    expect([committed.get("6"), outstanding]).toEqual([ARRIVED, []]);
  });
});
