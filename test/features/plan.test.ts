/** The app's own definitions: recorded as they are, explained, and answerable. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { hash64 } from "../../adapters/hash.ts";
import { canonicalJson, compile, type Lock } from "../../core/compile/compile.ts";
import { diffPlans } from "../../core/compile/plan-diff.ts";
import type { Plan, Scalar } from "../../core/plan.ts";
import { createScorer } from "../../core/scoring/scoring.ts";
import { fraud } from "../../features/fraud.ts";
import { definitions } from "../../features/index.ts";
import { plan } from "../../features/plan.ts";
import { recommendation } from "../../features/recommendation.ts";
import { contracts } from "../../schemas/contracts.ts";

const read = (name: string) => JSON.parse(readFileSync(new URL(`../../features/${name}`, import.meta.url), "utf8"));
const snapshot = read("plan.snapshot.json") as Plan;
const lock = read("plan.lock.json") as Lock;

describe("what is recorded", () => {
  it("is the plan of the definitions: else run `freshet plan --write` and review the change", () => {
    expect(diffPlans(snapshot, plan)).toEqual([]);
    expect(canonicalJson(snapshot)).toBe(canonicalJson(plan));
  });

  it("are the ids of all that is stored", () => {
    expect(canonicalJson(compile(definitions, contracts, lock, hash64).lock)).toBe(canonicalJson(lock));
  });

  it("has no slot whose id the lock does not hold", () => {
    for (const group of plan.groups) {
      const locked = lock.groups[group.name];
      expect(locked.id).toBe(group.id);
      const ids = Object.values(locked.slots).map(({ id }) => id);
      for (const { id } of group.slots) expect(ids).toContain(id);
    }
  });
});

describe("the catalogue", () => {
  it("has views for card, merchant and device over transactions, for user over both, and for item over clicks", () => {
    expect(plan.groups.map(({ name }) => name).sort()).toEqual([
      "card:transactions",
      "device:transactions",
      "item:clicks",
      "merchant:transactions",
      "user:clicks",
      "user:transactions",
    ]);
  });

  it("uses hopping, delayed and lifetime windows, and most operators", () => {
    const features = plan.views.flatMap((view) => view.features);
    const windows = features.map(({ window }) => window);
    expect(windows.some((window) => window.kind === "lifetime")).toBe(true);
    expect(windows.some((window) => window.kind === "hopping" && window.delayMs > 0)).toBe(true);
    expect(new Set(features.map(({ operator }) => operator)).size).toBeGreaterThanOrEqual(7);
  });

  it.each(plan.views.map((view) => [view.name, view] as const))("%s says whose it is and what for", (_, view) => {
    expect(view.owner).toMatch(/^[a-z]+$/);
    expect(view.description).toMatch(/^[A-Z].+\.$/);
    expect(view.tags.length).toBeGreaterThan(0);
    expect(view.ttlMs).toBeGreaterThanOrEqual(view.reachMs ?? 0);
  });
});

describe("service fraud", () => {
  const service = plan.services.find(({ name }) => name === "fraud")!;
  const scorer = createScorer(service, fraud);

  it("sees each of its features once, of the four entities", () => {
    expect([...service.entities].sort()).toEqual(["card", "device", "merchant", "user"]);
    expect(new Set(service.features).size).toBe(service.features.length);
  });

  it("approves a payment of which nothing speaks against, even when nothing is known", () => {
    const request = { amount: 20, country: "DE" };
    expect(scorer.score(request, scorer.evaluate(request, null))).toMatchObject({
      decision: "approve",
      modelVersion: "rule-based-v1",
      contributions: [],
    });
  });

  it("explains a payment that looks like card testing", () => {
    const request = { amount: 1, country: "DE" };
    const stored = service.features.map((name) => {
      const value = { "card_activity:tx_count_5m": 9, "card_activity:declines_1h": 4 }[name] ?? null;
      return { value, status: value === null ? ("NULL_VALUE" as const) : ("PRESENT" as const), eventTimeMs: 1 };
    });
    const score = scorer.score(request, scorer.evaluate(request, stored))!;
    expect(score.decision).toBe("decline");
    expect(score.contributions.map(({ name }) => name)).toEqual(["card_testing", "declined_often"]);
  });
});

describe("service recommendation", () => {
  const service = plan.services.find(({ name }) => name === "recommendation")!;
  const scorer = createScorer(service, recommendation);
  const scoreOf = (known: Record<string, Scalar>, category: string | null) => {
    const stored = service.features.map((name) => {
      const value = known[name] ?? null;
      return { value, status: value === null ? ("NULL_VALUE" as const) : ("PRESENT" as const), eventTimeMs: 1 };
    });
    return scorer.score({ category }, scorer.evaluate({ category }, stored))!;
  };

  it("ranks items for a user", () => {
    expect(service).toMatchObject({ candidate: "item", entities: ["user", "item"] });
  });

  it("puts by its rules what is often clicked, and of the user's category, above what nothing is known of", () => {
    const popular = { "item_activity:shown_7d": 100, "item_activity:clicked_7d": 40 };
    const fits = { "user_clicks:last_category_7d": "travel" };
    const scores = [
      scoreOf({}, null),
      scoreOf(fits, "travel"),
      scoreOf(popular, "fuel"),
      scoreOf({ ...popular, ...fits }, "travel"),
    ].map(({ score }) => score);
    expect(scores).toEqual([...new Set(scores)].sort((a, b) => a - b));
    expect(scoreOf({ ...popular, ...fits }, "travel").decision).toBe("approve");
  });

  it("takes no single click for a success", () => {
    expect(scoreOf({ "item_activity:shown_7d": 1, "item_activity:clicked_7d": 1 }, null).contributions).toEqual([]);
  });
});
