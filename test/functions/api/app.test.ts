/** What only doubles can show: faults of the store, the broker and the definitions, and what is told and logged then. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { STORE_STATES } from "../../../adapters/online-store/store-states.ts";
import { FreshetError, InfrastructureError } from "../../../core/errors.ts";
import type { FeatureValue } from "../../../core/plan.ts";
import { createApp } from "../../../functions/api/app.ts";
import { createKey } from "../../../functions/api/keys/keys.ts";
import * as schemas from "../../../functions/api/openapi/schemas.ts";
import { listen, type RunningServer } from "../../../functions/api/server.ts";
import { documentation } from "../../../schemas/documentation.ts";
import { describeErrors } from "./contract/contract.ts";
import { type ContractTarget, caller, conforming, transaction } from "./contract/contract-calls.ts";
import { plan, testDependencies } from "./doubles.ts";

const ports = testDependencies();
const { broker, reader, lines } = ports;
let server: RunningServer;
const keys = { first: "", second: "", readOnly: "", expired: "" };
const target: ContractTarget = { baseUrl: () => server.url, keys: () => keys, plan, exactBytes: true };
const call = caller(target);
const scorable = { card_id: "c1", merchant_id: "m1", device_id: "d1", user_id: "u1", amount: 10, country: "SE" };
const NOBODY = { champion: null, challenger: null, shadow: null, share: null, fault: "models_unavailable" };
const present = (value: FeatureValue["value"]): FeatureValue => ({ value, status: "PRESENT", eventTimeMs: 1 });

beforeAll(async () => {
  const make = async (tenant: string, scopes: string[], expiresAtMs?: number) =>
    (await createKey(ports.keys, { tenant, scopes, nowMs: 0, expiresAtMs })).key;
  keys.first = await make("team-a", ["read", "write", "score"]);
  keys.second = await make("team-b", ["read", "write", "score"]);
  keys.readOnly = await make("team-a", ["read"]);
  keys.expired = await make("team-a", ["read", "write", "score"], 1);
  server = await listen({ port: 0, dependencies: ports.dependencies });
});
afterAll(() => server?.close());
beforeEach(() => {
  Object.assign(reader, { down: false, fault: null, degraded: null, control: "ok" });
  reader.requests.length = 0;
  reader.values.clear();
  broker.refuse = null;
  broker.sent.length = 0;
  lines.length = 0;
});

describeErrors(target);

describe("a store that does not answer", () => {
  it("leaves scores degraded: defaults, then rules by what the request says", async () => {
    reader.down = true;
    const reply = await call("/v1/score/fraud", { body: { ...scorable, amount: 5_000, explain: true } });
    expect(reply.status).toBe(200);
    const answer = conforming(schemas.scoreAnswer, reply);
    expect(answer).toMatchObject({ degraded: true, degraded_reason: "store_unavailable" });
    expect(answer.features_missing).toEqual(expect.arrayContaining(plan.services[0].features as string[]));
    expect(answer.explanation?.contributions.map(({ name }) => name)).toEqual(["large_amount_unknown_card"]);
  });

  it.each([
    ["/v1/features/online", { entities: { card_id: "c" }, features: ["card_activity:tx_count_1h"] }],
    ["/v1/features/batch", { entities: [{ card_id: "c" }], features: ["card_activity:tx_count_1h"] }],
    ["/v1/features/card/c", undefined],
  ])("fails %s with 503 store_unavailable", async (path, body) => {
    reader.down = true;
    const reply = await call(path, { body });
    expect([reply.status, conforming(schemas.problem, reply).code]).toEqual([503, "store_unavailable"]);
  });

  it("is not ready, and says what to do", async () => {
    reader.down = true;
    const { status, body } = await call("/ready", { key: null });
    expect([status, body.code, body.checks.online_store.reachable]).toEqual([503, "not_ready", false]);
    expect(body.detail).toBe(STORE_STATES.unreachable.sentence);
    expect(body.repair).toBe(STORE_STATES.unreachable.repair);
  });
});

describe("a read that throws anything else", () => {
  it("is a bug: the score is 500 internal, logged, and does not pass for an outage", async () => {
    reader.fault = new TypeError("cells of undefined");
    const reply = await call("/v1/score/fraud", { body: scorable });
    expect([reply.status, conforming(schemas.problem, reply).code]).toEqual([500, "internal"]);
    expect(JSON.stringify(reply.body)).not.toContain("cells of undefined");
    expect(lines).toEqual([
      expect.objectContaining({
        message: "request failed",
        details: expect.objectContaining({ code: "internal", requestId: reply.body.request_id }),
        error: reader.fault,
      }),
    ]);
  });

  it("but for one that folding overtook, which leaves the score degraded", async () => {
    reader.fault = new FreshetError("read_overtaken", "folding overtook a read five times");
    const answer = conforming(schemas.scoreAnswer, await call("/v1/score/fraud", { body: scorable }));
    expect([answer.degraded, answer.degraded_reason]).toEqual([true, "read_overtaken"]);
  });
});

describe("a store that may lag behind", () => {
  it("is told in scores and features", async () => {
    reader.degraded = "restoring";
    const score = conforming(schemas.scoreAnswer, await call("/v1/score/fraud", { body: scorable }));
    expect([score.degraded, score.degraded_reason]).toEqual([true, "restoring"]);
    const features = conforming(schemas.entityAnswer, await call("/v1/features/card/c1"));
    expect([features.degraded, features.degraded_reason]).toEqual([true, "restoring"]);
  });

  it.each([
    ["lost", 503],
    ["new", 503],
    ["restoring", 503],
    ["failover", 200],
    ["restoring_pushed", 200],
  ] as const)("in state %s /ready answers %d, with the state's sentence and repair", async (control, status) => {
    reader.control = control;
    const reply = await call("/ready", { key: null });
    expect(reply.status).toBe(status);
    const { sentence, repair } = STORE_STATES[control];
    expect([reply.body.detail ?? reply.body.reason, reply.body.repair]).toEqual([sentence, repair]);
  });
});

describe("a store without memory", () => {
  it("is degraded and says so, unless something worse is the matter", async () => {
    reader.full = true;
    const reply = await call("/ready", { key: null });
    expect([reply.status, reply.body.status, reply.body.checks.online_store]).toEqual([
      200,
      "degraded",
      expect.objectContaining({ control: "ok", full: true }),
    ]);
    const { sentence, repair } = STORE_STATES.full;
    expect([reply.body.reason, reply.body.repair]).toEqual([sentence, repair]);
    reader.control = "failover";
    expect((await call("/ready", { key: null })).body.reason).toBe(STORE_STATES.failover.sentence);
  });
});

describe("reads", () => {
  it("carry the key's tenant and ask once for each entity, whatever the request says", async () => {
    await call("/v1/score/fraud", { body: { ...scorable, tenant: "team-b" }, key: keys.first });
    expect(reader.requests.map(({ tenant, entity, id }) => [tenant, entity, id])).toEqual([
      ["team-a", "card", "c1"],
      ["team-a", "merchant", "m1"],
      ["team-a", "device", "d1"],
      ["team-a", "user", "u1"],
    ]);
  });

  it("hand the reader the same list of names each time, so that it can keep what it derives", async () => {
    for (let i = 0; i < 2; i++) {
      await call("/v1/features/online", {
        body: { entities: { card_id: "c" }, features: ["card_activity:tx_count_1h", "card_activity:tx_count_24h"] },
      });
    }
    expect(reader.requests[0].features).toBe(reader.requests[1].features);
  });

  it("put values where they belong when entities are mixed", async () => {
    reader.values.set("team-a/card/c", { "card_activity:tx_count_1h": present(3) });
    reader.values.set("team-a/merchant/m", { "merchant_activity:tx_count_1h": present('say "hi"\n') });
    const features = ["merchant_activity:tx_count_1h", "card_activity:tx_count_1h", "merchant_activity:tx_count_24h"];
    const reply = await call("/v1/features/online", {
      body: { entities: { card_id: "c", merchant_id: "m" }, features },
    });
    const answer = conforming(schemas.onlineAnswer, reply);
    expect(features.map((name) => answer.features[name].value)).toEqual(['say "hi"\n', 3, null]);
  });

  it("give lists as arrays, singly, of an entity and in batches", async () => {
    const list = ["NO", null, 'say "hi"', 1.5, Number.NaN, false];
    const name = "card_activity:tx_count_1h";
    reader.values.set("team-a/card/c", { [name]: present(list) });
    const served = ["NO", null, 'say "hi"', 1.5, null, false];
    const body = { entities: { card_id: "c" }, features: [name] };
    const online = conforming(schemas.onlineAnswer, await call("/v1/features/online", { body }));
    expect(online.features[name]).toMatchObject({ value: served, status: "PRESENT" });
    const of = conforming(schemas.entityAnswer, await call("/v1/features/card/c"));
    expect(of.features[name].value).toEqual(served);
    const rows = { entities: [{ card_id: "c" }, { card_id: "unknown" }], features: [name] };
    const batch = conforming(schemas.batchAnswer, await call("/v1/features/batch", { body: rows }));
    expect(batch.rows.map(({ values }) => values)).toEqual([[served], [null]]);
  });

  it("do not reach the store when every key is null", async () => {
    const body = { entities: { card_id: null }, features: ["card_activity:tx_count_1h"] };
    const answer = conforming(schemas.onlineAnswer, await call("/v1/features/online", { body }));
    expect(answer.features["card_activity:tx_count_1h"].status).toBe("NOT_FOUND");
    expect(reader.requests).toEqual([]);
  });
});

describe("a broker that refuses", () => {
  it("some records → 207, with the refused ones marked", async () => {
    broker.refuse = (_, index) => (index === 1 ? "throttled" : index === 2 ? "unavailable" : "queued");
    const reply = await call("/v1/events/transactions", { body: [transaction(), transaction(), transaction()] });
    expect(reply.status).toBe(207);
    const { results } = conforming(schemas.eventsAnswer, reply);
    expect(results.map(({ status, code }) => [status, code])).toEqual([
      ["queued", undefined],
      ["throttled", "throttled"],
      ["throttled", "broker_unavailable"],
    ]);
    expect(results[2].repair).toContain("event id keeps it from counting twice");
  });

  it.each([
    ["throttled", 429, "throttled"],
    ["unavailable", 503, "broker_unavailable"],
  ] as const)("every record as %s → %d %s with Retry-After", async (outcome, status, code) => {
    broker.refuse = () => outcome;
    const reply = await call("/v1/events/transactions", { body: [transaction(), transaction()] });
    expect([reply.status, reply.body.code, reply.headers.get("retry-after")]).toEqual([status, code, "1"]);
    expect(reply.body.results).toHaveLength(2);
  });

  it("gets nothing of a request in which nothing is valid", async () => {
    await call("/v1/events/transactions", { body: [7] });
    expect(broker.sent).toEqual([]);
  });
});

describe("what goes to the broker", () => {
  it("carries the key's tenant and the stream's partition key", async () => {
    const event = transaction();
    await call("/v1/events/transactions", { body: event, key: keys.second });
    const [{ stream, record }] = broker.sent;
    const { fields } = ports.dependencies.ingest!.codecs("transactions.v1").decode(Buffer.from(record.data));
    expect([stream, record.partitionKey, fields["tenant"]]).toEqual(["transactions", event["card_id"], "team-b"]);
    expect(fields).toMatchObject(event);
  });

  it("is the caller's own bytes when its Avro names the tenant already", async () => {
    const codec = ports.dependencies.ingest!.codecs("transactions.v1");
    const bytes = Buffer.from(codec.encode(transaction({ tenant: "team-a" }) as any));
    const reply = await call("/v1/events/transactions", {
      body: bytes,
      headers: { "content-type": "application/vnd.freshet.avro" },
    });
    expect(reply.status).toBe(202);
    expect(Buffer.from(broker.sent[0].record.data).equals(bytes)).toBe(true);
  });
});

describe("outcomes", () => {
  const label = (more = {}) => ({
    ...{ label_id: "l1", transaction_id: "t1", event_time: Date.now(), is_fraud: true, source: "chargeback" },
    ...more,
  });

  it("sent to /v1/labels are events of the stream labels, each with its result", async () => {
    const reply = await call("/v1/labels", { body: [label(), label({ label_id: "l2", is_fraud: "yes" })] });
    expect([reply.status, reply.body.detail]).toEqual([207, undefined]);
    const answer = conforming(schemas.eventsAnswer, reply);
    expect([answer.stream, answer.queued, answer.invalid]).toEqual(["labels", 1, 1]);
    expect(answer.results[1]).toMatchObject({ event_id: "l2", status: "invalid", field: "is_fraud" });
    expect(broker.sent.map(({ stream, record }) => [stream, record.partitionKey])).toEqual([["labels", "t1"]]);
  });

  it("need the scope write, and have no address where the plan has no such stream", async () => {
    const refused = await call("/v1/labels", { body: label(), key: keys.readOnly });
    expect([refused.status, refused.body.code]).toEqual([403, "scope_missing"]);
    const streams = plan.streams.filter(({ name }) => name !== "labels");
    const app = createApp({ ...ports.dependencies, plan: { ...plan, streams } });
    const response = await app.request("/v1/labels", { method: "POST", headers: { "x-api-key": keys.first } });
    expect(((await response.json()) as { code: string }).code).toBe("not_found");
  });
});

describe("a feature that is named twice", () => {
  const names = ["card_activity:tx_count_1h", "card_activity:declines_1h", "card_activity:tx_count_1h"];

  it("is answered once, so that no object has two members of one name", async () => {
    const response = await fetch(`${server.url}/v1/features/online`, {
      method: "POST",
      headers: { "x-api-key": keys.first, "content-type": "application/json" },
      body: JSON.stringify({ entities: { card_id: "c1" }, features: names }),
    });
    expect(response.status).toBe(200);
    expect((await response.text()).match(/"card_activity:tx_count_1h"/g)).toHaveLength(1);
    const batch = await call("/v1/features/batch", { body: { entities: [{ card_id: "c1" }], features: names } });
    expect(batch.body.features).toEqual(names.slice(0, 2));
    expect(batch.body.rows[0].values).toHaveLength(2);
  });
});

describe("the published contract", () => {
  it("documents each field of an event as its Avro schema does, with an example of it", async () => {
    const { body } = await call("/openapi.json", { key: null });
    const event = body.components.schemas.TransactionsEvent;
    expect(event.description).toBe(documentation["transactions.v1"].about);
    expect(Object.keys(event.properties)).not.toContain("tenant");
    for (const [name, property] of Object.entries<{ description: string }>(event.properties)) {
      expect(property.description).toContain(documentation["transactions.v1"].fields[name]);
    }
    expect(event.properties.event_time.description).toContain("ISO 8601");
    expect(event.example).toMatchObject({ card_id: "card_1", currency: "EUR", status: "approved" });
    expect(await (await fetch(`${server.url}/docs`)).text()).toContain("ISO 3166-1 alpha-2 code of the merchant");
  });

  it("say of every call with a body how a compressed one and a fault of ours are answered", async () => {
    const { body } = await call("/openapi.json", { key: null });
    const calls = Object.entries<Record<string, any>>(body.paths).flatMap(([path, methods]) =>
      Object.entries(methods).flatMap(([method, one]) =>
        one.requestBody ? [{ name: `${method} ${path}`, ...one }] : [],
      ),
    );
    expect(calls.map(({ name }) => name)).toContain("post /push");
    const silent = calls.filter(({ responses }) => !("415" in responses && "500" in responses));
    expect(silent.map(({ name }) => name)).toEqual([]);
  });
});

describe("errors of ours", () => {
  it("say nothing of the inside to the caller and everything to the log", async () => {
    reader.read = async () => {
      throw new TypeError("undefined is not iterable, in reader.ts");
    };
    const reply = await call("/v1/features/card/c1");
    expect([reply.status, reply.body.code]).toEqual([500, "internal"]);
    expect(JSON.stringify(reply.body)).not.toContain("iterable");
    expect(lines).toHaveLength(1);
    expect(lines[0].details).toEqual({
      requestId: reply.body.request_id,
      route: "/v1/features/:entity/:id",
      code: "internal",
    });
    expect((lines[0].error as Error).message).toContain("iterable");
  });

  it("never log a key, a payload or an id", async () => {
    await call("/v1/score/fraud", { body: { ...scorable, card_id: "secret-card" } });
    broker.refuse = () => "unavailable";
    await call("/v1/events/transactions", { body: transaction({ card_id: "secret-card" }) });
    expect(lines.length).toBeGreaterThan(0);
    const text = JSON.stringify(lines.map(({ message, details, error }) => [message, details, String(error)]));
    expect(text).not.toContain("secret-card");
    expect(text).not.toContain(keys.first);
  });
});

describe("definitions", () => {
  it("a service without a fallback cannot be scored → 409 service_without_model", async () => {
    const bare = { ...plan, services: plan.services.map((service) => ({ ...service, fallback: null })) };
    const services = ports.dependencies.services.map((one) => ({ ...one, fallback: null }));
    const app = createApp({ ...ports.dependencies, plan: bare, services });
    const response = await app.request("/v1/score/fraud", {
      method: "POST",
      headers: { "x-api-key": keys.first },
      body: JSON.stringify(scorable),
    });
    const body: any = await response.json();
    expect([response.status, body.code]).toEqual([409, "service_without_model"]);
    expect(body.repair).toContain("rules(");
  });

  it("a host without a store or a broker has none of their routes", async () => {
    const paths = async (more: object, path: string) => {
      const app = createApp({ ...ports.dependencies, ...more });
      const response = await app.request(path, { method: "POST", headers: { "x-api-key": keys.first }, body: "{}" });
      return ((await response.json()) as any).code;
    };
    expect(await paths({ reader: null }, "/v1/score/fraud")).toBe("not_found");
    expect(await paths({ ingest: null }, "/v1/events/transactions")).toBe("not_found");
  });
});

it("a model registry that does not answer → 503 registry_unavailable, and the key stays good for scoring", async () => {
  const away = async () => {
    throw new InfrastructureError("registry_unavailable", "reading the table failed");
  };
  const scoring: any = {
    registry: { list: away, aliases: away },
    serving: { served: () => NOBODY, state: () => ({ polledMs: null, loaded: 0, refused: [] }) },
    logger: { record() {} },
  };
  const app = createApp({ ...ports.dependencies, reader: testDependencies().reader, scoring });
  const { key } = await createKey(ports.keys, { tenant: "team-a", scopes: ["admin", "score"], nowMs: 0 });
  const headers = { "x-api-key": key, "content-type": "application/json" };
  const models = await app.request("/v1/models", { headers });
  expect([models.status, ((await models.json()) as any).code]).toEqual([503, "registry_unavailable"]);
  const score = await app.request("/v1/score/fraud", { method: "POST", headers, body: JSON.stringify(scorable) });
  expect(await score.json()).toMatchObject({ variant: "fallback", degraded_reason: "models_unavailable" });
  const ready = (await (await app.request("/ready")).json()) as any;
  expect([ready.status, ready.reason]).toEqual(["degraded", "the model registry does not answer"]);
});

it("a flood of /ready looks at the store a few times a second", async () => {
  const { dependencies, reader } = testDependencies();
  let looks = 0;
  const { state } = reader;
  reader.state = () => {
    looks++;
    return state.call(reader);
  };
  const app = createApp(dependencies);
  const replies = await Promise.all(Array.from({ length: 500 }, () => app.request("/ready")));
  expect(new Set(replies.map(({ status }) => status))).toEqual(new Set([200]));
  expect(looks).toBeGreaterThanOrEqual(20);
  expect(looks).toBeLessThan(100);
});
