/**
 * Features that benchmarks measure. Fixed, instead of those in features/: results of different commits stay comparable
 * whatever an app declares.
 */
import { hash64 } from "../adapters/hash.ts";
import { compile, EMPTY_LOCK } from "../core/compile/compile.ts";
import {
  count,
  entity,
  featureService,
  featureView,
  max,
  mean,
  min,
  ratio,
  rules,
  stream,
  sum,
} from "../core/definition.ts";
import { contracts } from "../schemas/contracts.ts";

export const transactions = stream("transactions", {
  schema: "transactions.v1",
  eventId: "transaction_id",
  eventTime: "event_time",
  partitionKey: "card_id",
});

const card = entity("card", { joinKey: "card_id" });
const merchant = entity("merchant", { joinKey: "merchant_id" });
const device = entity("device", { joinKey: "device_id" });
const user = entity("user", { joinKey: "user_id" });

/** Five linear aggregates over 5m, 1h and 24h: 15 features. */
const activity = <J extends "card_id" | "merchant_id" | "device_id" | "user_id">(of: ReturnType<typeof entity<J>>) =>
  featureView(`${of.name}_activity`, {
    entity: of,
    source: transactions,
    ttl: "2d",
    owner: "bench",
    features: {
      tx_count: count().over("5m", "1h", "24h"),
      amount_sum: sum("amount", { scale: 2 }).over("5m", "1h", "24h"),
      amount_mean: mean("amount", { scale: 2 }).over("5m", "1h", "24h"),
      amount_max: max("amount").over("5m", "1h", "24h"),
      amount_min: min("amount").over("5m", "1h", "24h"),
    },
  });

const views = [activity(card), activity(merchant), activity(device)];

/** Three entities: what each event of the aggregate rows touches. */
export const { plan: aggregatePlan } = compile(
  { entities: [card, merchant, device], streams: [transactions], views, services: [] },
  contracts,
  EMPTY_LOCK,
  hash64,
);

/** One entity: what the memory row weighs. */
export const { plan: cardPlan } = compile(
  { entities: [card], streams: [transactions], views: [views[0]], services: [] },
  contracts,
  EMPTY_LOCK,
  hash64,
);

const windows = ["5m", "1h", "24h"];
const named = (...names: string[]): string[] => names.flatMap((name) => windows.map((window) => `${name}_${window}`));

/** 12 windowed features of one entity. */
export const CARD_FEATURES = named("tx_count", "amount_sum", "amount_mean", "amount_max").map(
  (name) => `card_activity:${name}`,
);

const request = { amount: "double", country: "string" } as const;
const value = (given: unknown): number => (typeof given === "number" ? given : 0);

/** Four entity types, 27 stored features, 2 on demand, 6 rules. */
export const fraud = featureService("fraud", {
  features: [
    views[0],
    views[1].only(...named("tx_count", "amount_mean")),
    views[2].only(...named("tx_count")),
    activity(user).only(...named("tx_count")),
  ],
  request,
  onDemand: {
    amount_to_mean: ({ request, f }) => ratio(request.amount, f("card_activity:amount_mean_24h")),
    amount_to_max: ({ request, f }) => ratio(request.amount, f("card_activity:amount_max_24h")),
  },
  task: "binary",
  fallback: rules<typeof request>("rules-v1", {
    base: 0.01,
    review: 0.5,
    decline: 0.85,
    rules: [
      {
        name: "velocity",
        weight: 0.5,
        reason: "many payments",
        when: ({ f }) => value(f("card_activity:tx_count_1h")) > 10,
      },
      { name: "burst", weight: 0.6, reason: "a burst", when: ({ f }) => value(f("card_activity:tx_count_5m")) > 5 },
      { name: "amount", weight: 0.4, reason: "unusual amount", when: ({ f }) => value(f("amount_to_mean")) > 5 },
      { name: "record", weight: 0.2, reason: "largest so far", when: ({ f }) => value(f("amount_to_max")) > 1 },
      {
        name: "device",
        weight: 0.3,
        reason: "busy device",
        when: ({ f }) => value(f("device_activity:tx_count_24h")) > 50,
      },
      { name: "abroad", weight: 0.1, reason: "abroad", when: ({ request }) => request.country !== "SE" },
    ],
  }),
});

/** Merchants for a card: 12 features of the card, 6 of each merchant, 1 on demand. */
export const pick = featureService("pick", {
  features: [
    views[0].only(...named("tx_count", "amount_sum", "amount_mean", "amount_max")),
    views[1].only(...named("tx_count", "amount_mean")),
  ],
  request: {},
  onDemand: {
    mean_to_mean: ({ f }) => ratio(f("card_activity:amount_mean_24h"), f("merchant_activity:amount_mean_24h")),
  },
  task: "binary",
  rank: { candidate: merchant },
});

/** Four entities and the services: what the reading rows serve. */
export const { plan: servingPlan } = compile(
  {
    entities: [card, merchant, device, user],
    streams: [transactions],
    views: fraud.features
      .map((each) => (each.kind === "selection" ? each.view : each))
      .filter((view) => view.kind === "featureView"),
    services: [fraud, pick],
  },
  contracts,
  EMPTY_LOCK,
  hash64,
);
