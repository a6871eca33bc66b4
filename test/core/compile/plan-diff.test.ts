import { describe, expect, it } from "vitest";
import { hash64 } from "../../../adapters/hash.ts";
import { compile, EMPTY_LOCK, type Lock } from "../../../core/compile/compile.ts";
import { describeWindow, diffPlans, viewsToBackfill } from "../../../core/compile/plan-diff.ts";
import * as d from "../../../core/definition.ts";
import type { Plan } from "../../../core/plan.ts";
import { card, contracts, payments } from "../../support/fixture-plan.ts";

const amount = () => d.sum("amount", { scale: 2 });

/** What a change does, in the words of `freshet plan`. */
function changes(
  before: Record<string, d.AggregationDefinition> | null,
  after: Record<string, d.AggregationDefinition>,
  ttl: d.Duration = "40d",
) {
  let lock = EMPTY_LOCK;
  const plans = [before, after].map((features, i): Plan | null => {
    if (features === null) return null;
    const view = d.featureView("v", {
      entity: card,
      source: payments,
      ttl: i === 0 ? "40d" : ttl,
      owner: "o",
      features,
    });
    const result = compile(
      { entities: [card], streams: [payments], views: [view], services: [] },
      contracts,
      lock,
      hash64,
    );
    lock = result.lock;
    return result.plan;
  });
  return diffPlans(plans[0], plans[1]!).map(({ kind, what, effect }) => `${kind} ${what}: ${effect}`);
}
const LATER =
  "NOT_READY until `freshet backfill --view v`, or until its window starts after its birth, about two minutes after the deployment";
const BEGINNING =
  "counts from the stream's beginning if the stream is new, else from its birth until `freshet backfill --view v`";

describe("diffPlans", () => {
  it("says nothing when nothing changes, words apart", () => {
    expect(changes({ n: d.count().over("1h") }, { n: d.count().over("1h").describe("payments") })).toEqual([]);
  });

  it("tells of another parameter, which means other values from the same slots", () => {
    const high = (p: number) => ({ high: d.approxPercentile("amount", { p }).over("24h") });
    expect(changes(high(0.9), high(0.95))).toEqual([
      "change v:high_24h: was approxPercentile 0.9 over 24h by 1h, becomes approxPercentile 0.95 over 24h by 1h; " +
        "ready at once: its slots are already filled",
    ]);
    const fading = (halfLife: d.Duration) => ({ sum: d.decayedSum("amount", { scale: 2, halfLife }).over("24h") });
    expect(changes(fading("6h"), fading("12h"))).toEqual([
      "change v:sum_24h: was decayedSum 6h over 24h by 1h, becomes decayedSum 12h over 24h by 1h; " +
        "ready at once: its slots are already filled",
    ]);
  });

  it("tells what a first deployment stores", () => {
    expect(
      changes(null, { n: d.count().over("1h"), big: d.count({ where: d.gt("amount", 10) }), s: amount().over("24h") }),
    ).toEqual([
      `add v:n_1h: count over 1h by 5m; ${BEGINNING}`,
      `add v:big: count over for ever; ${BEGINNING}`,
      `add v:s_24h: sum over 24h by 1h; ${BEGINNING}`,
      "store card:payments slot 0: count(events) is filled from its birth on",
      "store card:payments slot 1: count(events where …) is filled from its birth on",
      "store card:payments slot 2: count(amount × 10^2) is filled from its birth on",
      "store card:payments slot 128: sum(amount × 10^2) is filled from its birth on",
    ]);
  });

  it("tells a window that is ready at once from one that has to wait", () => {
    expect(changes({ n: d.count().over("24h") }, { n: d.count().over("24h", "12h").every("1h") })).toEqual([
      "add v:n_12h: count over 12h by 1h; ready at once: its slots are already filled",
    ]);
    expect(changes({ n: d.count().over("1h") }, { n: d.count().over("1h", "24h") })).toEqual([
      `add v:n_24h: count over 24h by 1h; ${LATER}`,
      "store card:payments slot 1: count(events) is filled from its birth on",
    ]);
  });

  it("tells which views have no history yet: of streams in use, with slots that were not filled", () => {
    const planOf = (lock: Lock, ...features: Record<string, d.AggregationDefinition>[]) =>
      compile(
        {
          entities: [card],
          streams: [payments],
          views: features.map((own, i) =>
            d.featureView(`v${i}`, { entity: card, source: payments, ttl: "40d", owner: "o", features: own }),
          ),
          services: [],
        },
        contracts,
        lock,
        hash64,
      );
    const before = planOf(EMPTY_LOCK, { n: d.count().over("24h") });
    expect(viewsToBackfill(null, before.plan)).toEqual([]);
    expect(viewsToBackfill(before.plan, before.plan)).toEqual([]);
    const after = planOf(
      before.lock,
      { n: d.count().over("24h") },
      { m: d.count().over("12h").every("1h") },
      { ever: d.count() },
    );
    expect(viewsToBackfill(before.plan, after.plan)).toEqual(["v2"]);
  });

  it("tells that a lifetime needs its history", () => {
    expect(changes({ n: d.count().over("1h") }, { n: d.count().over("1h"), ever: d.count() })[0]).toBe(
      "add v:ever: count over for ever; NOT_READY until `freshet backfill --view v`",
    );
  });

  it("tells what becomes of a removed feature and of its slot", () => {
    expect(changes({ n: d.count().over("1h"), low: d.min("amount").over("1h") }, { n: d.count().over("1h") })).toEqual([
      "remove v:low_1h: min over 1h by 5m is no longer served",
      "store card:payments slot 64: min(amount) is no longer filled and goes as its tiles age; its id is never used again",
    ]);
  });

  it("tells a changed meaning under an old name", () => {
    expect(changes({ n: d.count().over("24h") }, { n: d.count().over("24h").delayedBy("1h") })).toEqual([
      `change v:n_24h: was count over 24h by 1h, becomes count over 24h by 1h, delayed by 1h; ${LATER}`,
      "store card:payments slot 1: count(events) is filled from its birth on",
      "store card:payments slot 0: count(events) is no longer filled and goes as its tiles age; its id is never used again",
    ]);
    expect(
      changes(
        { low: d.min("amount").over("1h") },
        { low: d.min("amount", { where: d.gt("amount", 0) }).over("1h") },
      )[0],
    ).toBe(`change v:low_1h: min over 1h by 5m of another field or condition; ${LATER}`);
  });

  it("tells a new ttl, which takes effect with the next read", () => {
    expect(changes({ n: d.count().over("1h") }, { n: d.count().over("1h") }, "2d")).toEqual([
      "change v:n_1h: ttl 40d becomes 2d; applies to the next read",
    ]);
  });

  it("describes windows as people say them", () => {
    const windows = [d.count().over("24h"), d.count().over("7d").every("1d").delayedBy("2d"), d.count()];
    const described = windows.map((feature) => {
      const view = d.featureView("v", {
        entity: card,
        source: payments,
        ttl: "40d",
        owner: "o",
        features: { x: feature },
      });
      const { plan } = compile(
        { entities: [card], streams: [payments], views: [view], services: [] },
        contracts,
        EMPTY_LOCK,
        hash64,
      );
      return describeWindow(plan.views[0].features[0]);
    });
    expect(described).toEqual(["24h by 1h", "7d by 24h, delayed by 2d", "for ever"]);
  });
});
