/** Definitions of one view over one stream of payments, for tests of the compiler. */
import { hash64 } from "../../adapters/hash.ts";
import { compile, EMPTY_LOCK } from "../../core/compile/compile.ts";
import * as d from "../../core/definition.ts";
import type { Contract } from "../../core/plan.ts";

const fields = {
  tenant: { type: "string", nullable: false },
  id: { type: "string", nullable: false },
  at: { type: "long", nullable: false },
  card: { type: "string", nullable: false },
  amount: { type: "double", nullable: true },
  country: { type: "string", nullable: true },
  online: { type: "boolean", nullable: true },
  extra: { type: "map", nullable: false },
} as const;
const contracts: Record<string, Contract> = { "pay.v1": { name: "pay.v1", fields } };
const schema: string = "pay.v1";
export const pay = d.stream("pay" as string, { schema, eventId: "id", eventTime: "at", partitionKey: "card" });
export const card = d.entity("card", { joinKey: "card" as string });

type ViewOptions = Partial<Omit<d.FeatureViewDefinition, "features">>;
export const view = (features: Record<string, d.AggregationDefinition>, options: ViewOptions = {}) =>
  d.featureView("v", { entity: card, source: pay, ttl: "3650d", owner: "o", features, ...options } as any);
export const using = (views: readonly d.FeatureViewDefinition[], more: Partial<d.Definitions> = {}): d.Definitions => ({
  entities: [card],
  streams: [pay],
  views,
  services: [],
  ...more,
});
export const compiled = (definitions: d.Definitions, lock = EMPTY_LOCK) =>
  compile(definitions, contracts, lock, hash64);
export const one = (feature: d.AggregationDefinition, options?: ViewOptions) => using([view({ x: feature }, options)]);
