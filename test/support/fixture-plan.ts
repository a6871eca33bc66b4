/** A plan with every operator over every kind of window, for tests of the engine. */
import { hash64 } from "../../adapters/hash.ts";
import { compile, EMPTY_LOCK } from "../../core/compile/compile.ts";
import * as d from "../../core/definition.ts";
import type { Contract, Plan } from "../../core/plan.ts";

export const fixtureContract: Contract = {
  name: "payments.v1",
  fields: {
    tenant: { type: "string", nullable: false },
    id: { type: "string", nullable: false },
    at: { type: "long", nullable: false },
    card: { type: "string", nullable: false },
    shop: { type: "string", nullable: true },
    amount: { type: "double", nullable: true },
    country: { type: "string", nullable: true },
    online: { type: "boolean", nullable: true },
  },
};
export const contracts = { "payments.v1": fixtureContract };

// Named as a plain string: this contract is not among the app's own, whose fields the compiler knows.
const schema: string = "payments.v1";
export const payments = d.stream(schema && "payments", {
  schema,
  eventId: "id",
  eventTime: "at",
  partitionKey: "card",
});
export const card = d.entity("card", { joinKey: "card" as string });
export const shop = d.entity("shop", { joinKey: "shop" as string });

export const everything = d.featureView("everything", {
  entity: card,
  source: payments,
  ttl: "40d",
  owner: "tests",
  features: {
    n: d.count().over("5m", "1h", "24h", "7d", "lifetime"),
    n_six: d.count().over("1h").every("6m"),
    n_declined: d.count({ where: d.and(d.eq("country", "NO"), d.not(d.isNull("amount"))) }).over("1h", "24h"),
    total: d.sum("amount", { scale: 2 }).over("1h", "24h", "lifetime"),
    average: d.mean("amount", { scale: 2 }).over("24h", "7d"),
    var: d.variance("amount", { scale: 2 }).over("1h", "7d"),
    sd: d.stddev("amount", { scale: 2, sample: true }).over("24h"),
    low: d.min("amount").over("1h", "7d"),
    high: d.max("amount", { where: d.gt("amount", 10) }).over("1h", "24h"),
    shops: d.approxDistinct("shop").over("1h", "24h"),
    settled: d.count().over("24h").delayedBy("3h"),
    settled_sum: d.sum("amount", { scale: 2 }).over("7d").delayedBy("1d"),
    first_country: d.first("country").over("24h"),
    last_country: d.last("country"),
    last_amount: d.last("amount").over("1h"),
    last_online: d.last("online").over("7d"),
    silence: d.timeSinceLast().over("24h"),
  },
});
export const shopView = d.featureView("shop_view", {
  entity: shop,
  source: payments,
  ttl: "2d",
  owner: "tests",
  features: {
    n: d.count().over("5m", "1h"),
    total: d.sum("amount", { scale: 2 }).over("1h"),
    cards: d.approxDistinct("card").over("1h"),
  },
});

export const definitions: d.Definitions = {
  entities: [card, shop],
  streams: [payments],
  views: [everything, shopView],
  services: [],
};
export const compiled = compile(definitions, contracts, EMPTY_LOCK, hash64);
export const plan: Plan = compiled.plan;
