/** A range of arrivals delivered again, from the archive and as records of the broker: what is missing is counted, nothing twice. */
import { Redis } from "iovalkey";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type ArchiveRow, ArchiveWriter } from "../../../../adapters/archive/archive.ts";
import { EventCodec, type EventFields } from "../../../../adapters/avro/event-codec.ts";
import { LateQueue } from "../../../../adapters/late-queue/late-queue.ts";
import type { OnlineReader } from "../../../../adapters/online-store/online-store.ts";
import { createReader } from "../../../../adapters/valkey/reader.ts";
import { RecordPacker } from "../../../../adapters/valkey/record.ts";
import { watermarkKey } from "../../../../adapters/valkey/watermark.ts";
import { plan } from "../../../../features/plan.ts";
import type { RecordsReport } from "../../../../functions/replay.ts";
import type { ArchiveReplay, ArchiveReplayReport } from "../../../../functions/shared/replay/archive-replay.ts";
import { BUCKETS, startAggregation, TABLES, type TestAggregation } from "../../../harness/aggregation.ts";
import { testClients } from "../../../harness/emulator.ts";
import { bundleHandler, type FunctionBundle, type FunctionHost, processHost } from "../../../harness/function-host.ts";
import { KinesisMapping } from "../../../harness/kinesis-mapping.ts";
import { seededRandom } from "../../../harness/random.ts";

const stream = plan.streams.find(({ name }) => name === "transactions")!;
const codec = EventCodec.for(stream.contract);
const NOW = Date.now();
const MINUTE = 60_000;

let path: TestAggregation;
let bundle: FunctionBundle;
let replay: FunctionHost;
let reader: OnlineReader;
let admin: Redis;
let archive: ArchiveWriter;
let late: LateQueue;
let sealMs: number;
let cards = 0;
/** Of each test's own. */
let card: string;

beforeAll(async () => {
  [path, bundle] = await Promise.all([startAggregation("transactions"), bundleHandler("functions/replay.ts")]);
  replay = processHost(bundle, path.environment);
  reader = createReader(plan, { host: path.valkey.host, port: path.valkey.port, timeoutMs: 20_000 });
  admin = new Redis({ host: path.valkey.host, port: path.valkey.port });
  const { s3, dynamodb } = testClients(path.emulator.url);
  archive = new ArchiveWriter({ bucket: BUCKETS.archive, s3 });
  late = new LateQueue({ table: TABLES.late, dynamodb });
  sealMs = (await path.tick()).seals["transactions"];
});
beforeEach(() => {
  card = `card-${cards++}`;
});
afterAll(async () => {
  admin?.disconnect();
  await reader?.close();
  await replay?.close();
  bundle?.remove();
  await path?.stop();
});

const transaction = (id: string, over: Partial<EventFields> = {}): EventFields => ({
  ...{ tenant: "default", transaction_id: id, event_time: NOW - MINUTE, card_id: card, user_id: `user-of-${card}` },
  ...{ merchant_id: `merchant-of-${card}`, device_id: null, amount: 1, currency: "EUR", country: "DE" },
  ...{ merchant_category: "grocery", channel: "online", status: "approved", ...over },
});
/** What arrives from here on, until `to`: each test has a range of its own. */
let from = NOW - 3 * MINUTE;
function range(): { fromMs: number; toMs: number } {
  from += 200;
  return { fromMs: from, toMs: from + 100 };
}
const packer = new RecordPacker(plan, "transactions");
/** A row as the aggregate function would have written it. */
function row(id: string, arrivalMs: number, fate: "applied" | "late", over: Partial<EventFields> = {}): ArchiveRow {
  const fields = transaction(id, over);
  const eventTimeMs = fields["event_time"] as number;
  const { identity } = packer.prepare("default", id, eventTimeMs, fields as never);
  const visibleMs = fate === "applied" ? arrivalMs + 5 : null;
  const fates = ["card", "merchant", "user"].map((entity) => ({
    ...{ entity, fate, visibleMs },
    id: entity === "card" ? card : `${entity}-of-${card}`,
  }));
  return {
    ...{ stream: "transactions", arrivalMs, shard: "shardId-000000000000", sequence: `${arrivalMs}`, subSequence: 0 },
    ...{ tenant: "default", eventId: id, eventTimeMs, identity, fields: fields as never, fates },
  };
}
const write = (...rows: ArchiveRow[]) => archive.write(rows, { stream: "transactions", shard: rows[0]!.shard });
const context = { awsRequestId: "r", functionName: "replay", invokedFunctionArn: "arn:replay", timeoutMs: 900_000 };
const order = (of: Pick<ArchiveReplay, "fromMs" | "toMs"> & Partial<ArchiveReplay>, budgetMs = 60_000) => ({
  ...{ kind: "archive", budgetMs },
  replay: { stream: "transactions", sealMs, after: null, ...of },
});
const run = (event: object, killAfterMs?: number) =>
  replay.invoke(event, context, killAfterMs) as Promise<ArchiveReplayReport>;
async function count(): Promise<unknown> {
  const [answer] = await reader.read(
    [{ tenant: "default", entity: "card", id: card, features: ["card_activity:tx_count_24h"] }],
    NOW,
  );
  return answer!.values[0]!.value;
}
const rowsOf = async (id: string) => (await path.archived()).filter(({ eventId }) => eventId === id);
const pending = async () => (await late.count("transactions")).pending;

describe("a range of the archive", () => {
  test("gives the store what it has lost, and nothing a second time; the archive stays as it is", async () => {
    const { fromMs, toMs } = range();
    await write(...Array.from({ length: 12 }, (_, i) => row(`${card}-${i}`, fromMs + i, "applied")));
    expect(await run(order({ fromMs, toMs }))).toMatchObject({
      state: "done",
      events: 12,
      applied: 12,
      duplicates: 0,
      late: 0,
    });
    expect(await run(order({ fromMs, toMs }))).toMatchObject({ state: "done", events: 12, applied: 0, duplicates: 12 });
    expect(await count()).toBe(12);
    expect(await rowsOf(`${card}-3`)).toHaveLength(1);
    const left = (await admin.hkeys(watermarkKey("transactions"))).filter((field) => /^[ob]:/.test(field));
    expect(left).toEqual([]);
  });

  test("is the arrivals from its beginning to before its end, whatever lies in the same objects", async () => {
    const { fromMs, toMs } = range();
    const at = [fromMs - 1, fromMs, toMs - 1, toMs];
    await write(...at.map((arrivalMs, i) => row(`${card}-${i}`, arrivalMs, "applied")));
    expect(await run(order({ fromMs, toMs }))).toMatchObject({ applied: 2 });
    expect(await count()).toBe(2);
  });

  test("makes a late event visible whose tile is open here: a row says so from then on", async () => {
    const { fromMs, toMs } = range();
    await write(row(`${card}-late`, fromMs, "late"));
    expect(await run(order({ fromMs, toMs }))).toMatchObject({ applied: 1, late: 0 });
    const times = async () =>
      (await rowsOf(`${card}-late`)).map(({ fates }) => fates.map(({ fate, visibleMs }) => [fate, visibleMs]));
    const known = await times();
    const [[first]] = known.filter(([fate]) => fate![1] !== null);
    const others = known.filter(([fate]) => fate![1] === null);
    expect([first![0], others]).toEqual(["applied", [new Array(3).fill(["late", null])]]);
    // Rows are looked at object by object: the late one may be said to be visible once more, at the same time.
    expect(await run(order({ fromMs, toMs }))).toMatchObject({ events: 2, applied: 0, duplicates: 2 });
    // Of the card: each entity has a time of its own.
    const seen = (await times()).map(([ofCard]) => ofCard!).filter(([fate]) => fate !== "late");
    expect(new Set(seen.map(([, visibleMs]) => visibleMs)).size).toBe(1);
    expect(await count()).toBe(1);
  });

  test("hands sealed events to repair that were never visible, and leaves those that were", async () => {
    const { fromMs, toMs } = range();
    const old = { event_time: sealMs - 5 * MINUTE };
    await write(row(`${card}-seen`, fromMs, "applied", old), row(`${card}-waits`, fromMs + 1, "late", old));
    const before = await pending();
    expect(await run(order({ fromMs, toMs }))).toMatchObject({ events: 2, applied: 0, sealed: 1, late: 1 });
    expect((await pending()) - before).toBe(3);
    expect(await run(order({ fromMs, toMs }))).toMatchObject({ sealed: 1, late: 1 });
    expect((await pending()) - before).toBe(3);
  });

  test("goes on after the object that was done last, and counts what it would do in a dry run", async () => {
    const { fromMs, toMs } = range();
    for (let i = 0; i < 3; i++) await write(row(`${card}-${i}`, fromMs + i, "applied"));
    expect(await run(order({ fromMs, toMs, dryRun: true }))).toMatchObject({ state: "done", events: 3, applied: 0 });
    expect(await count()).toBeNull();
    const first = await run(order({ fromMs, toMs }, -1));
    expect(first).toMatchObject({ state: "more", after: null, events: 0 });
    const keys = (await run(order({ fromMs, toMs, dryRun: true }))).after!;
    expect(await run(order({ fromMs, toMs, after: keys }))).toMatchObject({ state: "done", events: 0 });
    expect(await run(order({ fromMs, toMs }))).toMatchObject({ applied: 3, objectsDone: first.objects });
  });

  test("that is killed anywhere, then run by two at once, counts each event once", async () => {
    const { fromMs, toMs } = range();
    for (let i = 0; i < 4; i++) {
      await write(
        ...Array.from({ length: 10 }, (_, n) => row(`${card}-${i}-${n}`, fromMs + i, n % 2 === 0 ? "applied" : "late")),
      );
    }
    for (const afterMs of [1, 25]) await run(order({ fromMs, toMs }), afterMs).catch(() => {});
    await Promise.all([run(order({ fromMs, toMs })), run(order({ fromMs, toMs }))]);
    expect(await count()).toBe(40);
    const ids = new Set(
      (await path.archived())
        .filter(({ eventId, fates }) => eventId?.startsWith(`${card}-`) && fates[0]!.visibleMs !== null)
        .map(({ eventId }) => eventId),
    );
    expect(ids.size).toBe(40);
  });

  test("leaves a row that is no event to itself", async () => {
    const { fromMs, toMs } = range();
    await write(row(`${card}-good`, fromMs, "applied"), {
      ...row(`${card}-bad`, fromMs, "applied"),
      fields: null,
    });
    expect(await run(order({ fromMs, toMs }))).toMatchObject({ events: 2, applied: 1, refused: 1 });
    expect(await count()).toBe(1);
  });
});

describe("records of the broker", () => {
  test("that were delivered change nothing; one that never was is counted and archived with its arrival", async () => {
    const mapping = new KinesisMapping({
      ...{ stream: path.stream, host: path.aggregate, clock: path.clock, random: seededRandom(1) },
      settings: { startingPosition: "LATEST", batchSize: 50 },
    });
    for (let i = 0; i < 5; i++) path.put(card, transaction(`${card}-${i}`));
    await mapping.run();
    const shard = path.stream.shards.find(({ records }) => records.some(({ partitionKey }) => partitionKey === card))!;
    const delivered = shard.records.filter(({ partitionKey }) => partitionKey === card);
    const missing = {
      sequence: "9".repeat(56),
      arrivalMs: NOW - 1_234,
      data: codec.encode(transaction(`${card}-never`)),
    };
    const records = [...delivered, missing].map(({ sequence, arrivalMs, data }) => ({
      ...{ sequence, arrivalMs, data: Buffer.from(data).toString("base64") },
    }));
    const event = { kind: "records", stream: "transactions", shard: shard.id, records };
    const deliver = () => replay.invoke(event, context) as Promise<RecordsReport>;
    expect(await deliver()).toMatchObject({ events: 6, applied: 1, duplicates: 5, late: 0, quarantined: 0 });
    expect(await deliver()).toMatchObject({ events: 6, applied: 0, duplicates: 6 });
    expect(await count()).toBe(6);
    expect((await rowsOf(`${card}-never`))[0]).toMatchObject({ arrivalMs: NOW - 1_234, shard: shard.id });
  });
});
