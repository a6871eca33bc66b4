/**
 * Events in a registry's framing, from what `freshet schemas push` registered to a feature: the bundled aggregate function, whose
 * every invocation is a process of its own, so a cold start; a real Valkey, the emulator's S3 and DynamoDB, a real registry.
 */
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { EventCodec, type EventFields } from "../../adapters/avro/event-codec.ts";
import { reframe } from "../../adapters/avro/framing.ts";
import { KplPacker } from "../../adapters/kinesis/kpl.ts";
import type { OnlineReader } from "../../adapters/online-store/online-store.ts";
import { QuarantineIndex } from "../../adapters/quarantine/quarantine-index.ts";
import { ConfluentRegistry } from "../../adapters/schema-registry/confluent.ts";
import { createReader } from "../../adapters/valkey/reader.ts";
import { plan } from "../../features/plan.ts";
import { stopProcess } from "../../local/processes.ts";
import { BUCKETS, startAggregation, TABLES, type TestAggregation } from "../harness/aggregation.ts";
import { testClients } from "../harness/emulator.ts";
import { bundleHandler, type FunctionBundle, type FunctionHost, processHost } from "../harness/function-host.ts";
import { registryUrl } from "../support/apicurio.ts";
import { startRegistry } from "../support/registry-setup.ts";

const given = inject("schemaRegistry");
const url = registryUrl(given.port);
const registry = new ConfluentRegistry({ url });
const codec = EventCodec.for("transactions.v1");
const SUBJECT = "framed-events-value";
const NOW = Date.now();
const SHARD = "shardId-000000000000";

let path: TestAggregation;
let bundle: FunctionBundle;
let replay: FunctionHost;
let reader: OnlineReader;
let index: QuarantineIndex;
let id: string;
beforeAll(async () => {
  [path, bundle] = await Promise.all([
    startAggregation("transactions", 1, { FRESHET_SCHEMA_REGISTRY: url }),
    bundleHandler("functions/replay.ts"),
  ]);
  replay = processHost(bundle, path.environment);
  reader = createReader(plan, { host: path.valkey.host, port: path.valkey.port, timeoutMs: 20_000 });
  index = new QuarantineIndex({
    ...{ bucket: BUCKETS.quarantine, table: TABLES.quarantine },
    ...testClients(path.emulator.url),
  });
  await path.tick();
  id = await registry.register({ subject: SUBJECT, text: JSON.stringify(codec.schema) });
});
afterAll(async () => {
  await reader?.close();
  await replay?.close();
  bundle?.remove();
  await path?.stop();
});

let sequences = 0;
const event = (card: string, over: Partial<EventFields> = {}): EventFields => ({
  ...{ tenant: "default", transaction_id: `t-${sequences++}`, event_time: NOW - 60_000, card_id: card, user_id: "u" },
  ...{ merchant_id: "m", device_id: null, amount: 1, currency: "EUR", country: "DE" },
  ...{ merchant_category: "grocery", channel: "online", status: "approved", ...over },
});
const framed = (card: string, of = id) => reframe(codec.encode(event(card)), of);
const delivery = (bytes: readonly Uint8Array[]) => ({
  Records: bytes.map((data) => ({
    eventSourceARN: `arn:aws:kinesis:us-east-1:000000000000:stream/${path.stream.name}`,
    eventSource: "aws:kinesis",
    eventID: `${SHARD}:${1_000 + sequences}`,
    kinesis: {
      sequenceNumber: String(1_000 + sequences++),
      approximateArrivalTimestamp: NOW / 1_000,
      data: Buffer.from(data).toString("base64"),
    },
  })),
});
const context = {
  awsRequestId: "a",
  functionName: "aggregate",
  invokedFunctionArn: "arn:aggregate",
  timeoutMs: 60_000,
};
const deliver = (batch: ReturnType<typeof delivery>) => path.aggregate.invoke(batch, context);
async function countOf(card: string): Promise<unknown> {
  const features = ["card_activity:tx_count_24h"];
  const [answer] = await reader.read([{ tenant: "default", entity: "card", id: card, features }], NOW);
  return answer!.values[0]!.value;
}
/** Records that wait in the quarantine, each with what it names its schema by. */
async function quarantined(): Promise<string[]> {
  const found: string[] = [];
  let after: string | null = null;
  do {
    const page: Awaited<ReturnType<QuarantineIndex["page"]>> = await index.page(
      { streams: ["transactions"], statuses: ["open"] },
      after,
    );
    found.push(...page.items.map(({ reason, fingerprint }) => `${reason} ${fingerprint}`));
    after = page.next;
  } while (after !== null);
  return found.sort();
}

test("events in every framing of the registry count once, single, packed, and again", async () => {
  const packer = new KplPacker();
  const twice = framed("single");
  for (const one of [framed("packed"), framed("packed"), twice]) packer.add("k", one);
  await deliver(delivery([twice, packer.take(), codec.encode(event("single"))]));
  expect([await countOf("single"), await countOf("packed")]).toEqual([2, 2]);
});

test("what the registry does not know, or knows as another stream's, is set aside; its neighbours count", async () => {
  const clicks = EventCodec.for("clicks.v1");
  const other = await registry.register({ subject: "framed-clicks-value", text: JSON.stringify(clicks.schema) });
  const bare = { ...codec.schema, fields: codec.schema.fields.filter(({ name }) => name !== "card_id") };
  const narrow = await registry.register({ subject: "framed-narrow-value", text: JSON.stringify(bare) });
  const guid = "confluent-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
  const wrong = ["confluent-4000000", other, narrow, guid, "glue-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"];
  await deliver(delivery([framed("neighbour"), ...wrong.map((of) => framed("wrong", of)), framed("neighbour")]));
  expect([await countOf("neighbour"), await countOf("wrong")]).toEqual([2, null]);
  expect(await quarantined()).toEqual(
    [
      "schema_id_unknown confluent-4000000",
      `schema_wrong_record ${other}`,
      `schema_incompatible ${narrow}`,
      `schema_id_unknown ${guid}`,
      "schema_id_unknown glue-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0",
    ].sort(),
  );
});

test("a schema that refers to others of the registry is read with them", async () => {
  const json = async (method: string, path: string, body?: object): Promise<any> => {
    const headers = { "content-type": "application/vnd.schemaregistry.v1+json" };
    const answer = await fetch(`${url}${path}`, { method, headers, body: JSON.stringify(body) });
    expect(answer.status).toBe(200);
    return answer.json();
  };
  const named = (subject: string, name: string) => ({ name, subject, version: 1 });
  const point = { type: "record", name: "Point", namespace: "geo", fields: [{ name: "lat", type: "double" }] };
  const place = {
    ...{ type: "record", name: "Place", namespace: "geo" },
    fields: [
      { name: "at", type: "Point" },
      { name: "before", type: ["null", "Point"] },
    ],
  };
  await json("POST", "/subjects/geo-point/versions", { schema: JSON.stringify(point) });
  await json("POST", "/subjects/geo-place/versions", {
    schema: JSON.stringify(place),
    references: [named("geo-point", "geo.Point")],
  });
  const writer = { ...codec.schema, fields: [{ name: "place", type: "geo.Place" }, ...codec.schema.fields] };
  const { id: made } = await json("POST", "/subjects/framed-places-value/versions", {
    schema: JSON.stringify(writer),
    references: [named("geo-place", "geo.Place")],
  });
  // By hand, two doubles and the branch of a union, before what the contract's own schema writes.
  const head = Buffer.alloc(17);
  head.writeDoubleLE(1.5, 0);
  head.writeUInt8(2, 8);
  head.writeDoubleLE(2.5, 9);
  const own = codec.encode(event("placed"));
  const record = Buffer.concat([own.subarray(0, 10), head, own.subarray(10)]);
  await deliver(delivery([reframe(record, `confluent-${made}`), framed("placed")]));
  expect(await countOf("placed")).toBe(2);
});

test("without the registry known schemas go on in new processes, and an unknown one waits and is not lost", async () => {
  const writer = { ...codec.schema, doc: "known to the registry alone" };
  const unknown = await registry.register({ subject: SUBJECT, text: JSON.stringify(writer) });
  const waiting = delivery([framed("waits"), framed("waits", unknown)]);
  const before = await quarantined();
  expect(await stopProcess(given.home, "schema-registry", 0)).toBe("killed");
  await deliver(delivery([framed("known")]));
  expect(await countOf("known")).toBe(1);
  for (let delivered = 0; delivered < 2; delivered++) {
    await expect(deliver(waiting)).rejects.toThrow("was not answered");
  }
  expect([await countOf("waits"), await quarantined()]).toEqual([null, before]);
  await startRegistry(given);
  // It begins empty, and gives ids in order again.
  for (let made = 0; ; made++) {
    const text = JSON.stringify({ type: "record", name: `Filler${made}`, fields: [] });
    const last = await registry.register({ subject: `filler-${made}`, text });
    if (Number(last.slice("confluent-".length)) >= Number(unknown.slice("confluent-".length)) - 1) break;
  }
  expect(await registry.register({ subject: SUBJECT, text: JSON.stringify(writer) })).toBe(unknown);
  await deliver(waiting);
  await deliver(waiting);
  expect([await countOf("waits"), await quarantined()]).toEqual([2, before]);
});

test("a record of an id that is registered later is replayed from the quarantine", async () => {
  const made = await registry.register({
    subject: "later-probe",
    text: '{"type":"record","name":"Probe","fields":[]}',
  });
  const next = `confluent-${Number(made.slice("confluent-".length)) + 1}`;
  await deliver(delivery([framed("later", next)]));
  expect(await quarantined()).toContain(`schema_id_unknown ${next}`);
  const text = JSON.stringify({ ...codec.schema, doc: "registered late" });
  expect(await registry.register({ subject: "later", text })).toBe(next);
  const change = { kind: "replay", filter: { tenant: null, streams: ["transactions"], reason: "schema_id_unknown" } };
  await replay.invoke(
    { kind: "quarantine", change: { ...change, beganMs: Date.now() + 1 }, budgetMs: 60_000 },
    { awsRequestId: "r", functionName: "replay", invokedFunctionArn: "arn:replay", timeoutMs: 900_000 },
  );
  expect(await countOf("later")).toBe(1);
  expect(await quarantined()).not.toContain(`schema_id_unknown ${next}`);
});
