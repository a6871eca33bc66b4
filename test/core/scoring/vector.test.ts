import { describe, expect, it } from "vitest";
import { hash64 } from "../../../adapters/hash.ts";
import type { Plan } from "../../../core/plan.ts";
import {
  checkFeatures,
  createEncoder,
  type VectorFeature,
  vectorHash,
  vectorNames,
} from "../../../core/scoring/vector.ts";
import { plan } from "../../functions/api/doubles.ts";
import { pushedPlan } from "../../support/pushed-plan.ts";

const service = plan.services.find(({ name }) => name === "fraud")!;
const dtypes = new Map(
  plan.views.flatMap((view) => view.features.map(({ name, dtype }) => [name, dtype as VectorFeature["dtype"]])),
);
/** As training would write them. */
const features = vectorNames(service).map((name): VectorFeature => {
  const dtype =
    dtypes.get(name) ?? (name === "request:country" ? "string" : name === "country_changed" ? "boolean" : "double");
  return dtype === "string" ? { name, dtype, categories: ["SE", "NO"] } : { name, dtype };
});

describe("the vector", () => {
  it("is the service's features, on-demand features and request fields, in this order", () => {
    const names = vectorNames(service);
    expect(names.slice(0, service.features.length)).toEqual(service.features);
    expect(names.slice(service.features.length)).toEqual([...service.onDemand, "request:amount", "request:country"]);
  });

  it.each([
    ["a number", "double", 1.5, 1.5],
    ["a negative zero", "double", -0, 0],
    ["a magnitude that LightGBM reads as 0", "double", 1.0000000180025095e-35, 0],
    ["the next greater one", "double", 1.0000000180025097e-35, 1.0000000180025097e-35],
    ["an absent value", "double", null, Number.NaN],
    ["true", "boolean", true, 1],
    ["false", "boolean", false, 0],
    ["a whole number", "int64", 7, 7],
    ["a known category", "string", "NO", 1],
    ["an unseen category", "string", "XX", -1],
    ["an absent category", "string", null, Number.NaN],
    ["text where a number belongs", "double", "7", Number.NaN],
    ["a number where text belongs", "string", 7, Number.NaN],
  ] as const)("takes %s", (_, dtype, value, wanted) => {
    const categories = dtype === "string" ? ["SE", "NO"] : undefined;
    const [encoded] = createEncoder([{ name: "x", dtype, categories }])([value]);
    expect(encoded).toBe(wanted);
  });

  it.each([0, 1, 31, 3_000])("keeps vectors of %d numbers apart, however many", (width) => {
    const features = Array.from({ length: width }, (_, i): VectorFeature => ({ name: `x${i}`, dtype: "double" }));
    const encode = createEncoder(features);
    const rows = Array.from({ length: 200 }, (_, row) => features.map((__, i) => row * width + i));
    const vectors = rows.map((row) => encode(row));
    for (const [row, vector] of vectors.entries()) expect(vector).toEqual(Float64Array.from(rows[row]));
  });
});

describe("a model's features", () => {
  const refusal = (given: readonly VectorFeature[]) => {
    try {
      checkFeatures(plan, service, given);
    } catch (error) {
      const { code, message } = error as { code: string; message: string };
      return `${code}: ${message}`;
    }
    return "accepted";
  };
  const change = (index: number, more: Partial<VectorFeature>) =>
    features.map((one, i) => (i === index ? { ...one, ...more } : one));

  it("are accepted when they are the plan's", () => expect(refusal(features)).toBe("accepted"));

  it("are refused in another order, naming the first position that differs", () => {
    expect(refusal([features[1], features[0], ...features.slice(2)])).toBe(
      `model_features_mismatch: the model's input 0 is ${features[1].name} where the plan has ${features[0].name}, so it is no model of service fraud`,
    );
  });
  it("are refused when one is missing, and when there is one too many", () => {
    expect(refusal(features.slice(0, -1))).toContain(
      `input ${features.length - 1} is missing where the plan has request:country`,
    );
    expect(refusal([...features, { name: "more", dtype: "double" }])).toContain("is more where the plan has none");
  });
  it("are refused with another type than the plan's", () => {
    expect(refusal(change(0, { dtype: "boolean" }))).toContain(
      `takes ${features[0].name} as boolean where the plan has int64`,
    );
  });
  it("are refused as text without categories", () => {
    const at = features.findIndex(({ dtype }) => dtype === "string");
    expect(refusal(change(at, { categories: undefined }))).toContain("as string without categories");
  });
});

describe("the vector's hash", () => {
  const fraudOf = (given: any) => given.services.find((one: any) => one.name === "fraud");
  const of = (given: Plan) => vectorHash(given, fraudOf(given), hash64);
  const altered = (edit: (copy: any) => void) => {
    const copy = structuredClone(plan);
    edit(copy);
    return of(copy);
  };
  const view = (copy: any) => copy.views.find((one: any) => service.features[0].startsWith(`${one.name}:`));

  it("does not change with descriptions, other services or stored ids", () => {
    expect(altered((copy) => void (view(copy).features[0].description = "other"))).toBe(of(plan));
    expect(altered((copy) => void (copy.services = copy.services.slice(0, 1)))).toBe(of(plan));
    expect(
      altered(
        (copy) =>
          void copy.groups.forEach((group: any) => void group.slots.forEach((slot: any) => void (slot.id += 1))),
      ),
    ).toBe(of(plan));
  });
  it.each<[string, (copy: any) => void]>([
    ["a window", (copy) => void (view(copy).features[0].window.sizeMs *= 2)],
    [
      "an input",
      (copy) => {
        const {
          group,
          features: [feature],
        } = view(copy);
        const slot = copy.groups[group].slots[feature.slots[0]];
        copy.groups[group].channels[slot.channel].input.field = "other";
      },
    ],
    ["a default", (copy) => void (fraudOf(copy).defaults = { [service.features[0]]: 0 })],
    ["a view's entity", (copy) => void (view(copy).entity = "merchant")],
    ["a view's stream", (copy) => void (view(copy).stream = "clicks")],
    ["a group's base", (copy) => void (copy.groups[view(copy).group].baseMs *= 5)],
    ["a ttl", (copy) => void (view(copy).ttlMs += 1)],
    ["a type of a request field", (copy) => void (fraudOf(copy).request.amount = "long")],
    ["the order", (copy) => void fraudOf(copy).features.reverse()],
  ])("changes with %s", (_, edit) => expect(altered(edit)).not.toBe(of(plan)));
  it("changes with a batch view's entity", () => {
    const [buy] = pushedPlan.services;
    const batchViews = pushedPlan.batchViews.map((one) => ({ ...one, entity: "card" }));
    expect(vectorHash({ ...pushedPlan, batchViews }, buy, hash64)).not.toBe(vectorHash(pushedPlan, buy, hash64));
  });
});
