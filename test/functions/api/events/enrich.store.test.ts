/** Lookups on a real Valkey: a view over a recorded field answers online what the offline join says, and a replay repeats it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { EventCodec } from "../../../../adapters/avro/event-codec.ts";
import type { Publisher } from "../../../../adapters/broker/broker.ts";
import { hash64 } from "../../../../adapters/hash.ts";
import { DuckSession } from "../../../../adapters/offline/duckdb.ts";
import { featureAt, joinPointInTime } from "../../../../adapters/offline/point-in-time.ts";
import type { OnlineReader } from "../../../../adapters/online-store/online-store.ts";
import { createReader } from "../../../../adapters/valkey/reader.ts";
import { RecordPacker } from "../../../../adapters/valkey/record.ts";
import { checkEvent, identityText } from "../../../../core/event.ts";
import type { Stream } from "../../../../core/plan.ts";
import { createKey } from "../../../../functions/api/keys/keys.ts";
import { listen, type RunningServer } from "../../../../functions/api/server.ts";
import { enrichedPlan as plan } from "../../../support/enriched-plan.ts";
import { entityEventsTable, spineTable } from "../../../support/offline-tables.ts";
import type { PastEvent } from "../../../support/past.ts";
import { openStore, type TestStore } from "../../../support/store.ts";
import { startValkey, type TestValkey } from "../../../support/valkey.ts";
import { caller, transaction } from "../contract/contract-calls.ts";
import { testDependencies } from "../doubles.ts";

const folder = mkdtempSync(join(tmpdir(), "freshet-enrich-"));
const keys = { first: "", second: "", readOnly: "", expired: "" };
const features = ["user_clicks:clicks_1h", "user_clicks:spent_1h", "user_clicks:from_1h", "user_clicks:filled_1h"];
let valkey: TestValkey;
let store: TestStore;
let reader: OnlineReader;
let server: RunningServer;
let session: DuckSession;
const call = caller({ baseUrl: () => server.url, keys: () => keys, plan, exactBytes: true });
/** As the stream holds them. */
const published: { stream: Stream; data: Buffer }[] = [];

/** What the aggregate function does with a record. @returns the event as the archive has it */
async function apply(to: TestStore, stream: Stream, data: Buffer): Promise<PastEvent> {
  const { fields } = EventCodec.for(stream.contract).decode(data);
  const { tenant, eventId, eventTimeMs } = checkEvent(stream, fields, Date.now());
  const { nowMs } = await to.applier.apply([
    new RecordPacker(plan, stream.name).prepare(tenant, eventId, eventTimeMs, fields),
  ]);
  const identity = hash64(identityText(tenant, stream.name, eventTimeMs, eventId));
  return { eventId, identity, timeMs: eventTimeMs, visibleMs: nowMs!, fields: fields as PastEvent["fields"] };
}
const archive: PastEvent[] = [];
const publisher: Publisher = {
  async publish(name, records) {
    const stream = plan.streams.find((one) => one.name === name)!;
    for (const { data } of records) {
      published.push({ stream, data: Buffer.from(data) });
      const event = await apply(store, stream, Buffer.from(data));
      if (name === "clicks") archive.push(event);
    }
    return records.map(() => "queued");
  },
};
const sealMs = () => Math.floor(Date.now() / 60_000) * 60_000 - 15 * 60_000;

beforeAll(async () => {
  valkey = await startValkey();
  store = await openStore(plan, valkey, sealMs());
  reader = createReader(plan, { ...valkey, timeoutMs: 5_000 });
  session = await DuckSession.open({ folder });
  const { dependencies, keys: table } = testDependencies();
  keys.first = (await createKey(table, { tenant: "default", scopes: ["write", "read"], nowMs: 0 })).key;
  const ingest = { ...dependencies.ingest!, publisher, lookups: reader };
  server = await listen({ port: 0, dependencies: { ...dependencies, plan, services: [], reader, ingest } });
});
afterAll(async () => {
  session?.close();
  await server?.close();
  await store?.connection.close();
  await valkey?.stop();
  rmSync(folder, { recursive: true });
});

let clicks = 0;
async function click(): Promise<{ enriched: boolean; not_enriched?: object }> {
  const body = { click_id: `k${clicks++}`, event_time: Date.now(), user_id: "u1", item_id: "i1", action: "view" };
  const reply = await call("/v1/events/clicks", { body });
  expect([reply.status, reply.body.detail]).toEqual([202, undefined]);
  return reply.body.results[0];
}
const pay = (country: string) => call("/v1/events/transactions", { body: transaction({ user_id: "u1", country }) });
const online = async (at: number) =>
  (await reader.read([{ tenant: "default", entity: "user", id: "u1", features }], at))[0].values;
/** The next millisecond: what becomes visible within one would be seen offline and not online. */
async function nextMs(): Promise<number> {
  const t = Date.now();
  while (Date.now() <= t) await new Promise((done) => setTimeout(done, 1));
  return t;
}

it("a view over a looked-up field: online = offline at every instant, and a replay into an empty store gives the same", async () => {
  const times: number[] = [];
  const seen: Awaited<ReturnType<typeof online>>[] = [];
  const look = async () => {
    times.push(await nextMs());
    seen.push(await online(times[times.length - 1]));
  };
  expect(await click()).toMatchObject({
    enriched: false,
    not_enriched: { dwell_ms: "NOT_FOUND", position: "NOT_FOUND" },
  });
  await look();
  for (const country of ["SE", "NO"]) {
    await pay(country);
    expect((await click()).enriched).toBe(true);
    await look();
  }
  // What the definition says: recorded were nothing, then 1 payment, then 2.
  expect(seen.map((values) => values.map(({ value }) => value))).toEqual([
    [1, null, null, 0],
    [2, 1, "SE", 1],
    [3, 3, "NO", 2],
  ]);

  const { fields } = plan.streams.find(({ name }) => name === "clicks")!;
  await session.run(entityEventsTable("clicks_user", fields, { u1: archive }));
  await session.run(
    spineTable(
      "spine",
      times.map((t) => ({ t, keys: { user: "u1" } })),
    ),
  );
  const columns = await joinPointInTime(session, {
    ...{ plan, features, spine: { relation: "spine", rows: times.length, fromMs: times[0], toMs: times[2] } },
    events: () => "clicks_user",
  });
  times.forEach((_, row) => {
    expect(features.map((__, f) => featureAt(columns[f], row))).toEqual(seen[row]);
  });

  // Payments go on, then the stream is replayed from its beginning: lookups would find other values now.
  await pay("DK");
  const at = await nextMs();
  const before = await online(at);
  await store.connection.close();
  const [primary] = await (store = await emptied()).connection.primaries();
  expect(await primary.dbsize()).toBeGreaterThan(0);
  expect((await online(at)).map(({ status }) => status)).toEqual(features.map(() => "NOT_FOUND"));
  for (const { stream, data } of [...published].reverse()) await apply(store, stream, data);
  expect(await online(at)).toEqual(before);
});

async function emptied(): Promise<TestStore> {
  const connection = (await openStore(plan, valkey, sealMs())).connection;
  for (const primary of await connection.primaries()) await primary.flushall();
  await connection.close();
  return openStore(plan, valkey, sealMs());
}
