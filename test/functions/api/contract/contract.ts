/**
 * What every host of the API must do, asked over HTTP alone: run against the plain server and against API Gateway. Answers
 * are parsed with the schemas of the published contract.
 */
import { randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import * as schemas from "../../../../functions/api/openapi/schemas.ts";
import { badEvents, encoded } from "./bad-events.ts";
import { badQueries } from "./bad-queries.ts";
import { badRanks } from "./bad-ranks.ts";
import { type ContractTarget, caller, conforming, scorable, transaction } from "./contract-calls.ts";

const events = "/v1/events/transactions";
const score = "/v1/score/fraud";
export const badInputs = [...badEvents, ...badQueries, ...badRanks];

/** Bodies above the bound, sent apart because they are slow. */
const large = "x".repeat(5 * 1024 * 1024 + 1);

export function describeErrors(target: ContractTarget): void {
  const call = caller(target);
  const ranking = target.plan.services.filter(({ candidate }) => candidate !== undefined);

  describe("bad input gets a problem document", () => {
    const inputs = badInputs.filter(({ code }) => target.exactBytes || code !== "body_encoding");
    it.each(inputs)("$name → $status $code", async ({ path, options, status, code, field, detail, repair }) => {
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
      for (const { path, options } of inputs) {
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

    it("an event time may be ISO 8601 with its zone", async () => {
      const body = transaction({ event_time: new Date().toISOString() });
      expect((await call(events, { body })).status).toBe(202);
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
        ["invalid", "wrong_type", "amount"],
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
          "/v1/labels",
          ...target.plan.services.flatMap(({ name }) => [`/v1/score/${name}`, `/v1/score/${name}/batch`]),
          ...ranking.map(({ name }) => `/v1/rank/${name}`),
          "/v1/models",
          "/v1/models/{name}/aliases/{alias}",
          "/v1/audit",
          ...["", "/records", "/{id}", "/replay", "/drop", "/jobs/{job}"].map((end) => `/v1/quarantine${end}`),
          "/v1/erasures",
          "/v1/erasures/{id}",
          "/v1/keys",
          "/v1/keys/{id}",
          "/v1/keys/{id}/rotate",
          "/v1/features/online",
          "/v1/features/batch",
          "/v1/features",
          ...target.plan.services.map(({ name }) => `/score/${name}`),
          ...["", "/{name}", "/{entity}/{id}", "/online", "/batch", "/register"].map((end) => `/api/v1/features${end}`),
          ...["/v1/cache/{entity}/{id}", "/api/v1/cache/invalidate/{id}"],
          "/v1/context/{entity}/{id}",
          "/v1/features/{name}",
          "/v1/features/register",
          "/v1/features/push",
          "/v1/features/historical",
          "/v1/features/historical/{job}",
          "/v1/features/{entity}/{id}",
          "/get-online-features",
          "/push",
          "/materialize",
          "/materialize-incremental",
          "/write-to-online-store",
          "/health",
          "/ready",
          "/metrics",
        ].sort(),
      );
    });

    it("every example of the contract is a request that is taken", async () => {
      const { body: document } = await call("/openapi.json", { key: null });
      const schemaOf = (given: any): any => {
        const name = given.$ref?.split("/").at(-1);
        return name === undefined ? given : document.components.schemas[name];
      };
      const taken: string[] = [];
      for (const [path, item] of Object.entries<any>(document.paths)) {
        const schema = schemaOf(item.post?.requestBody.content["application/json"].schema ?? {});
        const example = schema.example ?? schemaOf(schema.anyOf?.[0] ?? {}).example;
        // A job is asked for in contract-historical.ts, on hosts that run them; features are registered in contract-registered.ts,
        // keys made in key-routes.test.ts, records replayed in quarantine.test.ts, erasures asked for in erasures.test.ts.
        if (example === undefined || /\/(historical|register|push|keys|replay|drop|erasures)$/.test(path)) continue;
        const reply = await call(path, { body: example });
        const accepted = /^\/v1\/(events|labels)/.test(path) ? 202 : 200;
        expect([path, reply.status, reply.body.detail]).toEqual([path, accepted, undefined]);
        taken.push(path);
      }
      expect(taken).toHaveLength(target.plan.streams.length + 2 * target.plan.services.length + ranking.length + 6);
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
