import { describe, expect, it } from "vitest";
import { hash64 } from "../../../adapters/hash.ts";
import { compareArms, compareShadows, type Difference, type Outcome } from "../../../core/scoring/arms.ts";
import { isChallenged } from "../../../core/scoring/variant.ts";
import { runs } from "../../support/runs.ts";

describe("arms", () => {
  let units = 0;
  const cases = (arm: string, count: number, one: Omit<Outcome, "arm" | "unit">): Outcome[] =>
    Array.from({ length: count }, () => ({ arm, unit: `u${units++}`, ...one }));
  const of = (arm: string, truePositives: number, score = 0.9) => [
    ...cases(arm, truePositives, { score, declined: true, positive: true }),
    ...cases(arm, 100 - truePositives, { score: 0.2, declined: false, positive: true }),
    ...cases(arm, 50, { score: 0.8, declined: true, positive: false }),
    ...cases(arm, 850, { score: 0.1, declined: false, positive: false }),
    ...cases(arm, 10, { score: 0.1, declined: false, positive: null }),
  ];

  it("are counted, the baseline first", () => {
    const { arms } = compareArms([...of("a", 60), ...of("champion", 50)], "champion");
    expect(arms.map(({ arm, units, scored, labelled }) => [arm, units, scored, labelled])).toEqual([
      ["champion", 1010, 1010, 1000],
      ["a", 1010, 1010, 1000],
    ]);
    const { rates, meanScore } = arms[1];
    expect(rates).toMatchObject({
      decline_rate: { hits: 110, of: 1010 },
      precision: { hits: 60, of: 110 },
      recall: { hits: 60, of: 100 },
      false_positive_rate: { hits: 50, of: 900 },
      fraud_rate: { hits: 100, of: 1000 },
    });
    expect(meanScore).toBeCloseTo((60 * 0.9 + 40 * 0.2 + 50 * 0.8 + 860 * 0.1) / 1010, 12);
  });

  it("differ significantly only where the interval leaves 0 out", () => {
    const recallOf = (found: number) =>
      compareArms([...of("champion", 50), ...of("a", found)], "champion").differences[0].of.find(
        ({ name }) => name === "recall",
      )!;
    expect(recallOf(55)).toMatchObject({ difference: expect.closeTo(0.05, 12), significant: false });
    expect(recallOf(80)).toMatchObject({ difference: expect.closeTo(0.3, 12), significant: true });
    expect(recallOf(20)).toMatchObject({ significant: true });
  });

  it("without a baseline are not compared", () => {
    expect(compareArms(of("a", 1), "champion").differences).toEqual([]);
  });
});

/** Small, fast and the same on every machine: multiplier and increment of Numerical Recipes' `ranqd1`. */
function draws(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

describe("where nothing differs", () => {
  const DEALS = runs(400);
  /** Five in a hundred, and four standard deviations of a binomial count. */
  const CHANCE = 0.05 + 4 * Math.sqrt((0.05 * 0.95) / DEALS);
  const share = (found: readonly boolean[]) => found.filter(Boolean).length / found.length;
  const random = draws(7);
  /** Scores of a card are alike: some cards are declined often, most of them never, and few cards pay often. */
  const cards = Array.from({ length: 500 }, (_, card) => {
    const risk = random() ** 4;
    return Array.from({ length: 1 + Math.floor(30 * random() ** 3) }, () => {
      const score = 0.8 * risk + 0.2 * random();
      return { unit: `c${card}`, score, declined: score > 0.35, positive: random() < risk };
    });
  });
  const rows = cards.flat();
  const found = (differences: readonly Difference[]) =>
    Object.fromEntries(differences.map(({ name, significant }) => [name, significant]));
  const NAMES = ["decline_rate", "precision", "recall", "false_positive_rate", "fraud_rate", "mean_score"];

  /** The same model in both arms, cards dealt anew each time. @returns how often each figure is told to differ */
  function falseAlarms(count: number, unitOf: (unit: string, row: number) => string) {
    const deals = Array.from({ length: count }, (_, deal) => {
      const dealt = new Map(
        cards.map(([{ unit }]) => [
          unit,
          isChallenged("s", { key: "k", challenger: 0.5, salt: `${deal}` }, 0.5, unit, hash64),
        ]),
      );
      const outcomes = rows.map((row, i) => ({
        ...row,
        arm: dealt.get(row.unit) ? "challenger" : "champion",
        unit: unitOf(row.unit, i),
      }));
      return found(compareArms(outcomes, "champion").differences[0].of);
    });
    return Object.fromEntries(NAMES.map((name) => [name, share(deals.map((deal) => deal[name]))]));
  }

  it("arms of dealt cards are told to differ one time in twenty", () => {
    const alarms = falseAlarms(DEALS, (unit) => unit);
    for (const name of NAMES) expect([name, alarms[name] <= CHANCE, alarms[name]]).toEqual([name, true, alarms[name]]);
    // Not by intervals that hold everything: some chance is left to err.
    expect(alarms["mean_score"]).toBeGreaterThan(0.01);
  });

  it("which scores taken as independent would not do", () => {
    // Far more often, which shows in few deals.
    const alarms = falseAlarms(DEALS / 4, (_, row) => `row ${row}`);
    expect(alarms["decline_rate"]).toBeGreaterThan(0.25);
    expect(alarms["mean_score"]).toBeGreaterThan(0.25);
  });

  it("shadows that err alike, card by card, are told to differ one time in twenty", () => {
    const alarms = Array.from({ length: DEALS }, () => {
      const pairs = cards.flatMap((card) => {
        // What a model thinks of a card goes through all its scores.
        const lean = 0.3 * (random() - 0.5);
        return card.map(({ unit, positive, score }) => ({
          ...{ unit, positive },
          champion: { arm: "champion", score, declined: score > 0.35 },
          shadow: { arm: "shadow", score: score + lean, declined: score + lean > 0.35 },
        }));
      });
      return found(compareShadows(pairs)[0].of);
    });
    expect(share(alarms.map((one) => one["mean_score"]))).toBeLessThanOrEqual(CHANCE);
    expect(share(alarms.map((one) => one["mean_score"]))).toBeGreaterThan(0.01);
  });
});

describe("a shadow", () => {
  const verdict = (arm: string, declined: boolean) => ({ arm, score: declined ? 0.9 : 0.1, declined });
  /** 1000 cards; the champion declines 300, the shadow those and `more`. */
  const pairs = (more: number) =>
    Array.from({ length: 1_000 }, (_, i) => ({
      unit: `c${i}`,
      positive: i % 2 === 0,
      champion: verdict("champion m@1", i < 300),
      shadow: verdict("shadow m@2", i < 300 + more),
    }));

  it("is held to the champion row by row: what both decide alike is no chance", () => {
    const [{ champion, shadow, of }, ...more] = compareShadows(pairs(12));
    expect(more).toEqual([]);
    expect([champion.arm, shadow.arm, champion.scored, shadow.scored]).toEqual([
      "champion m@1",
      "shadow m@2",
      1_000,
      1_000,
    ]);
    const declines = of.find(({ name }) => name === "decline_rate")!;
    expect(declines).toMatchObject({ difference: expect.closeTo(0.012, 12), significant: true });
    // Two arms of other cards would have to differ far more.
    const apart = pairs(12).flatMap(({ unit, positive, ...two }, i) => [
      { unit: `a${i}`, positive, ...two.champion },
      { unit: `b${i}`, positive, ...two.shadow },
    ]);
    const [{ of: unpaired }] = compareArms(apart, "champion m@1").differences;
    expect(unpaired.find(({ name }) => name === "decline_rate")).toMatchObject({ significant: false });
  });

  it("that decides alike does not differ, and is not asked what the cases are", () => {
    const [{ of }] = compareShadows(pairs(0));
    expect(of.map(({ name }) => name)).toEqual([
      "decline_rate",
      "precision",
      "recall",
      "false_positive_rate",
      "mean_score",
    ]);
    for (const one of of) expect(one).toMatchObject({ difference: 0, low: 0, high: 0, significant: false });
  });

  it("is compared with each champion that it stood beside apart", () => {
    const [first, second] = [pairs(0)[0], pairs(0)[1]];
    const later = { ...second, champion: verdict("champion m@2", false) };
    expect(compareShadows([first, later]).map(({ champion, shadow }) => [champion.arm, shadow.scored])).toEqual([
      ["champion m@1", 1],
      ["champion m@2", 1],
    ]);
  });
});
