/** A shop with two batch views of every type beside a feature view, for tests of pushed values. */
import fc from "fast-check";
import { hash64 } from "../../adapters/hash.ts";
import { packValues } from "../../adapters/valkey/packed.ts";
import type { PushRow } from "../../adapters/valkey/push.ts";
import { compile, EMPTY_LOCK } from "../../core/compile/compile.ts";
import * as d from "../../core/definition.ts";
import type { BatchView, Scalar } from "../../core/plan.ts";
import { contracts, payments } from "./fixture-plan.ts";

export const shop = d.entity("shop", { joinKey: "shop" });
const selected = (...features: string[]) =>
  `SELECT shop, event_time_ms, ${features.map((name) => `max(amount) AS ${name}`).join(", ")} FROM payments GROUP BY 1, 2`;
const options = { entity: shop, every: "1h", ttl: "2h", owner: "o" } as const;
export const risk = d.batchFeatureView("risk", {
  ...options,
  sql: selected("n", "rate", "label", "open"),
  features: { n: "long", rate: "double", label: "string", open: "boolean" },
});
const size = d.batchFeatureView("size", { ...options, ttl: "3h", sql: selected("staff"), features: { staff: "long" } });
const activity = d.featureView("activity", {
  entity: shop as d.EntityDefinition,
  source: payments as d.StreamDefinition,
  ttl: "1d",
  owner: "o",
  features: { payments: d.count().over("1h") },
} as never);

const service = d.featureService("buy", { features: [risk, activity], request: {}, task: "binary" });
export const definitions: d.Definitions = {
  entities: [shop],
  streams: [payments],
  views: [activity],
  batchViews: [risk, size],
  services: [service],
};
export const { plan: pushedPlan } = compile(definitions, contracts, EMPTY_LOCK, hash64);
export const [riskView, sizeView] = pushedPlan.batchViews;

/** A row for the store. @param values by feature, without the view's name */
export function rowOf(
  view: BatchView,
  tenant: string,
  id: string,
  eventTimeMs: number,
  values: Readonly<Record<string, Scalar>>,
): PushRow {
  const named = Object.entries(values).map(([key, value]) => {
    const { id: place, dtype } = view.features.find(({ name }) => name === `${view.name}:${key}`)!;
    return { id: place, dtype, value };
  });
  return {
    tenant,
    entity: view.entity,
    id,
    view: view.name,
    eventTimeMs,
    packed: packValues(named, eventTimeMs),
    reachMs: view.reachMs,
  };
}

const orNull = <T>(values: fc.Arbitrary<T>) =>
  fc.oneof({ weight: 4, arbitrary: values }, { weight: 1, arbitrary: fc.constant(null) });
/** Few values, so that times and values meet often, and the extreme ones. */
export const riskValues = fc.record(
  {
    n: orNull(fc.constantFrom(0, 1, 2, -1, Number.MAX_SAFE_INTEGER, -Number.MAX_SAFE_INTEGER)),
    rate: orNull(fc.oneof(fc.constantFrom(0, -0, 1, 0.1), fc.double({ noNaN: true, noDefaultInfinity: true }))),
    label: orNull(fc.constantFrom("", "a", "b", "ä€𝄞", "x".repeat(300))),
    open: orNull(fc.boolean()),
  },
  { requiredKeys: [] },
);
