import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type FeatureServiceDefinition,
  featureService,
  type RulesDefinition,
  ratio,
  rules,
} from "../../../core/definition.ts";
import type { FeatureValue, Service } from "../../../core/plan.ts";
import { createScorer } from "../../../core/scoring/scoring.ts";

const request = { amount: "double", country: "string" } as const;
const definition = featureService("fraud", {
  features: [],
  request,
  onDemand: {
    amount_to_mean: ({ request: { amount }, f }) => ratio(amount, f("card:mean")),
    twice: ({ f }) => ((f("amount_to_mean") as number | null) ?? 0) * 2,
  },
  task: "binary",
  defaults: { "card:count": 7 },
  fallback: rules<typeof request>("rule-based-v1", {
    base: 0.01,
    review: 0.5,
    decline: 0.85,
    rules: [
      { name: "many", weight: 0.5, reason: "many payments", when: ({ f }) => ((f("card:count") as number) ?? 0) > 10 },
      { name: "large", weight: 0.8, reason: "large payment", when: ({ f }) => (f("amount_to_mean") as number) >= 5 },
      { name: "abroad", weight: 0.2, reason: "abroad", when: ({ request: { country } }) => country === "NO" },
    ],
  }),
});
const service: Service = {
  name: "fraud",
  features: ["card:count", "card:mean"],
  onDemand: ["amount_to_mean", "twice"],
  request,
  defaults: { "card:count": 7 },
  entities: ["card"],
  task: "binary",
  fallback: "rule-based-v1",
};
const present = (value: number): FeatureValue => ({ value, status: "PRESENT", eventTimeMs: 1 });
const absent = (status: FeatureValue["status"]): FeatureValue => ({ value: null, status, eventTimeMs: null });
const change = (more: Partial<FeatureServiceDefinition>): FeatureServiceDefinition => ({ ...definition, ...more });
const changeRules = (more: Partial<RulesDefinition<any>>) =>
  change({ fallback: { ...(definition.fallback as RulesDefinition<any>), ...more } });
const refusal = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    const { code, message, repair } = error as { code: string; message: string; repair: string };
    return `${code}: ${message}; ${repair}`;
  }
  return "accepted";
};

describe("evaluate", () => {
  const scorer = createScorer(service, definition);

  it("puts stored features first and on-demand ones after, each seeing those before it", () => {
    const evaluation = scorer.evaluate({ amount: 30, country: "SE" }, [present(3), present(10)]);
    expect(scorer.inputs).toEqual(["card:count", "card:mean", "amount_to_mean", "twice"]);
    expect(evaluation.values).toEqual([3, 10, 3, 6]);
    expect(evaluation.used).toEqual(scorer.inputs);
    expect(evaluation.missing).toEqual([]);
  });

  it.each(["NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE", "NOT_READY"] as const)(
    "counts %s as missing and lets the declared default stand in",
    (status) => {
      const evaluation = scorer.evaluate({ amount: 30, country: null }, [absent(status), absent(status)]);
      expect(evaluation.values).toEqual([7, null, null, 0]);
      expect(evaluation.missing).toEqual(["card:count", "card:mean", "amount_to_mean"]);
      expect(evaluation.used).toEqual(["twice"]);
    },
  );

  it("ignores the value of a feature that is outside its age", () => {
    const stale: FeatureValue = { value: 99, status: "OUTSIDE_MAX_AGE", eventTimeMs: 1 };
    expect(scorer.evaluate({ amount: 1, country: null }, [stale, present(1)]).values[0]).toBe(7);
  });

  it("goes on without any stored feature", () => {
    const evaluation = scorer.evaluate({ amount: 30, country: "SE" }, null);
    expect(evaluation.missing).toEqual(["card:count", "card:mean", "amount_to_mean"]);
  });

  it("turns a result that is not finite into a missing value", () => {
    const infinite = createScorer(service, change({ onDemand: { amount_to_mean: () => 1 / 0, twice: () => 1 } }));
    expect(infinite.evaluate({ amount: 1, country: null }, null).missing).toContain("amount_to_mean");
  });

  it("names an on-demand function that throws and counts it as missing", () => {
    const throwing = createScorer(
      service,
      change({
        onDemand: {
          amount_to_mean: ({ request: { amount } }: any) => {
            if (amount === 13) throw new Error("unlucky");
            return 1;
          },
          twice: () => 2,
        },
      }),
    );
    const evaluation = throwing.evaluate({ amount: 13, country: null }, null);
    expect(evaluation.faults).toEqual(["amount_to_mean"]);
    expect(evaluation.missing).toContain("amount_to_mean");
  });
});

describe("rules", () => {
  const scorer = createScorer(service, definition);
  const score = (count: number, mean: number, amount: number, country: string) => {
    const fields = { amount, country };
    const result = scorer.score(fields, scorer.evaluate(fields, [present(count), present(mean)]));
    if (result === null) throw new Error("no fallback");
    return result;
  };

  it("gives the base when nothing fires", () => {
    const result = score(1, 10, 10, "SE");
    expect(result.score).toBe(0.01);
    expect(result).toMatchObject({ decision: "approve", modelVersion: "rule-based-v1", contributions: [] });
  });

  it("decides by the base as it is declared, where nothing fires", () => {
    const only = { name: "only", weight: 0.5, reason: "", when: () => false };
    const limits = createScorer(service, changeRules({ base: 0.1, review: 0.1, rules: [only] }));
    expect(limits.score({ amount: 1, country: "" }, limits.evaluate({}, null))).toMatchObject({
      score: 0.1,
      decision: "review",
    });
  });

  it("combines rules as independent chances: 1 - 0.99 x 0.5 x 0.2", () => {
    const result = score(11, 10, 50, "SE");
    expect(result.score).toBeCloseTo(0.901, 12);
    expect(result.decision).toBe("decline");
    expect(result.contributions.map(({ name, reason }) => [name, reason])).toEqual([
      ["many", "many payments"],
      ["large", "large payment"],
    ]);
  });

  it.each([
    [0.5, "review"],
    [0.49999, "approve"],
    [0.85, "decline"],
    [0.84999, "review"],
  ])("a score of %d is a %s: thresholds belong to the stricter side", (value, decision) => {
    const only = { name: "only", weight: 0.5, reason: "", when: () => false };
    const fixed = createScorer(service, changeRules({ base: value, rules: [only] }));
    expect(fixed.score({ amount: 1, country: "" }, fixed.evaluate({}, null))).toMatchObject({ decision });
  });

  it("explains a score by shares that add up to score - base, whatever the rules and their order", () => {
    const rule = fc.record({ weight: fc.double({ min: 0.001, max: 0.999, noNaN: true }), fires: fc.boolean() });
    fc.assert(
      fc.property(fc.array(rule, { maxLength: 12 }), fc.double({ min: 0, max: 0.9, noNaN: true }), (drawn, base) => {
        const list = drawn.map(({ weight, fires }, i) => ({ name: `r${i}`, weight, reason: "", when: () => fires }));
        const run = (ordered: typeof list) => {
          const one = createScorer(service, changeRules({ base, rules: ordered }));
          return one.score({ amount: 1, country: "" }, one.evaluate({}, null))!;
        };
        const result = run(list);
        const naive = 1 - drawn.reduce((good, { weight, fires }) => (fires ? good * (1 - weight) : good), 1 - base);
        const sum = result.contributions.reduce((total, { contribution }) => total + contribution, 0);
        expect(result.score).toBeCloseTo(naive, 10);
        expect(sum).toBeCloseTo(result.score - base, 10);
        expect(result.contributions.every(({ contribution }) => contribution >= 0)).toBe(true);
        const reversed = run([...list].reverse());
        expect(reversed.score).toBeCloseTo(result.score, 10);
        for (const { name, contribution } of result.contributions) {
          const other = reversed.contributions.find((candidate) => candidate.name === name)!;
          expect(other.contribution).toBeCloseTo(contribution, 10);
        }
      }),
    );
  });

  it("names a rule that throws and counts it as not fired", () => {
    const when = ({ request: { amount } }: any) => {
      if (amount !== null) throw new Error("broken");
      return false;
    };
    const broken = createScorer(service, changeRules({ rules: [{ name: "broken", weight: 0.5, reason: "", when }] }));
    const fields = { amount: 1, country: "" };
    const result = broken.score(fields, broken.evaluate(fields, null));
    expect(result).toMatchObject({ faults: ["broken"], contributions: [], decision: "approve" });
  });

  it("has no score for a service without a fallback", () => {
    const none = createScorer(service, change({ fallback: null }));
    expect(none.score({}, none.evaluate({}, null))).toBeNull();
  });
});

describe("createScorer refuses at start", () => {
  const rule = { name: "a", weight: 0.5, reason: "", when: () => true };

  it("a function that reads a feature outside the service", () => {
    const onDemand = { amount_to_mean: ({ f }: any) => f("card:median"), twice: () => 1 };
    expect(refusal(() => createScorer(service, change({ onDemand })))).toBe(
      'feature_unknown: service fraud has no feature "card:median"; add it to the service\'s features, or use one of ' +
        "card:count, card:mean, amount_to_mean, twice",
    );
  });

  it("a function that cannot live without its inputs", () => {
    const onDemand = { amount_to_mean: ({ f }: any) => f("card:mean").toFixed(), twice: () => 1 };
    expect(refusal(() => createScorer(service, change({ onDemand })))).toBe(
      "function_throws: onDemand.amount_to_mean throws when its inputs are missing; " +
        "request fields and f(name) may be null; test for null before use",
    );
  });

  it("a default for a feature outside the service", () => {
    expect(refusal(() => createScorer(service, change({ defaults: { "card:x": 1 } })))).toMatch(
      /^feature_unknown: service fraud has no feature "card:x"/,
    );
  });

  it("a plan whose on-demand feature has no function", () => {
    expect(refusal(() => createScorer(service, change({ onDemand: { twice: () => 1 } })))).toBe(
      "service_mismatch: the plan's on-demand feature amount_to_mean has no function; " +
        "compile the plan from the same definitions that are loaded",
    );
  });

  it.each([
    [{ base: 1 }, "base is a probability from 0 to below 1, given 1; use the share of bad cases, as 0.01"],
    [
      { review: 0.9 },
      "0 < review <= decline <= 1 must hold, given review 0.9 and decline 0.85; set review below decline, as 0.5 and 0.85",
    ],
    [
      { rules: [{ ...rule, weight: 1 }] },
      "weight of rule a lies between 0 and 1, both excluded, given 1; " +
        "use 0.99 for a rule that should decide alone; leave out a rule that should not count",
    ],
    [{ rules: [rule, rule] }, "rule a is declared twice; give every rule its own name"],
  ])("rules that cannot be right: %o", (more, message) => {
    expect(refusal(() => createScorer(service, changeRules(more)))).toBe(`rules_invalid: rule-based-v1: ${message}`);
  });
});
