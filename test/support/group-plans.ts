/** Groups whose tile sizes get in each other's way, for properties of tiles: one card view each, over the fixture's stream. */
import { hash64 } from "../../adapters/hash.ts";
import { compile, EMPTY_LOCK } from "../../core/compile/compile.ts";
import * as d from "../../core/definition.ts";
import type { Plan } from "../../core/plan.ts";
import { card, contracts, definitions, everything, payments, plan } from "./fixture-plan.ts";

export function viewPlan(features: Record<string, d.AggregationDefinition>, base: d.Duration = "1m"): Plan {
  const source = { ...payments, base };
  const view = d.featureView("view", { entity: card, source, ttl: "3000d", owner: "tests", features });
  const definitions: d.Definitions = { entities: [card], streams: [source], views: [view], services: [] };
  return compile(definitions, contracts, EMPTY_LOCK, hash64).plan;
}

const total = () => d.sum("amount", { scale: 2 });

export const GROUP_PLANS: Readonly<Record<string, Plan>> = {
  "every operator": plan,
  "only lifetime windows": viewPlan({
    n: d.count().over("lifetime"),
    total: total(),
    low: d.min("amount"),
    spread: d.stddev("amount", { scale: 2 }),
    shops: d.approxDistinct("shop"),
    first: d.first("country"),
    last: d.last("amount"),
  }),
  "only 24h windows": viewPlan({
    n: d.count().over("24h"),
    total: total().over("24h"),
    shops: d.approxDistinct("shop").over("24h"),
    last: d.last("country").over("24h"),
  }),
  "hops of 5 and 6 minutes, the coarser kept shortest": viewPlan({
    n: d.count().over("6h"),
    n_six: d.count().over("30m").every("6m"),
    shops: d.approxDistinct("shop").over("6h"),
    shops_six: d.approxDistinct("shop").over("12m").every("6m"),
  }),
  "hops of 5 and 6 minutes beside a lifetime": viewPlan({
    n: d.count().over("2h", "lifetime"),
    n_six: d.count().over("12m").every("6m"),
    last: d.last("amount").over("2h", "lifetime"),
    last_six: d.last("amount").over("12m").every("6m"),
  }),
  "a hop that divides no other": viewPlan({
    n: d.count().over("70m").every("7m"),
    total: total().over("7d").every("7m"),
    n_day: d.count().over("24h"),
  }),
  "hops of two days and six hours beside a lifetime": viewPlan({
    n: d.count().over("10d").every("2d"),
    n_delayed: d.count().over("12h").every("6h").delayedBy("2d"),
    n_ever: d.count().over("lifetime"),
    n_day: d.count().over("3d"),
    low: d.min("amount").over("6d").every("3d"),
  }),
  lists: viewPlan({
    countries: d.lastN("country", { n: 3 }).over("1h", "7d", "lifetime"),
    amounts: d.lastN("amount", { n: 5, where: d.gt("amount", -50) }).over("24h"),
    devices: d.lastN("online", { n: 32 }).over("24h").delayedBy("3h"),
    usual_countries: d.topK("country", { k: 1 }).over("1h", "lifetime"),
    shops: d.topK("shop", { k: 32 }).over("7d"),
    online: d.topK("online", { k: 2 }).over("24h").delayedBy("3h"),
  }),
  percentiles: viewPlan({
    median: d.approxPercentile("amount", { p: 0.5 }).over("1h", "7d", "lifetime"),
    high: d.approxPercentile("amount", { p: 0.95 }).over("24h"),
    low: d
      .approxPercentile("amount", { p: 0.001, where: d.eq("country", "NO") })
      .over("24h")
      .delayedBy("3h"),
    low_time: d.approxPercentile("at", { p: 0.25 }).over("6h"),
  }),
  "sums that fade": viewPlan({
    quick: d.decayedSum("amount", { scale: 2, halfLife: "10m" }).over("1h"),
    slow: d.decayedSum("amount", { scale: 2, halfLife: "30h" }).over("7d"),
    slower: d.decayedSum("amount", { scale: 2, halfLife: "3d" }).over("7d"),
    online: d
      .decayedSum("amount", { scale: 2, halfLife: "4h", where: d.eq("online", true) })
      .over("24h")
      .delayedBy("3h"),
    plain: total().over("7d", "lifetime"),
    n: d.count().over("lifetime"),
    plain_quick: total().over("1h"),
  }),
  "a base of ten seconds": viewPlan({ n: d.count().over("30s", "5m").every("10s"), total: total().over("1h") }, "10s"),
  "a base of a day": viewPlan({ n: d.count().over("5d", "lifetime"), last: d.last("country").over("5d") }, "1d"),
};

/** Of the card alone, for tests that control one bucket only. */
export const CARD_PLANS: Readonly<Record<string, Plan>> = {
  ...GROUP_PLANS,
  "every operator": compile({ ...definitions, entities: [card], views: [everything] }, contracts, EMPTY_LOCK, hash64)
    .plan,
};
