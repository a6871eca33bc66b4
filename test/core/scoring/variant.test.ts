import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { hash64 } from "../../../adapters/hash.ts";
import type { Stream } from "../../../core/plan.ts";
import { checkServing, experimentOf, fractionOf, isChallenged } from "../../../core/scoring/variant.ts";
import { eq } from "../../../core/where.ts";
import { plan } from "../../../features/plan.ts";
import { recommendation } from "../../../features/recommendation.ts";
import { modelDefinition, modelPlan } from "../../support/model-fixture.ts";

const experiment = { key: "card_id", challenger: 0.1 };
const challenged = (value: string, share: number, salt?: string) =>
  isChallenged("fraud", { ...experiment, salt }, share, value, hash64);
const cards = Array.from({ length: 20_000 }, (_, i) => `c${i}`);

describe("variants", () => {
  it("are those of every release: these bytes are hashed", () => {
    expect(fractionOf("fraud/c1", hash64)).toBe(0.7366143262501622);
  });
  it.each([0, 0.1, 0.5, 1])("give the challenger a share of %s of the keys", (share) => {
    const count = cards.filter((card) => challenged(card, share)).length;
    // Five standard deviations of a binomial count.
    expect(Math.abs(count - share * cards.length)).toBeLessThanOrEqual(
      5 * Math.sqrt(cards.length * share * (1 - share)),
    );
  });
  it("stay with a key, and a greater share keeps the keys of a smaller one", () => {
    fc.assert(
      fc.property(
        fc.string(),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (card, a, b) => {
          if (challenged(card, Math.min(a, b))) expect(challenged(card, Math.max(a, b))).toBe(true);
          expect(challenged(card, a)).toBe(challenged(card, a));
        },
      ),
    );
  });
  it("are dealt out anew by another salt", () => {
    const both = cards.filter((card) => challenged(card, 0.5) && challenged(card, 0.5, "second")).length;
    expect(Math.abs(both - cards.length / 4)).toBeLessThan(5 * Math.sqrt(cards.length * 0.25 * 0.75));
  });
  it("without the key are the champion's", () => {
    expect(isChallenged("fraud", experiment, 1, null, hash64)).toBe(false);
  });
});

describe("what a ranking says of its serving", () => {
  const ranking = plan.services.find(({ name }) => name === "recommendation")!;
  const check = (more: object) => () => checkServing(plan, ranking, { ...recommendation, ...more });
  const outcome = (more: object) => ({
    labels: { ...recommendation.labels, outcome: { ...recommendation.labels!.outcome, ...more } },
  });

  it("deals by its user where nothing is declared, never by what is ranked", () => {
    const reversed = { ...plan, entities: [...plan.entities].reverse() };
    expect(experimentOf(reversed, ranking, { experiment: null }).key).toBe("user_id");
    for (const key of ["item_id", "category"]) {
      expect(check({ experiment: { key, challenger: 0.1 } })).toThrow(
        `service recommendation: ${key} may deal the candidates of one ranking apart`,
      );
    }
  });
  it("names the events that are judged, and those that judge them, by fields of its stream", () => {
    expect(check({})).not.toThrow();
    expect(check(outcome({ of: eq("kind", "view") }))).toThrow(
      "service recommendation: the judged events are told by kind",
    );
    for (const namedBy of ["impression", "position", "click_id"]) {
      expect(check(outcome({ namedBy }))).toThrow(`events are named by ${namedBy}, which holds no other event's id`);
    }
  });
});

describe("what a service says of its serving", () => {
  const refusal = (more: object) => {
    try {
      checkServing(modelPlan, modelPlan.services[0], modelDefinition(more));
    } catch (error) {
      const { code, message, repair } = error as { code: string; message: string; repair: string };
      return `${code}: ${message}; ${repair}`;
    }
    return "accepted";
  };
  it.each([
    ["nothing", {}, "accepted"],
    [
      "all of it",
      {
        experiment,
        log: { sample: 0.5, pii: ["country"] },
        decision: { review: 0.1, decline: 0.5 },
        gate: { metric: "roc_auc", tolerance: 0, guards: {} },
      },
      "accepted",
    ],
    [
      "an experiment by an unknown key",
      { experiment: { key: "shop", challenger: 0.1 } },
      "experiment_invalid: service fraud: experiment by shop; use one of",
    ],
    [
      "a share above 1",
      { experiment: { key: "card_id", challenger: 10 } },
      "experiment_invalid: service fraud: challenger gets 10; use a share from 0 to 1",
    ],
    ["a sample below 0", { log: { sample: -1, pii: [] } }, "log_invalid: service fraud: log samples -1"],
    [
      "pii that is no request field",
      { log: { sample: 1, pii: ["card_id"] } },
      "log_invalid: service fraud: pii card_id is no request field",
    ],
    [
      "limits the wrong way round",
      { decision: { review: 0.6, decline: 0.5 } },
      "decision_invalid: service fraud: 0 < review <= decline <= 1 must hold, given review 0.6 and decline 0.5",
    ],
    [
      "a gate that allows less than nothing",
      { gate: { metric: "x", tolerance: -1, guards: {} } },
      "gate_invalid: service fraud: the gate allows -1",
    ],
  ])("%s", (_, more, wanted) => expect(refusal(more)).toContain(wanted));

  it.each([
    ["card_id", "join key"],
    ["transaction_id", "event id"],
  ])("pii %s that the log keeps as it is", (name, what) => {
    const [service] = modelPlan.services;
    const plan = { ...modelPlan, streams: [{ eventId: "transaction_id" } as Stream] };
    const taken = { ...service, request: { ...service.request, [name]: "string" as const } };
    const definition = modelDefinition({ log: { sample: 1, pii: [name] } });
    expect(() => checkServing(plan, taken, definition)).toThrow(
      `service fraud: pii ${name} is a ${what} too, which is logged as it is`,
    );
  });
});
