/** The catalogue and contexts for language models, asked over HTTP alone. */

import { randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import {
  catalogueAnswer,
  contextAnswer,
  featureAnswer,
} from "../../../../functions/api/catalogue/catalogue-schemas.ts";
import { rebuildAnswer } from "../../../../functions/api/openapi/familiar-openapi.ts";
import * as schemas from "../../../../functions/api/openapi/schemas.ts";
import { type ContractTarget, conforming } from "./contract-calls.ts";
import { pushedCalls } from "./contract-registered.ts";

const HOUR = 3_600_000;

export function describeCatalogue(target: ContractTarget): void {
  const { call, freshView, register, push, settled } = pushedCalls(target);

  describe("the catalogue", () => {
    const list = async (query: string, key?: string) => {
      const reply = await call(`/v1/features${query}`, { key });
      expect([reply.body.detail, reply.status]).toEqual([undefined, 200]);
      return conforming(catalogueAnswer, reply);
    };

    it("lists declared features and the tenant's own, by name, in pages", async () => {
      const view = freshView();
      await register({ name: `${view}:a`, description: "Colour of the sky", tags: ["weather"], owner: "sky team" });
      await register({ name: `${view}:b`, entity: "merchant", unit: "EUR" });
      await register({ name: `${view}:b`, entity: "user", version: 2, dtype: "string" });
      await settled(async () => ({ status: (await list(`?view=${view}`)).features.length < 2 ? 404 : 200 }));
      expect((await list(`?view=${view}`)).features).toEqual([
        {
          ...{ name: `${view}:a`, kind: "pushed", view, entity: "card", dtype: "double", version: 1, unit: "" },
          ...{ description: "Colour of the sky", owner: "sky team", tags: ["weather"], ttl_ms: HOUR, deprecated: null },
        },
        {
          ...{ name: `${view}:b`, kind: "pushed", view, entity: "merchant", dtype: "double", version: 1, unit: "EUR" },
          ...{ description: "", owner: "", tags: [], ttl_ms: HOUR, deprecated: null },
        },
      ]);
      const names: string[] = [];
      for (let cursor: string | null = ""; cursor !== null; ) {
        const page: { features: { name: string }[]; next: string | null } = await list(`?limit=7&cursor=${cursor}`);
        expect(page.features.length).toBeLessThanOrEqual(7);
        names.push(...page.features.map(({ name }) => name));
        cursor = page.next;
      }
      expect(names).toEqual([...new Set(names)].sort());
      for (const { features } of [...target.plan.views, ...target.plan.batchViews]) {
        for (const { name } of features) expect(names).toContain(name);
      }
      expect(names).toContain(`${view}:a`);
      const other = await list("?limit=500", target.keys().second);
      expect(other.features.map(({ name }) => name)).not.toContain(`${view}:a`);
    });

    it.each([
      ["?q=greatest%20AMOUNT", ["card_activity:amount_max_24h"]],
      ["?entity=merchant&kind=batch", ["merchant_risk:chargeback_rate_30d"]],
      ["?view=card_activity&q=last_country", ["card_activity:last_country"]],
      ["?tag=none-has-it", []],
      ["?owner=nobody", []],
      ["?view=card_activity&deprecated=true", []],
    ])("finds by %s", async (query, expected) => {
      const names = (await list(query)).features.map(({ name }) => name);
      expect(names).toEqual(expect.arrayContaining(expected));
      if (expected.length === 0) expect(names).toEqual([]);
      else expect(names.length).toBeLessThan(10);
    });

    it.each([
      ["?limit=0", "wrong_type", "limit"],
      ["?limit=ten", "wrong_type", "limit"],
      ["?kind=secret", "wrong_type", "kind"],
      ["?deprecated=maybe", "wrong_type", "deprecated"],
      ["?qq=x", "field_unknown", "qq"],
      ["?tag=x&tag=y", "wrong_type", "tag"],
      [`?q=${"a+".repeat(101)}`, "value_too_long", "q"],
    ])("refuses %s → 400 %s", async (query, code, field) => {
      const reply = await call(`/v1/features${query}`);
      expect([reply.status, reply.body.code, reply.body.field]).toEqual([400, code, field]);
    });

    it("tells of a declared feature how it comes about, in words too, and who takes it", async () => {
      const reply = await call("/v1/features/card_activity:declines_1h");
      expect(conforming(featureAnswer, reply)).toMatchObject({
        ...{ name: "card_activity:declines_1h", kind: "windowed", entity: "card", dtype: "int64", version: null },
        description: "count in transactions of the last 1h, where status is declined",
        definition: { stream: "transactions", operator: "count", window: { size: "1h", hop: "5m", delay_ms: 0 } },
        services: ["fraud"],
      });
      const batch = await call("/v1/features/merchant_risk%3Achargeback_rate_30d");
      expect(conforming(featureAnswer, batch)).toMatchObject({
        kind: "batch",
        definition: { every: expect.any(String) },
      });
    });

    it("tells what this process has taken and served of a feature: counted, never guessed", async () => {
      const [view, card] = [freshView(), randomUUID()];
      const name = `${view}:n`;
      await register({ name });
      const now = Date.now();
      const values = [1, 2, null, 6].map((n, i) => ({ id: `${card}-${i}`, event_time_ms: now - 10_000, values: [n] }));
      await settled(() => push({ features: [name], rows: values }));
      const entities = Array.from({ length: 5 }, (_, i) => ({ card_id: `${card}-${i}` }));
      await settled(() => call("/v1/features/batch", { body: { entities, features: [name] } }));
      const { served, pushed, ...fresh } = conforming(featureAnswer, await call(`/v1/features/${name}`));
      expect(fresh).toMatchObject({
        kind: "pushed",
        definition: { versions: [{ version: 1 }] },
        services: [],
        models: [],
      });
      // Another process may answer, which has taken or served nothing of it.
      if (served.rows === 0)
        expect(served).toMatchObject({ null_rate: null, values: null, newest_event_time_ms: null });
      else {
        expect(served).toMatchObject({
          ...{ present_rate: 0.6, null_rate: 0.2, missing_rate: 0.2, newest_event_time_ms: now - 10_000 },
          values: { min: 1, max: 6, mean: 3 },
        });
        expect(served.mean_age_ms).toBeGreaterThanOrEqual(10_000);
      }
      if (pushed!.rows === 0) expect(pushed).toMatchObject({ null_rate: null, values: null, visible_ms: null });
      else {
        const told = { null_rate: 0.25, newest_event_time_ms: now - 10_000, values: { min: 1, max: 6, mean: 3 } };
        expect(pushed).toMatchObject(told);
        expect(pushed!.visible_ms).toBeGreaterThanOrEqual(now - 10_000);
      }
    });

    it("a name that nobody has, and a registered one of another tenant, are alike: 404", async () => {
      const name = `${freshView()}:mine`;
      await register({ name });
      for (const [path, key] of [
        [`/v1/features/${name}`, target.keys().second],
        ["/v1/features/none:such", undefined],
        ["/v1/features/online", undefined],
      ] as const) {
        const reply = await call(path, { key });
        expect([reply.status, reply.body.code, reply.body.field]).toEqual([404, "feature_unknown", "name"]);
        expect(reply.body.repair).not.toContain("mine");
      }
    });
  });

  describe("contexts for language models", () => {
    it("are text, markdown or JSON of what is known, within a budget", async () => {
      const [view, card] = [freshView(), randomUUID()];
      const [age, note] = [`${view}:age`, `${view}:note`];
      await register({ name: age, unit: "days", description: "Days since the account was opened." });
      await register({ name: note, dtype: "string" });
      const row = { id: card, event_time_ms: Date.now() - 61_000, values: [412, "line one\nline two"] };
      await settled(() => push({ features: [age, note], rows: [row] }));
      expect((await push({ features: [age, note], rows: [row] })).status).toBe(200);
      await settled(() =>
        call("/v1/features/online", { body: { entities: { card_id: card }, features: [age, note] } }),
      );
      const text = await call(`/v1/context/card/${card}?features=${age},${note},card_activity:last_country`);
      expect([text.status, text.type]).toEqual([200, "text/plain; charset=utf-8"]);
      const [head, ...lines] = text.body.split("\n");
      expect(head).toMatch(new RegExp(`^card "${card}", as of 20`));
      expect(lines).toEqual([
        `${age}: 412 days (Days since the account was opened, 1 minute ago)`,
        `${note}: "line one\\nline two" (1 minute ago)`,
        "Further features: 1 without a value.",
      ]);
      const markdown = await call(`/v1/context/card/${card}?format=markdown&features=${age}`);
      expect(markdown.type).toBe("text/markdown; charset=utf-8");
      expect(markdown.body).toContain(`- **${age}**: 412 days — Days since the account was opened, 1 minute ago`);
      const json = conforming(contextAnswer, await call(`/v1/context/card/${card}?format=json&max_tokens=80`));
      expect(json.features.map(({ name, value, unit }) => [name, value, unit])).toContainEqual([age, 412, "days"]);
      expect(json.tokens).toBeLessThanOrEqual(80);
      expect(json.without_value.map(({ name }) => name)).toContain("card_activity:last_country");
      expect(json.features.length + json.left_out.length).toBe(2);
      const other = await call(`/v1/context/card/${card}`, { key: target.keys().second });
      expect(other.body).not.toContain(view);
    });

    it("of a service hold what it takes of the entity", async () => {
      const reply = await call("/v1/context/merchant/never-seen?service=fraud&format=json");
      const { without_value } = conforming(contextAnswer, reply);
      const taken = target.plan.services.find(({ name }) => name === "fraud")!.features;
      expect(without_value.length).toBeGreaterThan(0);
      for (const { name } of without_value) expect(taken).toContain(name);
    });

    it.each([
      ["/v1/context/planet/x", 404, "entity_unknown", "entity"],
      ["/v1/context/card/c?format=xml", 400, "wrong_type", "format"],
      ["/v1/context/card/c?max_tokens=0", 400, "wrong_type", "max_tokens"],
      ["/v1/context/card/c?max_tokens=5", 400, "wrong_type", "max_tokens"],
      ["/v1/context/card/c?max_tokens=many", 400, "wrong_type", "max_tokens"],
      ["/v1/context/card/c?features=a:b&features=c:d", 400, "wrong_type", "features"],
      ["/v1/context/card/c?tokens=5", 400, "field_unknown", "tokens"],
      ["/v1/context/card/c?service=none", 404, "service_unknown", "service"],
      ["/v1/context/item/c?service=fraud", 400, "selection_invalid", "service"],
      ["/v1/context/card/c?features=none:such", 404, "feature_unknown", "features[0]"],
      ["/v1/context/card/c?features=merchant_risk:chargeback_rate_30d", 400, "selection_invalid", "features"],
      ["/v1/context/card/c?service=fraud&features=a:b", 400, "selection_invalid", "features"],
      [`/v1/context/card/${"x".repeat(300)}`, 400, "key_too_long", "id"],
    ])("refuses %.70s → %i %s", async (path, status, code, field) => {
      const reply = await call(path);
      expect([reply.status, reply.body.code, reply.body.field]).toEqual([status, code, field]);
      if (path.includes("=many")) expect(reply.body.detail).toContain('given "many"');
    });
  });

  describe("familiar addresses", () => {
    it("are answered by the calls that they are other names of", async () => {
      const card = `f-${randomUUID()}`;
      const read = { entities: { card_id: card }, features: ["card_activity:tx_count_1h"] };
      const still = ({ body }: { body: any }) => ({
        ...body,
        request_id: "",
        as_of_ms: 0,
        latency_ms: 0,
        served: null,
      });
      for (const [path, body] of [
        ["/features/online", read],
        ["/features/batch", { ...read, entities: [{ card_id: card }] }],
        ["/features?view=card_activity", undefined],
        ["/features/card_activity:tx_count_1h", undefined],
        [`/features/card/${card}`, undefined],
        [`/features/online`, {}],
      ] as const) {
        const [ours, theirs] = [await call(`/v1${path}`, { body }), await call(`/api/v1${path}`, { body })];
        expect([path, theirs.status, still(theirs)]).toEqual([path, ours.status, still(ours)]);
      }
      const name = `${freshView()}:a`;
      const body = { name, dtype: "float", entity: "card", ttl: 3_600 };
      const made = await call("/api/v1/features/register", { body, key: target.keys().firstAdmin });
      expect([made.status, made.body.name, made.body.dtype]).toEqual([201, name, "double"]);
    });

    it("a score needs no more than what the caller has, under the word that it has", async () => {
      const familiar = await call("/score/fraud", { body: { card_id: "c1", transaction_amount: 12.5 } });
      expect([familiar.body.detail, familiar.status]).toEqual([undefined, 200]);
      const answer = conforming(schemas.scoreAnswer, familiar);
      const whole = { card_id: "c1", merchant_id: null, device_id: null, user_id: null, amount: 12.5, country: null };
      const ours = conforming(schemas.scoreAnswer, await call("/v1/score/fraud", { body: whole }));
      expect(answer).toMatchObject({ score: ours.score, features_missing: ours.features_missing });
      const strict = await call("/v1/score/fraud", { body: { card_id: "c1", transaction_amount: 12.5 } });
      expect([strict.status, strict.body.code, strict.body.field]).toEqual([400, "field_missing", "country"]);
      const wrong = await call("/score/fraud", { body: { card_id: "c1", transaction_amount: "much" } });
      expect([wrong.status, wrong.body.code, wrong.body.field]).toEqual([400, "wrong_type", "transaction_amount"]);
      const both = { ...whole, transaction_amount: "ignored" };
      expect((await call("/v1/score/fraud", { body: both })).status).toBe(200);
    });

    it.each([
      ["/v1/cache/card/c1", ["card"]],
      ["/api/v1/cache/invalidate/c1", [...new Set(target.plan.groups.map(({ entity }) => entity))]],
    ])("DELETE %s queues a rebuild, once while it is under way", async (path, entities) => {
      const ask = () => call(path, { method: "DELETE", key: target.keys().firstAdmin });
      const answer = conforming(rebuildAnswer, await ask());
      expect(answer).toMatchObject({ entities, id: "c1" });
      const again = await ask();
      expect([again.status, conforming(rebuildAnswer, again).id]).toEqual([202, "c1"]);
      expect((await call(path, { method: "DELETE", key: target.keys().readOnly })).body.code).toBe("scope_missing");
    });

    it("a rebuild names an entity that has features of events", async () => {
      const wrong = await call("/v1/cache/cards/c1", { method: "DELETE", key: target.keys().firstAdmin });
      expect([wrong.status, wrong.body.code, wrong.body.field]).toEqual([404, "entity_unknown", "entity"]);
      expect(wrong.body.detail).toBe('no entity with features of events is named "cards"');
      const long = await call(`/v1/cache/card/${"x".repeat(257)}`, {
        method: "DELETE",
        key: target.keys().firstAdmin,
      });
      expect([long.status, long.body.code]).toEqual([400, "key_too_long"]);
    });
  });
}
