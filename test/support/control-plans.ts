/** Plans of one card, for tests of what control makes of a plan that changes. */
import { hash64 } from "../../adapters/hash.ts";
import { compile, EMPTY_LOCK, type Lock } from "../../core/compile/compile.ts";
import * as d from "../../core/definition.ts";
import { card, contracts, payments, shop } from "./fixture-plan.ts";

export const refunds: typeof payments = { ...payments, name: "refunds" };
export function planOf(
  features: Record<string, d.AggregationDefinition>,
  lock: Lock = EMPTY_LOCK,
  more: Partial<d.Definitions> = {},
) {
  const view = d.featureView("v", { entity: card, source: payments, ttl: "3650d", owner: "o", features });
  const { views = [], ...rest } = more;
  const definitions = { entities: [card, shop], streams: [payments], services: [], ...rest, views: [view, ...views] };
  return compile(definitions, contracts, lock, hash64);
}
export const first = planOf({ n: d.count().over("1h"), last: d.last("country") });

/** Why a seal stands, as control says it. */
export const HELD = {
  began: "registrations are new: every shard must acknowledge a later arrival first",
  silent: "a shard has not acknowledged anything since the registrations began",
  unlisted: "no list of shards was given",
};
