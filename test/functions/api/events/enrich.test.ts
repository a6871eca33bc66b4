/** Lookups at ingest against doubles: what is read, what is recorded, and that a store that fails never fails an event. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { EventCodec } from "../../../../adapters/avro/event-codec.ts";
import { hash64 } from "../../../../adapters/hash.ts";
import { compile, EMPTY_LOCK } from "../../../../core/compile/compile.ts";
import * as d from "../../../../core/definition.ts";
import type { FeatureValue, Value } from "../../../../core/plan.ts";
import { createApp } from "../../../../functions/api/app.ts";
import { createEnrich } from "../../../../functions/api/events/enrich.ts";
import { createEventChecker } from "../../../../functions/api/events/event-check.ts";
import { createKey } from "../../../../functions/api/keys/keys.ts";
import { MAX_EVENT_BYTES } from "../../../../functions/api/limits.ts";
import * as schemas from "../../../../functions/api/openapi/schemas.ts";
import { listen, type RunningServer } from "../../../../functions/api/server.ts";
import { contracts } from "../../../../schemas/contracts.ts";
import { enrichedDefinitions, enrichedPlan as plan } from "../../../support/enriched-plan.ts";
import { type CallOptions, caller, conforming, transaction } from "../contract/contract-calls.ts";
import { testDependencies } from "../doubles.ts";

const ports = testDependencies();
const { broker, reader } = ports;
let nowMs = Date.now();
const dependencies = {
  ...ports.dependencies,
  ...{ plan, services: [], clock: () => nowMs },
  ingest: { ...ports.dependencies.ingest!, lookups: reader },
};
const codec = EventCodec.for("clicks.v1");
const keys = { first: "", second: "", readOnly: "", expired: "" };
let server: RunningServer;
const call = caller({ baseUrl: () => server.url, keys: () => keys, plan, exactBytes: true });
let clicks = 0;
const click = (more: Record<string, unknown> = {}) => ({
  click_id: `k${clicks++}`,
  event_time: nowMs,
  user_id: "u1",
  item_id: "i1",
  action: "view",
  ...more,
});
const present = (value: Value): FeatureValue => ({ value, status: "PRESENT", eventTimeMs: 1 });
const none = (status: FeatureValue["status"]): FeatureValue => ({ value: null, status, eventTimeMs: null });
const knowUser = (spent: FeatureValue, country: FeatureValue, tenant = "team-a") =>
  reader.values.set(`${tenant}/user/u1`, { "user_spend:tx_count_1h": spent, "user_spend:last_country": country });
const knowItem = (value: FeatureValue) => reader.values.set("team-a/item/i1", { "item_seen:clicks_1h": value });

async function send(body: unknown, options: CallOptions = {}) {
  const reply = await call("/v1/events/clicks", { body, ...options });
  expect([reply.status, reply.body.detail]).toEqual([202, undefined]);
  return conforming(schemas.eventsAnswer, reply).results;
}
const recorded = () =>
  broker.sent.map(({ record }) => {
    const { dwell_ms, session_id, position } = codec.decode(Buffer.from(record.data)).fields;
    return { dwell_ms, session_id, position };
  });

beforeAll(async () => {
  keys.first = (await createKey(ports.keys, { tenant: "team-a", scopes: ["write"], nowMs: 0 })).key;
  keys.second = (await createKey(ports.keys, { tenant: "team-b", scopes: ["write"], nowMs: 0 })).key;
  server = await listen({ port: 0, dependencies });
});
afterAll(() => server?.close());
it("the published event has no field that is looked up, which a producer may not send", () => {
  const event = schemas.requestSchemas(plan).events["clicks"];
  expect(event.safeParse(click()).success).toBe(true);
  expect(event.safeParse(click({ dwell_ms: 5 })).success).toBe(false);
});

beforeEach(() => {
  nowMs += 60_000;
  Object.assign(reader, { down: false, fault: null, degraded: null });
  reader.requests.length = 0;
  reader.values.clear();
  broker.sent.length = 0;
});

it("records what the features are, with one read of each entity for a whole request", async () => {
  knowUser(present(7), present("SE"));
  knowItem(present(3));
  const results = await send([click(), click(), click({ item_id: "i2" })]);
  expect(results.map(({ enriched, not_enriched }) => [enriched, not_enriched])).toEqual([
    [true, undefined],
    [true, undefined],
    [false, { position: "NOT_FOUND" }],
  ]);
  const filled = { dwell_ms: 7, session_id: "SE", position: 3 };
  expect(recorded()).toEqual([filled, filled, { ...filled, position: null }]);
  expect(reader.requests.map(({ tenant, entity, id, features }) => [tenant, entity, id, features])).toEqual([
    ["team-a", "user", "u1", ["user_spend:tx_count_1h", "user_spend:last_country"]],
    ["team-a", "item", "i1", ["item_seen:clicks_1h"]],
    ["team-a", "item", "i2", ["item_seen:clicks_1h"]],
  ]);
});

it("looks up with the key's tenant, and finds nothing of another's", async () => {
  knowUser(present(7), present("SE"));
  const [result] = await send(click(), { key: keys.second });
  expect(result.not_enriched).toEqual({ dwell_ms: "NOT_FOUND", session_id: "NOT_FOUND", position: "NOT_FOUND" });
  expect(recorded()).toEqual([{ dwell_ms: null, session_id: null, position: null }]);
  expect(reader.requests.map(({ tenant }) => tenant)).toEqual(["team-b", "team-b"]);
});

it("says of each field why it is null", async () => {
  knowUser(none("NOT_READY"), none("OUTSIDE_MAX_AGE"));
  knowItem(none("NULL_VALUE"));
  const [result] = await send(click());
  expect(result).toMatchObject({
    enriched: false,
    not_enriched: { dwell_ms: "NOT_READY", session_id: "OUTSIDE_MAX_AGE", position: "NULL_VALUE" },
  });
});

it("an id that is too long to be a key has no features", async () => {
  const definitions = enrichedDefinitions();
  const merchant = d.entity("merchant", { joinKey: "merchant_id" });
  const sql = "SELECT merchant_id, event_time_ms, max(country) AS label FROM transactions GROUP BY 1, 2";
  const risk = d.batchFeatureView("risk", {
    entity: merchant,
    sql,
    every: "1h",
    ttl: "1d",
    owner: "o",
    features: { label: "string" },
  });
  const enrich = { device_id: d.lookup("risk:label") };
  const streams = [{ ...definitions.streams[0], enrich }, definitions.streams[1]];
  const entities = [...definitions.entities, merchant];
  const other = compile({ ...definitions, entities, streams, batchViews: [risk] }, contracts, EMPTY_LOCK, hash64).plan;
  const app = createApp({ ...dependencies, plan: other });
  const body = JSON.stringify(transaction({ merchant_id: "m".repeat(300), event_time: nowMs }));
  const headers = { "x-api-key": keys.first, "content-type": "application/json" };
  const reply = await app.request("/v1/events/transactions", { method: "POST", body, headers });
  const { results } = (await reply.json()) as any;
  expect(results[0]).toMatchObject({ status: "queued", not_enriched: { device_id: "KEY_MISSING" } });
  expect(reader.requests).toEqual([]);
});

it("a value that a window over the field cannot take is dropped, not the event", async () => {
  knowUser(present(2 ** 52), present("x".repeat(2_000)));
  knowItem(present(3));
  const [result] = await send(click());
  expect(result).toMatchObject({
    status: "queued",
    not_enriched: { dwell_ms: "VALUE_REFUSED", session_id: "VALUE_REFUSED" },
  });
  expect(recorded()).toEqual([{ dwell_ms: null, session_id: null, position: 3 }]);
});

it("an event that only looked-up values make too large goes without them; one that is too large by itself is refused alone", async () => {
  knowUser(present(7), present("SE".repeat(400)));
  const near = (bytes: number) => click({ impression_id: "x".repeat(bytes) });
  const limit = MAX_EVENT_BYTES - 500;
  const reply = await call("/v1/events/clicks", { body: [near(limit), near(limit + 1_000), click()] });
  expect(reply.status).toBe(207);
  const { results } = conforming(schemas.eventsAnswer, reply);
  expect(results.map(({ status, code, not_enriched }) => [status, code, not_enriched])).toEqual([
    ["queued", undefined, { dwell_ms: "VALUE_REFUSED", session_id: "VALUE_REFUSED", position: "NOT_FOUND" }],
    ["invalid", "record_too_large", undefined],
    ["queued", undefined, { position: "NOT_FOUND" }],
  ]);
  expect(recorded()).toEqual([
    { dwell_ms: null, session_id: null, position: null },
    { dwell_ms: 7, session_id: "SE".repeat(400), position: null },
  ]);
});

describe("a store that cannot be trusted", () => {
  it("that does not answer leaves the fields null and the event queued, and is asked again after a second", async () => {
    reader.down = true;
    const missing = {
      dwell_ms: "STORE_UNAVAILABLE",
      session_id: "STORE_UNAVAILABLE",
      position: "STORE_UNAVAILABLE",
    };
    expect((await send(click()))[0]).toMatchObject({ status: "queued", enriched: false, not_enriched: missing });
    reader.down = false;
    knowUser(present(7), present("SE"));
    knowItem(present(3));
    nowMs += 999;
    expect((await send(click()))[0].not_enriched).toEqual(missing);
    expect(reader.requests).toEqual([]);
    nowMs += 1;
    expect((await send(click()))[0].enriched).toBe(true);
    const { body: metrics } = await call("/metrics", { key: null });
    expect(metrics).toMatch(/freshet_enriched_fields_total\{stream="clicks",result="unavailable"\} 6/);
  });

  it("that stays silent for ever holds no event up for long, and one request a second alone", async () => {
    const stream = plan.streams.find(({ name }) => name === "clicks")!;
    const checker = createEventChecker(plan, stream, codec);
    let asked = 0;
    const enrich = createEnrich(checker, {
      read() {
        asked++;
        return new Promise(() => {});
      },
    });
    const one = (atMs: number) => enrich("team-a", [checker.fromJson(click(), "team-a", nowMs)], atMs);
    // The read itself never ends, as while a token for the store's password is waited for.
    expect((await one(nowMs)).counts.unavailable).toBe(3);
    const asking = one(nowMs + 1_000);
    const beside = await one(nowMs + 1_001);
    expect(beside.counts).toEqual({ filled: 0, missing: 0, unavailable: 3 });
    expect(await Promise.race([asking.then(() => "waited"), "went on"])).toBe("went on");
    expect(asked).toBe(2);
    await asking;
  });

  it.each(["restoring", "failover", "lost"])("that is %s gives no value, since it may lag behind", async (state) => {
    knowUser(present(7), present("SE"));
    reader.degraded = state;
    expect((await send(click()))[0].not_enriched).toMatchObject({ dwell_ms: "STORE_UNAVAILABLE" });
    expect(recorded()[0].dwell_ms).toBe(null);
  });

  it("that fails in a way nobody thought of does no harm either", async () => {
    reader.fault = new TypeError("cannot read properties of undefined");
    expect((await send(click()))[0]).toMatchObject({ status: "queued", enriched: false });
  });
});

describe("a producer that sends the field itself", () => {
  it("is refused, in JSON and in Avro: a field has one source", async () => {
    const json = await call("/v1/events/clicks", { body: click({ dwell_ms: 5 }) });
    const fields = { tenant: "team-a", ...click({ dwell_ms: 5, session_id: null, position: null }) } as never;
    const headers = { "content-type": "avro/binary" };
    const avro = await call("/v1/events/clicks", { body: codec.encode(fields), headers });
    for (const { status, body } of [json, avro]) {
      expect([status, body.code, body.field]).toEqual([400, "field_enriched", "dwell_ms"]);
      expect(body.detail).toBe("dwell_ms is filled here with user_spend:tx_count_1h; the event has a value for it");
      expect(body.repair).toBe("leave dwell_ms out, or send null");
    }
  });

  it("may send null; its Avro bytes are encoded anew only when there is a value to put in", async () => {
    const bytes = codec.encode({
      tenant: "team-a",
      ...click({ dwell_ms: null, session_id: null, position: null }),
    } as never);
    const headers = { "content-type": "avro/binary" };
    await send(bytes, { headers });
    expect(Buffer.from(broker.sent[0].record.data)).toEqual(bytes);
    knowUser(present(7), present("SE"));
    await send(bytes, { headers });
    expect(recorded()[1]).toEqual({ dwell_ms: 7, session_id: "SE", position: null });
  });
});

it("invalid events look nothing up, and other streams are answered as before", async () => {
  const bad = await call("/v1/events/clicks", { body: click({ user_id: "" }) });
  expect([bad.status, reader.requests]).toEqual([400, []]);
  const { body } = await call("/v1/events/transactions", {
    body: transaction({ event_time: nowMs, transaction_id: "t1" }),
  });
  expect(body.results).toEqual([{ index: 0, event_id: "t1", status: "queued" }]);
});

it("a host that reaches no store does not start with such a stream", () => {
  const ingest = { ...dependencies.ingest, lookups: null };
  expect(() => createApp({ ...dependencies, ingest })).toThrow(
    "stream clicks is enriched, and this host reaches no online store",
  );
});
