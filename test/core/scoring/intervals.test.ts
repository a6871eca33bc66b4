import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  newcombe,
  type Part,
  pairedDifference,
  rateOverUnits,
  ratioDifference,
  wilson,
} from "../../../core/scoring/intervals.ts";

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

describe("intervals over units", () => {
  const units = fc.array(
    fc.nat(30).chain((of) => fc.record({ of: fc.constant(of), sum: fc.nat(of) })),
    { minLength: 2, maxLength: 60 },
  );
  const sums = (parts: readonly Part[]) => parts.reduce((all, { sum, of }) => [all[0] + sum, all[1] + of], [0, 0]);

  it("of one case each are Wilson's", () => {
    fc.assert(
      fc.property(fc.array(fc.boolean(), { minLength: 2, maxLength: 200 }), (cases) => {
        const found = rateOverUnits(cases.map((hit) => ({ sum: Number(hit), of: 1 })));
        const plain = wilson(cases.filter(Boolean).length, cases.length);
        expect([found.hits, found.of]).toEqual([plain.hits, plain.of]);
        expect([found.low, found.high]).toEqual([expect.closeTo(plain.low, 9), expect.closeTo(plain.high, 9)]);
      }),
    );
  });

  it("are never narrower than over as many independent cases, and hold the rate", () => {
    fc.assert(
      fc.property(units, (parts) => {
        const [hits, of] = sums(parts);
        const [found, plain] = [rateOverUnits(parts), wilson(hits, of)];
        expect(found.high - found.low).toBeGreaterThanOrEqual(plain.high - plain.low - 1e-9);
        if (found.rate === null) return;
        expect([found.low <= found.rate, found.high >= found.rate]).toEqual([true, true]);
        expect([found.low >= 0, found.high <= 1]).toEqual([true, true]);
      }),
    );
  });

  it("of units that repeat one case are those of the units", () => {
    const repeated = Array.from({ length: 50 }, (_, i) => ({ sum: i < 10 ? 20 : 0, of: 20 }));
    const [found, wanted] = [rateOverUnits(repeated), wilson(10, 50)];
    expect(found.of).toBe(1_000);
    // The design effect of n units is estimated with n - 1.
    expect([found.low, found.high]).toEqual([expect.closeTo(wanted.low, 2), expect.closeTo(wanted.high, 2)]);
    const never = repeated.map(({ of }) => ({ sum: 0, of }));
    expect(rateOverUnits(never)).toMatchObject({ rate: 0, low: 0, high: wilson(0, 50).high });
    const always = repeated.map(({ of }) => ({ sum: of, of }));
    expect(rateOverUnits(always)).toMatchObject({ rate: 1, low: wilson(50, 50).low, high: 1 });
  });

  it("are worked out by hand for four units", () => {
    // Ratio 4/8; deviations 1, 0, 0, -1; variance 2/64 * 4/3.
    const a = [
      { sum: 2, of: 2 },
      { sum: 1, of: 2 },
      { sum: 1, of: 2 },
      { sum: 0, of: 2 },
    ];
    const half = 1.959963984540054 * Math.sqrt((2 / 64) * (4 / 3));
    const b = a.map(({ of }) => ({ sum: 0.5, of }));
    expect(ratioDifference(a, b)).toEqual({
      difference: 0.25,
      low: expect.closeTo(0.25 - half, 12),
      high: expect.closeTo(0.25 + half, 12),
    });
    // What both sides share cancels out: without deviations of its own, b changes nothing.
    expect(pairedDifference(a, b)).toEqual(ratioDifference(a, b));
    expect(pairedDifference(a, a)).toEqual({ difference: 0, low: 0, high: 0 });
    expect(ratioDifference(a, [{ sum: 1, of: 1 }])).toBeNull();
    expect(pairedDifference([{ sum: 1, of: 1 }], [{ sum: 0, of: 1 }])).toBeNull();
  });
});
