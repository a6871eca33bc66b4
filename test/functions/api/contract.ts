/**
 * What every host of the API must do, asked over HTTP alone: run against the plain server and against API Gateway. Answers
 * are parsed with the schemas of the published contract.
 */
import { randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import type { z } from "zod";
import { EventCodec } from "../../../adapters/avro/event-codec.ts";
import type { Plan } from "../../../core/plan.ts";
import * as schemas from "../../../functions/api/schemas.ts";

export interface ContractTarget {
  /** Without a slash at its end. Called inside of tests, when the host is up. */
  baseUrl(): string;
  /** Keys with every scope of two tenants, and one key of the first tenant that may only read. */
  keys(): { first: string; second: string; readOnly: string; expired: string };
  readonly plan: Plan;
}

export interface Reply {
  readonly status: number;
  readonly type: string | null;
  readonly headers: Headers;
  readonly body: any;
}

export interface CallOptions {
  /** @default POST when there is a body, else GET */
  readonly method?: string;
  /** An object is sent as JSON; text and bytes as they are. */
  readonly body?: unknown;
  readonly key?: string | null;
  readonly headers?: Record<string, string>;
}

/** One transaction as an application would send it: `{ ...transaction(), amount: 1 }`. */
export const transaction = (more: Record<string, unknown> = {}): Record<string, unknown> => ({
  transaction_id: randomUUID(),
  event_time: Date.now(),
  card_id: `c-${randomUUID()}`,
  user_id: null,
  merchant_id: `m-${randomUUID()}`,
  device_id: null,
  amount: 12.5,
  currency: "EUR",
  country: "SE",
  merchant_category: "grocery",
  channel: "online",
  status: "approved",
  ...more,
});

export function caller(target: ContractTarget) {
  return async function call(path: string, options: CallOptions = {}): Promise<Reply> {
    const { body, key = target.keys().first } = options;
    const raw = typeof body === "string" || body instanceof Uint8Array;
    const response = await fetch(target.baseUrl() + path, {
      method: options.method ?? (body === undefined ? "GET" : "POST"),
      headers: {
        ...(key === null ? {} : { "x-api-key": key }),
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...options.headers,
      },
      body: body === undefined ? undefined : raw ? (body as BodyInit) : JSON.stringify(body),
    });
    const text = await response.text();
    const type = response.headers.get("content-type");
    const json = type?.includes("json") ? JSON.parse(text) : text;
    return { status: response.status, type, headers: response.headers, body: json };
  };
}

/** Parses strictly: a member that the contract does not name fails. */
export function conforming<S extends z.ZodType>(schema: S, { body }: Reply): z.infer<S> {
  const parsed = schema.safeParse(body);
  if (!parsed.success) throw new Error(`${parsed.error.message}\nin ${JSON.stringify(body).slice(0, 2_000)}`);
  return parsed.data;
}

interface BadInput {
  readonly name: string;
  readonly path: string;
  readonly options: CallOptions | (() => CallOptions);
  readonly status: number;
  readonly code: string;
  readonly field?: string;
  /** Part of `detail`. */
  readonly detail: string;
  /** Part of `repair`. */
  readonly repair: string;
}

const events = "/v1/events/transactions";
const score = "/v1/score/fraud";
const online = "/v1/features/online";
const batch = "/v1/features/batch";
const avro = { "content-type": "application/vnd.freshet.avro" };
const scorable = { card_id: "c1", merchant_id: "m1", amount: 10, country: "SE" };
const without = (record: Record<string, unknown>, ...names: string[]) =>
  Object.fromEntries(Object.entries(record).filter(([name]) => !names.includes(name)));
const encoded = (more: Record<string, unknown> = {}) =>
  Buffer.from(EventCodec.for("transactions.v1").encode(transaction({ tenant: "", ...more }) as any));

/** The bad-input list. Every case is a request that a caller can send, and what it is told. */
export const badInputs: readonly BadInput[] = [
  {
    name: "malformed JSON",
    path: events,
    options: { body: '{"amount": 1,' },
    status: 400,
    code: "malformed_json",
    detail: "cannot be parsed",
    repair: "check quotes",
  },
  {
    name: "an empty body",
    path: score,
    options: { body: "", method: "POST" },
    status: 400,
    code: "body_empty",
    detail: "empty",
    repair: "send a body",
  },
  {
    name: "a body that is not UTF-8",
    path: score,
    options: { body: Buffer.from([0x7b, 0xff, 0x7d]) },
    status: 400,
    code: "body_encoding",
    detail: "not valid UTF-8",
    repair: "encode the body as UTF-8",
  },
  {
    name: "an array where an object belongs",
    path: score,
    options: { body: [1] },
    status: 400,
    code: "body_shape",
    detail: "given an array",
    repair: "send an object",
  },
  {
    name: "a number as the body of events",
    path: events,
    options: { body: "5" },
    status: 400,
    code: "body_shape",
    detail: "one event, an array of events",
    repair: "send an object",
  },
  {
    name: "an event that is no object",
    path: events,
    options: { body: [5] },
    status: 400,
    code: "record_shape",
    detail: "given a number",
    repair: "contract's fields",
  },
  {
    name: "no event at all",
    path: events,
    options: { body: [] },
    status: 400,
    code: "body_empty",
    detail: "no event",
    repair: "1 to 500",
  },
  {
    name: "an event field of the wrong type",
    path: events,
    options: () => ({ body: transaction({ amount: "12" }) }),
    status: 400,
    code: "field_type",
    field: "amount",
    detail: "amount",
    repair: "",
  },
  {
    name: "an event without a required field",
    path: events,
    options: () => ({ body: without(transaction(), "merchant_id") }),
    status: 400,
    code: "field_missing",
    field: "merchant_id",
    detail: "merchant_id",
    repair: "",
  },
  {
    name: "an event without its key field",
    path: events,
    options: () => ({ body: without(transaction(), "card_id") }),
    status: 400,
    code: "field_missing",
    field: "card_id",
    detail: "card_id",
    repair: "",
  },
  {
    name: "an event with an empty key",
    path: events,
    options: () => ({ body: transaction({ card_id: "" }) }),
    status: 400,
    code: "partition_key_missing",
    field: "card_id",
    detail: "empty string",
    repair: "send card_id",
  },
  {
    name: "an event without an id",
    path: events,
    options: () => ({ body: transaction({ transaction_id: "" }) }),
    status: 400,
    code: "event_id_missing",
    field: "transaction_id",
    detail: "empty string",
    repair: "send transaction_id",
  },
  {
    name: "an event with too long a key",
    path: events,
    options: () => ({ body: transaction({ card_id: "c".repeat(257) }) }),
    status: 400,
    code: "key_too_long",
    field: "card_id",
    detail: "at most 256 characters, given 257",
    repair: "shorter id",
  },
  {
    name: "a field that the contract lacks",
    path: events,
    options: () => ({ body: transaction({ amuont: 1 }) }),
    status: 400,
    code: "field_unknown",
    field: "amuont",
    detail: "amuont",
    repair: "",
  },
  {
    name: "a lone surrogate",
    path: events,
    options: () => ({ body: JSON.stringify(transaction({ card_id: "X" })).replace('"X"', '"\\ud800"') }),
    status: 400,
    code: "text_invalid",
    field: "card_id",
    detail: "not valid Unicode",
    repair: "UTF-8",
  },
  {
    name: "NaN in JSON",
    path: events,
    options: () => ({ body: JSON.stringify(transaction()).replace("12.5", "NaN") }),
    status: 400,
    code: "number_not_finite",
    detail: "JSON has no NaN (line 1, column",
    repair: "null",
  },
  {
    name: "-Infinity in JSON",
    path: events,
    options: () => ({ body: JSON.stringify(transaction()).replace("12.5", "-Infinity") }),
    status: 400,
    code: "number_not_finite",
    detail: "JSON has no Infinity",
    repair: "null",
  },
  {
    name: "a JSON number beyond a double",
    path: events,
    options: () => ({ body: JSON.stringify(transaction()).replace("12.5", "1e999") }),
    status: 400,
    code: "number_not_finite",
    field: "amount",
    detail: "amount",
    repair: "",
  },
  {
    name: "NaN in Avro",
    path: events,
    options: () => ({ body: encoded({ amount: Number.NaN }), headers: avro }),
    status: 400,
    code: "number_not_finite",
    field: "amount",
    detail: "amount is a finite number, given NaN",
    repair: "null",
  },
  {
    name: "Infinity in Avro",
    path: events,
    options: () => ({ body: encoded({ amount: Number.POSITIVE_INFINITY }), headers: avro }),
    status: 400,
    code: "number_not_finite",
    field: "amount",
    detail: "given Infinity",
    repair: "null",
  },
  {
    name: "too large a number",
    path: events,
    options: () => ({ body: transaction({ amount: 2 ** 43 / 100 }) }),
    status: 400,
    code: "number_too_large",
    field: "amount",
    detail: "at most 2^43 minor units",
    repair: "smaller",
  },
  {
    name: "an event from the future",
    path: events,
    options: () => ({ body: transaction({ event_time: Date.now() + 120_000 }) }),
    status: 400,
    code: "event_time_future",
    field: "event_time",
    detail: "the limit is 60000 ms",
    repair: "clock",
  },
  {
    name: "an event time in seconds",
    path: events,
    options: () => ({ body: transaction({ event_time: Math.floor(Date.now() / 1000) }) }),
    status: 400,
    code: "event_time_invalid",
    field: "event_time",
    detail: "before the year 2000",
    repair: "milliseconds since 1970, not seconds",
  },
  {
    name: "an event of another tenant",
    path: events,
    options: () => ({ body: transaction({ tenant: "somebody-else" }) }),
    status: 400,
    code: "tenant_mismatch",
    field: "tenant",
    detail: "another tenant",
    repair: "leave tenant out",
  },
  {
    name: "an Avro event of another tenant",
    path: events,
    options: () => ({ body: encoded({ tenant: "somebody-else" }), headers: avro }),
    status: 400,
    code: "tenant_mismatch",
    field: "tenant",
    detail: "another tenant",
    repair: "leave tenant out",
  },
  {
    name: "too many records",
    path: events,
    options: { body: Array.from({ length: 501 }, () => ({})) },
    status: 400,
    code: "too_many_records",
    detail: "at most 500 events, given 501",
    repair: "several requests",
  },
  {
    name: "an unknown schema fingerprint",
    path: events,
    options: () => ({
      body: Buffer.concat([Buffer.from([0xc3, 0x01]), Buffer.alloc(8, 7), encoded().subarray(10)]),
      headers: avro,
    }),
    status: 400,
    code: "schema_unknown",
    detail: "",
    repair: "",
  },
  {
    name: "truncated Avro",
    path: events,
    options: () => ({ body: encoded().subarray(0, -3), headers: avro }),
    status: 400,
    code: "record_truncated",
    detail: "",
    repair: "",
  },
  {
    name: "Avro with bytes behind it",
    path: events,
    options: () => ({ body: Buffer.concat([encoded(), Buffer.from([1])]), headers: avro }),
    status: 400,
    code: "record_trailing",
    detail: "",
    repair: "",
  },
  {
    name: "bytes that are no Avro",
    path: events,
    options: { body: Buffer.from("hello"), headers: avro },
    status: 400,
    code: "record_format",
    detail: "",
    repair: "",
  },
  {
    name: "an empty Avro body",
    path: events,
    options: { body: Buffer.alloc(0), method: "POST", headers: avro },
    status: 400,
    code: "body_empty",
    detail: "empty",
    repair: "send a body",
  },
  {
    name: "an unsupported content type of events",
    path: events,
    options: { body: "<a/>", headers: { "content-type": "text/xml" } },
    status: 415,
    code: "content_type_unsupported",
    field: "content-type",
    detail: "given text/xml",
    repair: "application/json",
  },
  {
    name: "an unsupported content type of a query",
    path: score,
    options: { body: "a=1", headers: { "content-type": "application/x-www-form-urlencoded" } },
    status: 415,
    code: "content_type_unsupported",
    field: "content-type",
    detail: "given application/x-www-form-urlencoded",
    repair: "application/json",
  },
  {
    name: "an unknown stream",
    path: "/v1/events/transaction",
    options: () => ({ body: transaction() }),
    status: 404,
    code: "stream_unknown",
    field: "stream",
    detail: 'no stream is named "transaction"',
    repair: "did you mean transactions?",
  },
  {
    name: "an unknown service",
    path: "/v1/score/fruad",
    options: { body: scorable },
    status: 404,
    code: "service_unknown",
    field: "service",
    detail: 'no feature service is named "fruad"',
    repair: "did you mean fraud?",
  },
  {
    name: "an unknown entity",
    path: "/v1/features/account/1",
    options: {},
    status: 404,
    code: "entity_unknown",
    field: "entity",
    detail: 'no entity is named "account"',
    repair: "use one of card, merchant, device, user",
  },
  {
    name: "an unknown join key",
    path: online,
    options: { body: { entities: { account_id: "1" }, service: "fraud" } },
    status: 404,
    code: "entity_unknown",
    field: "entities.account_id",
    detail: "account_id",
    repair: "card_id",
  },
  {
    name: "an unknown feature",
    path: online,
    options: {
      body: { entities: { card_id: "1" }, features: ["card_activity:tx_count_1h", "card_activity:tx_count_2h"] },
    },
    status: 404,
    code: "feature_unknown",
    field: "features[1]",
    detail: "card_activity:tx_count_2h",
    repair: "did you mean card_activity:tx_count_",
  },
  {
    name: "features and a service",
    path: online,
    options: { body: { entities: { card_id: "1" }, features: ["card_activity:tx_count_1h"], service: "fraud" } },
    status: 400,
    code: "selection_invalid",
    field: "features",
    detail: "either features or service",
    repair: '"service": "fraud"',
  },
  {
    name: "neither features nor a service",
    path: batch,
    options: { body: { entities: [{ card_id: "1" }] } },
    status: 400,
    code: "selection_invalid",
    field: "features",
    detail: "either features or service",
    repair: '"service": "fraud"',
  },
  {
    name: "features that are no names",
    path: online,
    options: { body: { entities: { card_id: "1" }, features: [1] } },
    status: 400,
    code: "wrong_type",
    field: "features",
    detail: "array of one or more names",
    repair: "card_activity:tx_count_1h",
  },
  {
    name: "a service that is no name",
    path: online,
    options: { body: { entities: { card_id: "1" }, service: 1 } },
    status: 400,
    code: "wrong_type",
    field: "service",
    detail: "given a number",
    repair: "fraud",
  },
  {
    name: "too many features",
    path: online,
    options: {
      body: { entities: { card_id: "1" }, features: Array.from({ length: 501 }, () => "card_activity:tx_count_1h") },
    },
    status: 400,
    code: "too_many_features",
    field: "features",
    detail: "at most 500 features, given 501",
    repair: "several requests",
  },
  {
    name: "no entities",
    path: online,
    options: { body: { service: "fraud" } },
    status: 400,
    code: "field_missing",
    field: "entities",
    detail: "entities is required",
    repair: "card_id",
  },
  {
    name: "entities that are no object",
    path: online,
    options: { body: { entities: "c1", service: "fraud" } },
    status: 400,
    code: "wrong_type",
    field: "entities",
    detail: "given a string",
    repair: "card_id",
  },
  {
    name: "rows that are no array",
    path: batch,
    options: { body: { entities: { card_id: "c1" }, service: "fraud" } },
    status: 400,
    code: "wrong_type",
    field: "entities",
    detail: "array of objects, given an object",
    repair: "one object for each row",
  },
  {
    name: "a row that is no object",
    path: batch,
    options: { body: { entities: [{ card_id: "c1", merchant_id: "m" }, 5], service: "fraud" } },
    status: 400,
    code: "wrong_type",
    field: "entities[1]",
    detail: "given a number",
    repair: "card_id",
  },
  {
    name: "too many rows",
    path: batch,
    options: {
      body: {
        entities: Array.from({ length: 101 }, () => ({ card_id: "c" })),
        features: ["card_activity:tx_count_1h"],
      },
    },
    status: 400,
    code: "too_many_rows",
    field: "entities",
    detail: "at most 100 rows, given 101",
    repair: "several requests",
  },
  {
    name: "a missing join key",
    path: online,
    options: { body: { entities: {}, features: ["card_activity:tx_count_1h"] } },
    status: 400,
    code: "key_missing_in_body",
    field: "entities.card_id",
    detail: "card_id is required",
    repair: "or null",
  },
  {
    name: "a missing join key in a row",
    path: batch,
    options: { body: { entities: [{ card_id: "1" }, {}], features: ["card_activity:tx_count_1h"] } },
    status: 400,
    code: "key_missing_in_body",
    field: "entities[1].card_id",
    detail: "card_id is required",
    repair: "or null",
  },
  {
    name: "a missing join key of a score",
    path: score,
    options: { body: without(scorable, "card_id") },
    status: 400,
    code: "key_missing_in_body",
    field: "card_id",
    detail: "card_id is required",
    repair: "or null",
  },
  {
    name: "a join key of the wrong type",
    path: score,
    options: { body: { ...scorable, card_id: 17 } },
    status: 400,
    code: "wrong_type",
    field: "card_id",
    detail: "given a number",
    repair: "in quotes",
  },
  {
    name: "an empty join key",
    path: score,
    options: { body: { ...scorable, card_id: "" } },
    status: 400,
    code: "key_invalid",
    field: "card_id",
    detail: "empty",
    repair: "or null",
  },
  {
    name: "too long a join key",
    path: score,
    options: { body: { ...scorable, card_id: "c".repeat(257) } },
    status: 400,
    code: "key_too_long",
    field: "card_id",
    detail: "at most 256 characters, given 257",
    repair: "where the id comes from",
  },
  {
    name: "a join key that is not Unicode",
    path: score,
    options: { body: JSON.stringify({ ...scorable, card_id: "X" }).replace('"X"', '"\\udfff"') },
    status: 400,
    code: "key_invalid",
    field: "card_id",
    detail: "not valid Unicode",
    repair: "UTF-8",
  },
  {
    name: "a missing request field",
    path: score,
    options: { body: without(scorable, "amount") },
    status: 400,
    code: "field_missing",
    field: "amount",
    detail: "given nothing",
    repair: "send amount as a number",
  },
  {
    name: "a request field of the wrong type",
    path: score,
    options: { body: { ...scorable, country: 47 } },
    status: 400,
    code: "wrong_type",
    field: "country",
    detail: "a string or null, given a number",
    repair: "send country as a string",
  },
  {
    name: "a request field beyond a double",
    path: score,
    options: { body: JSON.stringify(scorable).replace("10", "1e999") },
    status: 400,
    code: "number_not_finite",
    field: "amount",
    detail: "beyond the range of a double",
    repair: "finite",
  },
  {
    name: "explain of the wrong type",
    path: score,
    options: { body: { ...scorable, explain: "yes" } },
    status: 400,
    code: "wrong_type",
    field: "explain",
    detail: "true or false, given a string",
    repair: '"explain": true',
  },
  {
    name: "no key",
    path: score,
    options: { body: scorable, key: null },
    status: 401,
    code: "api_key_missing",
    field: "x-api-key",
    detail: "no API key",
    repair: "x-api-key",
  },
  {
    name: "something that is no key",
    path: score,
    options: { body: scorable, key: "let-me-in" },
    status: 401,
    code: "api_key_invalid",
    field: "x-api-key",
    detail: "not known",
    repair: "whole key",
  },
  {
    name: "an unknown key",
    path: score,
    options: { body: scorable, key: `fk_${"0".repeat(12)}_${"A".repeat(43)}` },
    status: 401,
    code: "api_key_invalid",
    field: "x-api-key",
    detail: "not known",
    repair: "whole key",
  },
  {
    name: "no route",
    path: "/v2/score/fraud",
    options: { body: scorable },
    status: 404,
    code: "not_found",
    detail: "no route",
    repair: "/docs",
  },
  {
    name: "the wrong method",
    path: score,
    options: {},
    status: 405,
    code: "method_not_allowed",
    detail: "takes POST, given GET",
    repair: "use POST",
  },
];

/** Bodies above the bound, sent apart because they are slow. */
const large = "x".repeat(5 * 1024 * 1024);

export function describeErrors(target: ContractTarget): void {
  const call = caller(target);

  describe("bad input gets a problem document", () => {
    it.each(badInputs)("$name → $status $code", async ({ path, options, status, code, field, detail, repair }) => {
      const reply = await call(path, typeof options === "function" ? options() : options);
      const document = conforming(schemas.problem, reply);
      expect({ status: reply.status, code: document.code, field: document.field }).toEqual({ status, code, field });
      expect(reply.type).toContain("application/problem+json");
      expect(document).toMatchObject({ type: `urn:freshet:problem:${code}`, status });
      expect(document.detail).toContain(detail);
      expect(document.repair).toContain(repair);
      expect(document.request_id).toBe(reply.headers.get("x-request-id"));
    });

    it("a key whose last letter is wrong → 401 api_key_invalid, with a challenge", async () => {
      const { first } = target.keys();
      const wrong = first.slice(0, -1) + (first.endsWith("A") ? "B" : "A");
      const reply = await call(score, { body: scorable, key: wrong });
      expect([reply.status, reply.body.code]).toEqual([401, "api_key_invalid"]);
      expect(reply.headers.get("www-authenticate")).toContain("ApiKey");
    });

    it("an expired key → 401 api_key_expired", async () => {
      const reply = await call(score, { body: scorable, key: target.keys().expired });
      expect([reply.status, reply.body.code]).toEqual([401, "api_key_expired"]);
      expect(reply.body.repair).toContain("freshet keys create");
    });

    it.each([
      [score, "score", scorable],
      [events, "write", {}],
    ])("a key without the scope of %s → 403 scope_missing naming %s", async (path, scope, body) => {
      const reply = await call(path, { body, key: target.keys().readOnly });
      expect([reply.status, reply.body.code]).toEqual([403, "scope_missing"]);
      expect(reply.body.detail).toBe(`this call needs the scope ${scope}; the key has read`);
      expect(reply.body.repair).toContain(`--scopes ${scope}`);
    });

    it("a query above 512 KiB → 413 body_too_large", async () => {
      const reply = await call(score, { body: { ...scorable, padding: large.slice(0, 600_000) } });
      expect([reply.status, reply.body.code]).toEqual([413, "body_too_large"]);
      expect(reply.body.detail).toContain("524288 bytes");
    });

    it("events above 5 MiB → 413 body_too_large", async () => {
      const reply = await call(events, { body: large });
      expect([reply.status, reply.body.code]).toEqual([413, "body_too_large"]);
    });

    it("no answer ever shows the inside: neither stack, path nor the key", async () => {
      for (const { path, options } of badInputs) {
        const reply = await call(path, typeof options === "function" ? options() : options);
        const text = JSON.stringify(reply.body);
        expect(text).not.toMatch(/\bat \S+ \(|node_modules|\.ts:\d+|file:\/\//);
        expect(text).not.toContain(target.keys().first);
      }
    });
  });

  describe("events", () => {
    it("one event, an array and { events } are all taken; the id is echoed", async () => {
      const one = transaction();
      const single = await call(events, { body: one });
      expect(single.status).toBe(202);
      const answer = conforming(schemas.eventsAnswer, single);
      expect(answer.results).toEqual([{ index: 0, event_id: one["transaction_id"], status: "queued" }]);
      for (const body of [[transaction(), transaction()], { events: [transaction(), transaction()] }]) {
        const reply = await call(events, { body });
        expect(reply.status).toBe(202);
        expect(conforming(schemas.eventsAnswer, reply)).toMatchObject({ queued: 2, invalid: 0, throttled: 0 });
      }
    });

    it("500 events fit in one request", async () => {
      const reply = await call(events, { body: Array.from({ length: 500 }, () => transaction()) });
      expect([reply.status, reply.body.queued]).toEqual([202, 500]);
    });

    it("Avro: one record in single-object encoding, by any of its content types", async () => {
      for (const type of ["application/vnd.freshet.avro", "avro/binary", "application/octet-stream"]) {
        const reply = await call(events, { body: encoded(), headers: { "content-type": type } });
        expect([type, reply.status]).toEqual([type, 202]);
      }
    });

    it("a mixed request answers 207 and tells each record its own fate", async () => {
      const good = transaction();
      const body = [transaction({ amount: "many" }), good, 7, transaction({ event_time: Date.now() + 3_600_000 })];
      const reply = await call(events, { body });
      expect(reply.status).toBe(207);
      const answer = conforming(schemas.eventsAnswer, reply);
      expect(answer).toMatchObject({ stream: "transactions", queued: 1, invalid: 3, throttled: 0 });
      expect(answer.results.map(({ status, code, field }) => [status, code, field])).toEqual([
        ["invalid", "field_type", "amount"],
        ["queued", undefined, undefined],
        ["invalid", "record_shape", undefined],
        ["invalid", "event_time_future", "event_time"],
      ]);
      expect(answer.results[1].event_id).toBe(good["transaction_id"]);
      expect(answer.results[3].repair).toContain("clock");
    });

    it("several wrong records of different kinds → 400 records_invalid with all results", async () => {
      const reply = await call(events, { body: [7, transaction({ card_id: "" })] });
      expect([reply.status, reply.body.code]).toEqual([400, "records_invalid"]);
      expect(reply.body.results.map(({ code }: any) => code)).toEqual(["record_shape", "partition_key_missing"]);
    });

    it.each(["clicks", "labels", "feature_events"])("stream %s is served too", async (stream) => {
      const now = Date.now();
      const body = {
        clicks: { click_id: randomUUID(), event_time: now, user_id: "u", item_id: "i", action: "view" },
        labels: { label_id: randomUUID(), transaction_id: "t", event_time: now, is_fraud: true, source: "test" },
        feature_events: { event_id: randomUUID(), entity_id: "e", event_type: "x", timestamp: now, metadata: {} },
      }[stream];
      const reply = await call(`/v1/events/${stream}`, { body });
      expect([reply.status, reply.body.code]).toEqual([202, undefined]);
    });
  });

  describe("operations", () => {
    it("/health needs no key", async () => {
      const reply = await call("/health", { key: null });
      expect(reply.status).toBe(200);
      conforming(schemas.healthAnswer, reply);
    });

    it("/openapi.json is OpenAPI 3.1 and has every call, stream and service", async () => {
      const { body } = await call("/openapi.json", { key: null });
      expect(body.openapi).toBe("3.1.0");
      expect(Object.keys(body.paths).sort()).toEqual(
        [
          ...target.plan.streams.map(({ name }) => `/v1/events/${name}`),
          ...target.plan.services.map(({ name }) => `/v1/score/${name}`),
          "/v1/features/online",
          "/v1/features/batch",
          "/v1/features/{entity}/{id}",
          "/health",
          "/ready",
          "/metrics",
        ].sort(),
      );
    });

    it("/docs is one page that loads nothing from anywhere", async () => {
      const { status, type, body } = await call("/docs", { key: null });
      expect([status, type]).toEqual([200, "text/html; charset=utf-8"]);
      expect(body).toContain("/v1/score/fraud");
      expect(body).toContain("number_too_large");
      expect(body).not.toMatch(/<script|src=|https?:\/\/|@import|url\(/);
    });

    it("/metrics counts requests by route and status", async () => {
      await call(score, { body: [] });
      const { status, type, body } = await call("/metrics", { key: null });
      expect([status, type]).toEqual([200, expect.stringContaining("text/plain")]);
      expect(body).toMatch(/^# TYPE freshet_http_request_duration_seconds histogram$/m);
    });

    it("a request id that the caller sends comes back in header and body", async () => {
      const reply = await call("/v2", { headers: { "x-request-id": "abc-123" } });
      expect([reply.headers.get("x-request-id"), reply.body.request_id]).toEqual(["abc-123", "abc-123"]);
    });
  });
}
