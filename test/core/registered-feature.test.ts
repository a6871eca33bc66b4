/** Registered features in a service's definition: what the plan holds of them, and what it refuses. */
import { describe, expect, it } from "vitest";
import { hash64 } from "../../adapters/hash.ts";
import { compile, EMPTY_LOCK } from "../../core/compile/compile.ts";
import * as d from "../../core/definition.ts";
import type { FreshetError } from "../../core/errors.ts";
import type { PushedFeature } from "../../core/pushed-feature.ts";
import { inputsOf } from "../../core/registered-feature.ts";
import { checkFeatures, type VectorFeature, vectorHash, vectorNames } from "../../core/scoring/vector.ts";
import { contracts } from "../support/fixture-plan.ts";
import { pushedPlan, risk, shop } from "../support/pushed-plan.ts";
import { definitions, owner, registeredPlan, trust } from "../support/registered-plan.ts";

const service = registeredPlan.services.find(({ name }) => name === "trust")!;
const compiled = (...services: d.FeatureServiceDefinition[]) =>
  compile({ ...definitions, services }, contracts, EMPTY_LOCK, hash64).plan.services;
const refusal = (run: () => unknown): Pick<FreshetError, "code" | "message" | "field"> | null => {
  try {
    run();
    return null;
  } catch (error) {
    const { code, message, field } = error as FreshetError;
    return { code, message, field };
  }
};
const taking = (input: d.ServiceInput, name = "other") =>
  d.featureService(name, { features: [risk.only("n"), input], request: {}, task: "binary" });

describe("a service with registered features", () => {
  it("lists them in its order, with version, entity and type; their entities are its own", () => {
    expect(service).toMatchObject({
      features: ["risk:n", "profile:score", "profile:city", "identity:years"],
      registered: [
        { name: "profile:score", version: 1, entity: "shop", dtype: "double" },
        { name: "profile:city", version: 2, entity: "shop", dtype: "string" },
        { name: "identity:years", version: 1, entity: "owner", dtype: "int64" },
      ],
      entities: ["shop", "owner"],
    });
    expect(vectorNames(service)).toEqual([...service.features, "twice"]);
  });

  it("leaves plans without any as they were", () => {
    expect(JSON.stringify(pushedPlan)).not.toContain('"registered"');
  });

  it.each([
    ["a view that is declared", d.registered("risk:n2", { entity: shop, dtype: "int64" }), "feature_declared"],
    ["a view named as a service", d.registered("other:x", { entity: shop, dtype: "int64" }), "feature_declared"],
    [
      "a join key's name",
      d.registered(`profile:${shop.joinKey}`, { entity: shop, dtype: "int64" }),
      "feature_name_invalid",
    ],
    ["no name", d.registered("Profile", { entity: shop, dtype: "int64" }), "feature_name_invalid"],
    [
      "an entity that is not listed",
      d.registered("profile:x", { entity: d.entity("ghost", { joinKey: "ghost_id" }), dtype: "int64" }),
      "entity_unknown",
    ],
    ["another type", d.registered("profile:x", { entity: shop, dtype: "float" as "double" }), "dtype_unknown"],
    ["no version", d.registered("profile:x", { entity: shop, dtype: "double", version: 0 }), "feature_version_invalid"],
    ["nothing of an entity", d.registered("profile:x", { dtype: "double" } as never), "entity_unknown"],
  ])("is refused with %s", (_, input, code) => {
    expect(refusal(() => compiled(taking(input)))).toMatchObject({ code });
  });

  it("is refused when it takes one twice, or another service takes it differently", () => {
    const score = (more: { dtype?: "int64"; version?: number }) =>
      d.registered("profile:score", { entity: shop, dtype: "double", ...more });
    const twice = d.featureService("twice", { features: [score({}), score({})], request: {}, task: "binary" });
    expect(refusal(() => compiled(twice))).toMatchObject({ code: "feature_repeated" });
    expect(compiled(trust, taking(score({})))).toHaveLength(2);
    expect(refusal(() => compiled(trust, taking(score({ version: 2 }))))).toEqual({
      code: "registered_differs",
      field: "version",
      message: "services trust and other take profile:score with version 1 and 2; take one of them under another name",
    });
    expect(refusal(() => compiled(trust, taking(score({ dtype: "int64" }))))).toMatchObject({
      code: "registered_differs",
      field: "dtype",
    });
  });

  it("has a vector hash that changes with version and type, and models that hold to the types", () => {
    const [other] = compiled(
      d.featureService("trust", {
        features: [
          risk.only("n"),
          d.registered("profile:score", { entity: shop, dtype: "double", version: 3 }),
          d.registered("profile:city", { entity: shop, dtype: "string", version: 2 }),
          d.registered("identity:years", { entity: owner, dtype: "int64" }),
        ],
        request: {},
        onDemand: trust.onDemand,
        task: "binary",
        defaults: trust.defaults,
      }),
    );
    expect(vectorHash(registeredPlan, other, hash64)).not.toBe(vectorHash(registeredPlan, service, hash64));
    const dtypes = ["int64", "double", "string", "int64", "double"] as const;
    const features = vectorNames(service).map((name, i): VectorFeature => {
      const dtype = dtypes[i];
      return dtype === "string" ? { name, dtype, categories: ["Oslo"] } : { name, dtype };
    });
    expect(refusal(() => checkFeatures(registeredPlan, service, features))).toBeNull();
    const wrong = features.map((one) => (one.name === "profile:score" ? { ...one, dtype: "int64" as const } : one));
    expect(refusal(() => checkFeatures(registeredPlan, service, wrong))).toMatchObject({
      code: "model_features_mismatch",
      field: "profile:score",
    });
  });

  it("takes of a tenant's features those of its version, entity and type", () => {
    const feature = (key: string, more: Partial<PushedFeature>): PushedFeature => ({
      ...{ view: "profile", key, version: 1, entity: "shop", dtype: "double", ttlMs: 1, id: 0, registeredMs: 0 },
      ...{ description: "", unit: "", owner: "", tags: [], deprecated: null, ...more },
    });
    const score = feature("score", {});
    const own = [feature("score", { version: 2 }), score, feature("city", { version: 2, dtype: "int64" })];
    const years = feature("years", { view: "identity", dtype: "int64" });
    expect([...inputsOf(service, [...own, years])]).toEqual([["profile:score", score]]);
  });
});
