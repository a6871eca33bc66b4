/** The quarantine from a refused record to its replay: what administrators are shown over HTTP, and what a replay counts. */
import { DeleteObjectCommand } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { EventCodec, type EventFields } from "../../../../adapters/avro/event-codec.ts";
import { KplPacker } from "../../../../adapters/kinesis/kpl.ts";
import type { OnlineReader } from "../../../../adapters/online-store/online-store.ts";
import { type QuarantinedRecord, QuarantineWriter, quarantineId } from "../../../../adapters/quarantine/quarantine.ts";
import { QuarantineIndex } from "../../../../adapters/quarantine/quarantine-index.ts";
import { QuarantineJobs } from "../../../../adapters/quarantine/quarantine-jobs.ts";
import { createReader } from "../../../../adapters/valkey/reader.ts";
import { plan } from "../../../../features/plan.ts";
import {
  groupsAnswer,
  jobAnswer,
  recordAnswer,
  recordsAnswer,
} from "../../../../functions/api/administration/quarantine-schemas.ts";
import { createApp } from "../../../../functions/api/app.ts";
import { createKey } from "../../../../functions/api/keys/keys.ts";
import type { QuarantineChangeReport } from "../../../../functions/shared/replay/quarantine-change.ts";
import { BUCKETS, startAggregation, TABLES, type TestAggregation } from "../../../harness/aggregation.ts";
import { testClients } from "../../../harness/emulator.ts";
import { bundleHandler, type FunctionBundle, type FunctionHost, processHost } from "../../../harness/function-host.ts";
import { testDependencies } from "../../api/doubles.ts";

const stream = plan.streams.find(({ name }) => name === "transactions")!;
const codec = EventCodec.for(stream.contract);
const SHARD = "shardId-000000000000";
const NOW = Date.now();

let path: TestAggregation;
let bundle: FunctionBundle;
let replay: FunctionHost;
let reader: OnlineReader;
let writer: QuarantineWriter;
let index: QuarantineIndex;
let app: ReturnType<typeof createApp>;
let tenants = 0;
/** A tenant of each test's own, with a key of its administrator. */
let tenant: string;
let key: string;
const { dependencies, keys, audit } = testDependencies();

beforeAll(async () => {
  [path, bundle] = await Promise.all([startAggregation("transactions"), bundleHandler("functions/replay.ts")]);
  replay = processHost(bundle, path.environment);
  reader = createReader(plan, { host: path.valkey.host, port: path.valkey.port, timeoutMs: 20_000 });
  const kept = { bucket: BUCKETS.quarantine, table: TABLES.quarantine, ...testClients(path.emulator.url) };
  writer = new QuarantineWriter(kept);
  index = new QuarantineIndex(kept);
  const decode = (contract: string, bytes: Buffer) => EventCodec.for(contract).decode(bytes).fields;
  app = createApp({ ...dependencies, plan, quarantine: { index, jobs: new QuarantineJobs(kept), decode } });
  await path.tick();
});
beforeEach(async () => {
  tenant = `team-${tenants++}`;
  key = (await createKey(keys, { tenant, scopes: ["admin"], nowMs: 0 })).key;
  audit.records.length = 0;
});
afterAll(async () => {
  await reader?.close();
  await replay?.close();
  bundle?.remove();
  await path?.stop();
});

const transaction = (id: string, over: Partial<EventFields> = {}): EventFields => ({
  ...{ tenant, transaction_id: id, event_time: NOW - 60_000, card_id: `card-${tenant}`, user_id: "u" },
  ...{ merchant_id: "m", device_id: null, amount: 1, currency: "EUR", country: "DE" },
  ...{ merchant_category: "grocery", channel: "online", status: "approved", ...over },
});
let sequences = 0;
/** A record that another release refused: by today's contract its bytes are an event. */
const refused = (bytes: Uint8Array, over: Partial<QuarantinedRecord> = {}): QuarantinedRecord => ({
  ...{ tenant, stream: "transactions", shard: SHARD, sequence: String(1_000 + sequences++), subSequence: 0 },
  ...{ arrivalMs: NOW - 30_000, reason: "schema_unknown", field: null, fingerprint: null },
  message: "the schema fingerprint is not known",
  bytes,
  ...over,
});

function packed(parts: readonly Uint8Array[]): Uint8Array {
  const packer = new KplPacker();
  for (const part of parts) packer.add("k", part);
  return packer.take();
}

async function call(method: string, url: string, body?: unknown, by = key) {
  const headers = { "x-api-key": by, ...(body === undefined ? {} : { "content-type": "application/json" }) };
  const reply = await app.request(url, {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  return { status: reply.status, headers: reply.headers, body: (await reply.json()) as any };
}
const context = { awsRequestId: "r", functionName: "replay", invokedFunctionArn: "arn:replay", timeoutMs: 900_000 };
const runFunction = (event: object = {}, killAfterMs?: number) => replay.invoke(event, context, killAfterMs);
const change = (kind: "replay" | "drop", filter: object = {}, more: object = {}) => ({
  kind: "quarantine",
  change: { kind, filter: { tenant, streams: ["transactions"], ...filter }, beganMs: Date.now() + 1, ...more },
  budgetMs: 60_000,
});
const changed = (kind: "replay" | "drop", filter?: object, more?: object) =>
  runFunction(change(kind, filter, more)) as Promise<QuarantineChangeReport>;
async function countOf(card = `card-${tenant}`): Promise<unknown> {
  const features = ["card_activity:tx_count_24h"];
  const [answer] = await reader.read([{ tenant, entity: "card", id: card, features }], NOW);
  return answer!.values[0]!.value;
}
const statuses = async () =>
  Object.fromEntries(
    (await call("GET", "/v1/quarantine?status=all")).body.groups.map((group: any) => [
      `${group.reason} ${group.status}`,
      group.count,
    ]),
  );

describe("what administrators are shown", () => {
  test("groups by reason and first bad field, with counts, first and last arrival and a sample", async () => {
    await writer.write([
      refused(Buffer.from("a"), { arrivalMs: NOW - 5_000 }),
      refused(Buffer.from("b"), { arrivalMs: NOW - 9_000 }),
      refused(Buffer.from("c"), { reason: "number_not_finite", field: "amount" }),
      refused(Buffer.from("d"), { reason: "number_not_finite", field: "event_time" }),
    ]);
    const { status, body } = await call("GET", "/v1/quarantine");
    expect([status, groupsAnswer.parse(body).complete]).toEqual([200, true]);
    expect(body.groups.map(({ reason, field, count }: any) => [reason, field, count]).sort()).toEqual([
      ["number_not_finite", "amount", 1],
      ["number_not_finite", "event_time", 1],
      ["schema_unknown", null, 2],
    ]);
    expect(body.groups[0]).toMatchObject({
      first_arrival_ms: NOW - 9_000,
      last_arrival_ms: NOW - 5_000,
      status: "open",
    });
    const shown = await call("GET", `/v1/quarantine/${body.groups[0].sample_id}`);
    expect(shown.body).toMatchObject({ arrival_ms: NOW - 5_000, payload: Buffer.from("a").toString("base64") });
    const only = async (query: string) => (await call("GET", `/v1/quarantine?${query}`)).body.groups.length;
    expect(await only("field=amount")).toBe(1);
    expect(await only("reason=number_not_finite")).toBe(2);
    expect(await only(`since=${NOW - 6_000}&reason=schema_unknown`)).toBe(1);
    expect(await only("status=dropped")).toBe(0);
    expect(await only("stream=clicks")).toBe(0);
  });

  test("records page by page, each once, and never a payload in a list", async () => {
    const records = Array.from({ length: 25 }, (_, i) => refused(Buffer.from(`payload ${i}`)));
    await writer.write(records);
    const seen: string[] = [];
    let next: string | null = null;
    do {
      const page: any = await call("GET", `/v1/quarantine/records?limit=7${next === null ? "" : `&after=${next}`}`);
      expect(recordsAnswer.parse(page.body).records.length).toBeLessThanOrEqual(7);
      expect(JSON.stringify(page.body)).not.toContain("payload");
      seen.push(...page.body.records.map(({ id }: any) => id));
      next = page.body.next;
    } while (next !== null);
    expect(seen.sort()).toEqual(records.map(quarantineId).sort());
  });

  test("a record with its payload and what it says by today's contract; its reading is on the audit log", async () => {
    const record = refused(codec.encode(transaction("shown")));
    await writer.write([record]);
    const { status, headers, body } = await call("GET", `/v1/quarantine/${quarantineId(record)}`);
    expect([status, headers.get("cache-control")]).toEqual([200, "no-store"]);
    expect(recordAnswer.parse(body)).toMatchObject({ reason: "schema_unknown", event: { transaction_id: "shown" } });
    expect(audit.records.at(-1)).toMatchObject({
      ...{ tenant, action: "quarantine.show", target: `/v1/quarantine/${quarantineId(record)}`, outcome: "done" },
    });
  });

  test("another tenant's records and jobs answer as what is not there, and so do those of nobody", async () => {
    const own = refused(Buffer.from("own"));
    const nobody = refused(Buffer.from("nobody"), { tenant: null });
    const named = refused(Buffer.from("named"), { tenant: "../../x" });
    await writer.write([own, nobody, named]);
    const job = (await call("POST", "/v1/quarantine/drop", { ids: [quarantineId(own)] })).body.job_id;
    const other = (await createKey(keys, { tenant: `other-of-${tenant}`, scopes: ["admin"], nowMs: 0 })).key;
    const lacking = (id: string) => ({
      status: 404,
      body: { code: "record_unknown", field: "id", detail: expect.stringContaining(id) },
    });
    for (const record of [own, nobody, named]) {
      const id = quarantineId(record);
      expect(await call("GET", `/v1/quarantine/${id}`, undefined, other)).toMatchObject(lacking(id));
      if (record !== own) expect(await call("GET", `/v1/quarantine/${id}`)).toMatchObject(lacking(id));
    }
    expect((await call("GET", "/v1/quarantine", undefined, other)).body.groups).toEqual([]);
    expect((await call("GET", "/v1/quarantine/records", undefined, other)).body.records).toEqual([]);
    expect(await call("GET", `/v1/quarantine/jobs/${job}`, undefined, other)).toMatchObject({
      status: 404,
      body: { code: "job_unknown" },
    });
    // It may ask for it, and changes nothing.
    await call("POST", "/v1/quarantine/replay", { ids: [quarantineId(own)] }, other);
    await call("POST", "/v1/quarantine/drop", { all: true }, other);
    await runFunction();
    expect((await call("GET", `/v1/quarantine/${quarantineId(own)}`)).body.status).toBe("dropped");
    expect((await index.get(null, ["transactions"], quarantineId(nobody)))!.status).toBe("open");
  });

  test("to administrators alone", async () => {
    const reading = (await createKey(keys, { tenant, scopes: ["read", "write", "score"], nowMs: 0 })).key;
    for (const url of ["/v1/quarantine", "/v1/quarantine/records", `/v1/quarantine/${"0".repeat(32)}`]) {
      expect(await call("GET", url, undefined, reading)).toMatchObject({
        status: 403,
        body: { code: "scope_missing" },
      });
    }
    expect((await call("POST", "/v1/quarantine/drop", { all: true }, reading)).status).toBe(403);
  });
});

describe("a replay", () => {
  test("counts a record whose contract is mended, with the arrival that it had, once, however often it is asked for", async () => {
    const record = refused(codec.encode(transaction("mended")));
    await writer.write([
      record,
      refused(Buffer.from("no event at all"), { reason: "avro_truncated", field: "amount" }),
    ]);
    const { status, headers, body } = await call("POST", "/v1/quarantine/replay", { all: true });
    expect([status, jobAnswer.parse(body).state]).toEqual([202, "queued"]);
    await runFunction();
    const job = await call("GET", headers.get("location")!);
    expect(job.body).toMatchObject({
      state: "done",
      replayed: 1,
      still_refused: 1,
      applied: 1,
      duplicates: 0,
      late: 0,
    });
    expect(await countOf()).toBe(1);
    // Refused for another reason now: the newest one is shown.
    expect(await statuses()).toEqual({ "schema_unknown replayed": 1, "not_single_object still_refused": 1 });
    const rows = (await path.archived()).filter(({ eventId }) => eventId === "mended");
    expect(rows.map(({ arrivalMs, shard, sequence }) => ({ arrivalMs, shard, sequence }))).toEqual([
      { arrivalMs: record.arrivalMs, shard: SHARD, sequence: record.sequence },
    ]);
    expect(await changed("replay")).toMatchObject({ state: "done", replayed: 0, stillRefused: 1 });
    expect(await countOf()).toBe(1);
  });

  test("of an event that the producer has sent again meanwhile counts nothing", async () => {
    const bytes = codec.encode(transaction("again"));
    await writer.write([refused(bytes), refused(bytes)]);
    expect(await changed("replay")).toMatchObject({ replayed: 2 });
    expect(await countOf()).toBe(1);
  });

  test("of a sealed event hands it to repair", async () => {
    await writer.write([refused(codec.encode(transaction("old", { event_time: NOW - 86_400_000 })))]);
    expect(await changed("replay")).toMatchObject({ replayed: 1, applied: 0, late: 1 });
  });

  test("judges the event's time by the arrival that it had", async () => {
    await writer.write([refused(codec.encode(transaction("ahead", { event_time: NOW - 30_000 + 61_000 })))]);
    expect(await changed("replay")).toMatchObject({ replayed: 0, stillRefused: 1 });
    expect(await statuses()).toEqual({ "event_time_future still_refused": 1 });
  });

  test("opens an aggregated record that did not open; parts that are refused come under ids of their own", async () => {
    const parts = [
      codec.encode(transaction("part-0")),
      codec.encode(transaction("part-1", { amount: Number.NaN })),
      codec.encode(transaction("part-2")),
    ];
    const record = refused(packed(parts), {
      reason: "aggregate_invalid",
    });
    await writer.write([record]);
    expect(await changed("replay")).toMatchObject({ replayed: 1, applied: 2 });
    expect(await countOf()).toBe(2);
    expect(await statuses()).toEqual({ "aggregate_invalid replayed": 1, "number_not_finite open": 1 });
  });

  test("of a single event out of an aggregated record keeps its place in it", async () => {
    const record = refused(codec.encode(transaction("third")), { subSequence: 3 });
    await writer.write([record]);
    await changed("replay");
    const rows = (await path.archived()).filter(({ eventId }) => eventId === "third");
    expect(rows.map(({ subSequence }) => subSequence)).toEqual([3]);
  });

  test("leaves a record whose bytes are gone, and says so", async () => {
    const record = refused(codec.encode(transaction("gone")), { arrivalMs: NOW - 40_000 });
    await writer.write([record]);
    const item = (await index.get(tenant, ["transactions"], quarantineId(record)))!;
    const { s3 } = testClients(path.emulator.url);
    await s3.send(new DeleteObjectCommand({ Bucket: BUCKETS.quarantine, Key: item.objectKey }));
    expect(await changed("replay")).toMatchObject({ replayed: 0, unreadable: 1 });
    expect(await statuses()).toEqual({ "schema_unknown open": 1 });
    expect((await call("GET", `/v1/quarantine/${item.id}`)).body).toMatchObject({ payload: null, event: null });
  });

  test("that is killed anywhere, then run by two at once, counts each event once", async () => {
    const records = Array.from({ length: 20 }, (_, i) => refused(codec.encode(transaction(`killed-${i}`))));
    await writer.write(records);
    const order = change("replay");
    for (const afterMs of [1, 10, 30, 60]) await runFunction(order, afterMs).catch(() => {});
    await Promise.all([runFunction(order), runFunction(order)]);
    expect(await countOf()).toBe(20);
    expect(await statuses()).toEqual({ "schema_unknown replayed": 20 });
    const ids = (await path.archived()).filter(({ eventId }) => eventId?.startsWith("killed-"));
    expect(new Set(ids.map(({ eventId }) => eventId)).size).toBe(20);
    const times = Map.groupBy(ids, ({ eventId }) => eventId);
    for (const rows of times.values()) expect(new Set(rows.map(({ fates }) => fates[0]!.visibleMs)).size).toBe(1);
  });

  test("does not take up what was dropped; a drop takes what it is told alone", async () => {
    const [first, second] = [refused(codec.encode(transaction("one"))), refused(codec.encode(transaction("two")))];
    await writer.write([first, second]);
    expect(await changed("drop", {}, { ids: [quarantineId(first)] })).toMatchObject({ dropped: 1 });
    expect(await changed("replay")).toMatchObject({ replayed: 1 });
    expect(await countOf()).toBe(1);
    expect(await statuses()).toEqual({ "schema_unknown dropped": 1, "schema_unknown replayed": 1 });
  });
});
