/** A shop whose service takes features that tenants register: two of one entity, one of another that nothing else describes. */
import { hash64 } from "../../adapters/hash.ts";
import { compile, EMPTY_LOCK } from "../../core/compile/compile.ts";
import * as d from "../../core/definition.ts";
import { contracts } from "./fixture-plan.ts";
import { risk, shop, definitions as shopDefinitions } from "./pushed-plan.ts";

export const owner = d.entity("owner", { joinKey: "owner_id" });
export const scoreInput = d.registered("profile:score", { entity: shop, dtype: "double" });
const number = (value: unknown): number => (typeof value === "number" ? value : 0);

export const trust = d.featureService("trust", {
  features: [
    risk.only("n"),
    scoreInput,
    d.registered("profile:city", { entity: shop, dtype: "string", version: 2 }),
    d.registered("identity:years", { entity: owner, dtype: "int64" }),
  ],
  request: {},
  onDemand: { twice: ({ f }) => (f("profile:score") === null ? null : 2 * number(f("profile:score"))) },
  task: "binary",
  defaults: { "identity:years": 1 },
  fallback: d.rules("trust-rules", {
    ...{ base: 0.1, review: 0.5, decline: 0.9 },
    rules: [{ name: "low", weight: 0.5, reason: "low score", when: ({ f }) => number(f("profile:score")) > 4 }],
  }),
});
export const definitions: d.Definitions = {
  ...shopDefinitions,
  entities: [...shopDefinitions.entities, owner],
  services: [...shopDefinitions.services, trust],
};
export const { plan: registeredPlan } = compile(definitions, contracts, EMPTY_LOCK, hash64);
