import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { compareArms, newcombe, type Outcome, wilson } from "../../core/arms.ts";

const near = (wanted: number) => expect.closeTo(wanted, 4);

describe("intervals", () => {
  it.each([
    // Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
    [81, 263, 0.2553, 0.3662],
    [15, 148, 0.0624, 0.1605],
    [0, 20, 0, 0.1611],
    [1, 29, 0.0061, 0.1718],
  ])("Wilson's of %d of %d", (hits, of, low, high) => {
    expect(wilson(hits, of)).toMatchObject({ low: near(low), high: near(high) });
  });

  it.each([
    // Newcombe 1998, "Interval estimation for the difference between independent proportions", table II, method 10.
    [56, 70, 48, 80, 0.0524, 0.3339],
    [9, 10, 3, 10, 0.1705, 0.809],
    [10, 10, 0, 20, 0.6791, 1],
  ])("Newcombe's of %d/%d and %d/%d", (a, m, b, n, low, high) => {
    const found = newcombe(wilson(a, m), wilson(b, n))!;
    expect([found.low, Math.min(1, found.high)]).toEqual([near(low), near(high)]);
  });

  it("hold the rate, lie between 0 and 1, and are null over nothing", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 500 }), fc.double({ min: 0, max: 1, noNaN: true }), (of, share) => {
        const { rate, low, high } = wilson(Math.round(of * share), of);
        expect(low).toBeGreaterThanOrEqual(0);
        expect(high).toBeLessThanOrEqual(1);
        expect(rate!).toBeGreaterThanOrEqual(low);
        expect(rate!).toBeLessThanOrEqual(high);
      }),
    );
    expect(wilson(0, 0)).toEqual({ hits: 0, of: 0, rate: null, low: 0, high: 1 });
    expect(newcombe(wilson(0, 0), wilson(1, 2))).toBeNull();
  });
});

describe("arms", () => {
  const cases = (arm: string, count: number, one: Omit<Outcome, "arm">): Outcome[] =>
    Array.from({ length: count }, () => ({ arm, ...one }));
  const of = (arm: string, truePositives: number, score = 0.9) => [
    ...cases(arm, truePositives, { score, declined: true, positive: true }),
    ...cases(arm, 100 - truePositives, { score: 0.2, declined: false, positive: true }),
    ...cases(arm, 50, { score: 0.8, declined: true, positive: false }),
    ...cases(arm, 850, { score: 0.1, declined: false, positive: false }),
    ...cases(arm, 10, { score: 0.1, declined: false, positive: null }),
  ];

  it("are counted, the baseline first", () => {
    const { arms } = compareArms([...of("a", 60), ...of("champion", 50)], "champion");
    expect(arms.map(({ arm, scored, labelled }) => [arm, scored, labelled])).toEqual([
      ["champion", 1010, 1000],
      ["a", 1010, 1000],
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
