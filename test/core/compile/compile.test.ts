/** What the compiler makes of definitions, and what its types refuse. Which definitions it refuses: compile-refusals.test.ts. */
import { describe, expect, it } from "vitest";
import * as d from "../../../core/definition.ts";
import type { Plan } from "../../../core/plan.ts";
import { contracts as appContracts } from "../../../schemas/contracts.ts";
import { compiled, one, using, view } from "../../support/one-view.ts";

const total = d.sum("amount", { scale: 2 });

describe("the plan", () => {
  const features = (plan: Plan) => plan.views.flatMap((v) => v.features);
  const hops = (size: d.Duration) =>
    (features(compiled(one(d.count().over(size))).plan)[0].window as any).hopMs / 60_000;

  it("names features by view, name and window, in the order of declaration", () => {
    const { plan } = compiled(using([view({ b: d.count().over("1h", "lifetime"), a: d.last("country") })]));
    expect(features(plan).map(({ name, dtype }) => [name, dtype])).toEqual([
      ["v:b_1h", "int64"],
      ["v:b_lifetime", "int64"],
      ["v:a", "string"],
    ]);
  });

  it.each([
    ["1m", 1],
    ["10m", 1],
    ["15m", 5],
    ["11h", 5],
    ["12h", 60],
    ["11d", 60],
    ["12d", 1_440],
    ["30d", 1_440],
  ] as const)("gives a window of %s a hop of %i minutes by default", (size, minutes) => {
    expect(hops(size)).toBe(minutes);
  });

  it("shares inputs and slots between features that need the same", () => {
    const { plan } = compiled(
      using([view({ s: total.over("1h"), m: d.mean("amount", { scale: 2 }).over("1h", "24h") })]),
    );
    const [group] = plan.groups;
    expect(group.channels).toHaveLength(1);
    expect(group.slots.map(({ kind }) => kind).sort()).toEqual(["count", "sum"]);
  });

  it("expires a silent key a day after its longest window with delay, and never one with a lifetime", () => {
    const expiry = (feature: d.AggregationDefinition) => compiled(one(feature)).plan.groups[0].expireMs;
    expect(expiry(d.count().over("24h").delayedBy("3h"))).toBe((24 + 3 + 24) * 3_600_000);
    expect(expiry(d.count().over("1h", "lifetime"))).toBeNull();
  });

  it("selects a service's features in the order in which a model sees them", () => {
    const v = view({ x: d.count().over("1h", "24h"), y: d.last("country") });
    const w = { ...view({ x: d.count() }), name: "w" };
    const service = d.featureService("s", {
      features: [v.only("y", "x_24h"), w],
      request: { amount: "double" },
      onDemand: { z: () => 1 },
      defaults: { "v:x_24h": 0 },
      task: "binary",
    });
    const { plan } = compiled(using([w, v], { services: [service] }));
    expect(plan.services).toEqual([
      {
        name: "s",
        features: ["v:y", "v:x_24h", "w:x"],
        onDemand: ["z"],
        request: { amount: "double" },
        defaults: { "v:x_24h": 0 },
        entities: ["card"],
        task: "binary",
        fallback: null,
      },
    ]);
  });

  it("names the entity whose ids a service ranks, one of those that it takes features of", () => {
    const v = view({ x: d.count().over("1h") });
    const ranking = (candidate: d.EntityDefinition) =>
      compiled(
        using([v], {
          services: [d.featureService("s", { features: [v], request: {}, task: "binary", rank: { candidate } })],
        }),
      ).plan.services[0];
    expect(ranking(v.entity).candidate).toBe("card");
    expect(() => ranking(d.entity("shop", { joinKey: "merchant_id" }))).toThrow(
      "service s ranks shop, of which it takes no feature; take a view of shop, or rank one of card",
    );
    const named = { features: [v], request: { k: "long" }, task: "binary", rank: { candidate: v.entity } } as const;
    expect(() => compiled(using([v], { services: [d.featureService("s", named)] }))).toThrow(
      "service s has a request field k, which means something else in a ranking; give it another name than candidates, k, variant, explain",
    );
  });

  it("keeps its hashes through words, and its layout's hash through everything but layout", () => {
    const hashes = (definitions: d.Definitions) => {
      const { plan } = compiled(definitions);
      return { hash: plan.hash, layout: plan.layoutHash };
    };
    const base = hashes(one(d.count().over("1h")));
    expect(hashes(one(d.count().over("1h")))).toEqual(base);
    const described = hashes(one(d.count().over("1h").describe("payments")));
    expect(described.hash).not.toBe(base.hash);
    expect(described.layout).toBe(base.layout);
    // A model is fed a default like any value; nothing that is stored depends on it.
    const serving = (defaults: Record<string, number>) => {
      const v = view({ x: d.count().over("1h") });
      return hashes(
        using([v], { services: [d.featureService("s", { features: [v], request: {}, task: "binary", defaults })] }),
      );
    };
    expect(serving({ "v:x_1h": 0 }).hash).not.toBe(serving({}).hash);
    expect(serving({ "v:x_1h": 0 }).layout).toBe(base.layout);
    expect(hashes(one(d.count().over("2h"))).layout).not.toBe(base.layout);
    expect(hashes(one(d.count({ where: d.eq("country", "NO") }).over("1h"))).layout).not.toBe(base.layout);
  });
});

describe("types", () => {
  const { "transactions.v1": _, ...others } = appContracts;
  const transactions = d.stream("transactions", {
    schema: "transactions.v1",
    eventId: "transaction_id",
    eventTime: "event_time",
    partitionKey: "card_id",
  });
  const holder = d.entity("card", { joinKey: "card_id" });
  const options = { source: transactions, ttl: "1d", owner: "o" } as const;

  it("a view over a field that its contract lacks does not compile", () => {
    d.featureView("v", { ...options, entity: holder, features: { ok: d.sum("amount", { scale: 2 }).over("1h") } });
    // @ts-expect-error: transactions.v1 has no field amonut
    d.featureView("v", { ...options, entity: holder, features: { x: d.sum("amonut", { scale: 2 }).over("1h") } });
    // @ts-expect-error: nor one to filter by
    d.featureView("v", { ...options, entity: holder, features: { x: d.count({ where: d.eq("state", "ok") }) } });
    // @ts-expect-error: nor inside of a larger condition
    d.featureView("v", { ...options, entity: holder, features: { x: d.count({ where: d.not(d.isNull("x")) }) } });
    expect(Object.keys(others)).not.toContain("transactions.v1");
  });

  it("an entity whose join key the contract lacks does not compile", () => {
    const features = { x: d.count().over("1h") };
    // @ts-expect-error: transactions.v1 has no field item_id
    d.featureView("v", { ...options, entity: d.entity("item", { joinKey: "item_id" }), features });
    // @ts-expect-error: a stream's own fields are checked alike
    d.stream("x", { schema: "clicks.v1", eventId: "transaction_id", eventTime: "event_time", partitionKey: "user_id" });
    expect(features.x.windows).toEqual(["1h"]);
  });

  it("a duration, a scale and a request field of the wrong kind do not compile", () => {
    // @ts-expect-error: a duration has a unit
    d.count().over("60");
    // @ts-expect-error: a sum has a scale
    expect(d.sum("amount").scale).toBe(null);
    const service = { features: [], task: "binary" } as const;
    d.featureService("s", {
      ...service,
      request: { amount: "double" },
      // @ts-expect-error: the request has no field country
      onDemand: { x: ({ request }) => request.country },
    });
  });
});
