/** Features of the definitions that are on their way out: every answer that has a value of theirs says so, and the catalogue does. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hash64 } from "../../../../adapters/hash.ts";
import type { BatchFeatureViewDefinition } from "../../../../core/batch-view.ts";
import { compile, EMPTY_LOCK } from "../../../../core/compile/compile.ts";
import * as d from "../../../../core/definition.ts";
import { vectorHash } from "../../../../core/scoring/vector.ts";
import { catalogueAnswer, featureAnswer } from "../../../../functions/api/catalogue/catalogue-schemas.ts";
import { createKey } from "../../../../functions/api/keys/keys.ts";
import * as schemas from "../../../../functions/api/openapi/schemas.ts";
import { listen, type RunningServer } from "../../../../functions/api/server.ts";
import { contracts, payments } from "../../../support/fixture-plan.ts";
import { risk, shop } from "../../../support/pushed-plan.ts";
import { callerOf, conforming } from "../contract/contract-calls.ts";
import { testDependencies } from "../doubles.ts";

function shopPlan(count: d.AggregationDefinition, about: Partial<BatchFeatureViewDefinition> = {}) {
  const activity = d.featureView("activity", {
    entity: shop as d.EntityDefinition,
    source: payments as d.StreamDefinition,
    ttl: "1d",
    owner: "o",
    features: { payments: count, amount: d.sum("amount", { scale: 2 }).over("1h") },
  } as never);
  const batch = { ...risk, ...about };
  const buy = d.featureService("buy", { features: [activity, batch], request: {}, task: "binary" });
  const definitions = {
    entities: [shop],
    streams: [payments],
    views: [activity],
    batchViews: [batch],
    services: [buy],
  };
  return compile(definitions as d.Definitions, contracts, EMPTY_LOCK, hash64).plan;
}
const count = d.count().over("1h", "24h");
const plan = shopPlan(count.deprecated("2027-01-31", "activity:amount_1h"), {
  about: { rate: { deprecated: { date: "2026-12-24", use: null } } },
});

const ports = testDependencies();
let server: RunningServer;
let key = "";
const call = callerOf(
  plan,
  () => server,
  () => key,
);
beforeAll(async () => {
  key = (await createKey(ports.keys, { tenant: "team-a", scopes: ["read"], nowMs: 0 })).key;
  server = await listen({ port: 0, dependencies: { ...ports.dependencies, plan, services: [], ingest: null } });
});
afterAll(() => server?.close());

const of = (feature: string, date: string, use: string | null) => ({ code: "feature_deprecated", feature, date, use });
const stamp = (day: string) => `@${Date.parse(day) / 1_000}`;

describe("a deprecated feature of the definitions", () => {
  it("is told of in answers that have it, by the earliest day in the header, and in no others", async () => {
    const entities = { shop: "s1" };
    const online = await call("/v1/features/online", {
      body: { entities, features: ["risk:rate", "activity:payments_24h", "risk:n"] },
    });
    expect(online.headers.get("deprecation")).toBe(stamp("2026-12-24"));
    expect(conforming(schemas.onlineAnswer, online).warnings).toEqual([
      of("risk:rate", "2026-12-24", null),
      of("activity:payments_24h", "2027-01-31", "activity:amount_1h"),
    ]);
    const other = await call("/v1/features/online", { body: { entities, features: ["activity:amount_1h"] } });
    expect([other.status, other.headers.get("deprecation"), other.body.warnings]).toEqual([200, null, undefined]);
    const batch = await call("/v1/features/batch", { body: { entities: [entities], service: "buy" } });
    expect(conforming(schemas.batchAnswer, batch).warnings?.map(({ feature }) => feature)).toEqual([
      ...["activity:payments_1h", "activity:payments_24h", "risk:rate"],
    ]);
    const feast = { entities: { shop: ["s1"] }, features: ["activity:payments_1h"] };
    expect((await call("/get-online-features", { body: feast })).headers.get("deprecation")).toBe(stamp("2027-01-31"));
    expect((await call("/v1/context/shop/s1")).headers.get("deprecation")).toBe(stamp("2026-12-24"));
  });

  it("is marked in the catalogue, which can be searched for it", async () => {
    const found = conforming(catalogueAnswer, await call("/v1/features?deprecated=true"));
    expect(found.features.map(({ name, deprecated }) => [name, deprecated])).toEqual([
      ["activity:payments_1h", { date: "2027-01-31", use: "activity:amount_1h" }],
      ["activity:payments_24h", { date: "2027-01-31", use: "activity:amount_1h" }],
      ["risk:rate", { date: "2026-12-24", use: null }],
    ]);
    const one = conforming(featureAnswer, await call("/v1/features/risk:rate"));
    expect(one.deprecated).toEqual({ date: "2026-12-24", use: null });
  });

  it("is the same to models, and to what is stored", () => {
    const before = shopPlan(count);
    const hashOf = (of: typeof plan) => vectorHash(of, of.services[0], hash64);
    expect(hashOf(plan)).toBe(hashOf(before));
    expect([plan.layoutHash, plan.hash === before.hash]).toEqual([before.layoutHash, false]);
    expect(JSON.stringify(before)).not.toContain("deprecated");
  });

  it.each(["2027-02-30", "soon", "2027-01-31T00:00:00Z", ""])("is refused with the day %j", (day) => {
    expect(() => shopPlan(count.deprecated(day))).toThrow(
      `feature activity:payments_1h is deprecated from ${day} on; give a day and, if there is one, what to use instead`,
    );
    const about = { rate: { deprecated: { date: day, use: null } } };
    expect(() => shopPlan(count, { about })).toThrow(`feature risk:rate is deprecated from ${day} on`);
  });
});
