import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { bucketOfValue, combineBuckets, percentileOf, valueOfBucket } from "../../../core/operators/buckets.ts";
import { runs } from "../../support/runs.ts";

const finite = fc.oneof(
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.integer({ min: -1e9, max: 1e9 }).map((n) => n / 100),
  fc
    .tuple(fc.integer({ min: -66, max: 66 }), fc.integer({ min: -2, max: 2 }))
    .map(([n, e]) => 2 ** n * (1 + e * 2 ** -52)),
);
const statesOf = (values: readonly number[]) =>
  values.map((value) => [bucketOfValue(value), 1]).reduce(combineBuckets, [] as readonly number[]);

describe("buckets of values", () => {
  it("keep the order of values, and mirror negative ones", () => {
    fc.assert(
      fc.property(finite, finite, (a, b) => {
        if (a < b) expect(bucketOfValue(a)).toBeLessThanOrEqual(bucketOfValue(b));
        expect(bucketOfValue(-a) - 32_768).toBe(32_768 - bucketOfValue(a));
        expect(bucketOfValue(a)).toBe(bucketOfValue(a + 0));
      }),
      { numRuns: runs(2_000) },
    );
  });

  it("have a middle within 1/128 of whatever is in them, and in them itself", () => {
    fc.assert(
      fc.property(finite, (value) => {
        const middle = valueOfBucket(bucketOfValue(value));
        expect(bucketOfValue(middle)).toBe(bucketOfValue(value));
        const size = Math.abs(value);
        if (size < 2 ** -64) expect(middle).toBe(0);
        else if (size < 2 ** 64) expect(Math.abs(middle - value)).toBeLessThanOrEqual(size / 128);
      }),
      { numRuns: runs(2_000) },
    );
  });

  it("end at both sides, where values are too large to tell apart", () => {
    expect([1.7e308, 2 ** 64, -(2 ** 64), 0, -0, 5e-324].map(bucketOfValue)).toEqual([
      40_960, 40_960, 24_576, 32_768, 32_768, 32_768,
    ]);
  });

  it.each([0.001, 0.01, 0.07, 0.25, 0.5, 0.95, 0.99, 0.99999])(
    "give the percentile %d within 1/128 of the exact one",
    (p) => {
      fc.assert(
        fc.property(
          fc.array(
            fc.integer({ min: -1e7, max: 1e7 }).map((n) => n / 100),
            { minLength: 1, maxLength: 300 },
          ),
          (values) => {
            const exact = [...values].sort((a, b) => a - b)[Math.ceil(Number((values.length * p).toFixed(6))) - 1];
            expect(Math.abs(percentileOf(statesOf(values), p)! - exact)).toBeLessThanOrEqual(Math.abs(exact) / 128);
          },
        ),
      );
    },
  );

  it("count 0.07 of a hundred values as seven", () => {
    const hundred = Array.from({ length: 100 }, (_, i) => i + 1);
    expect(percentileOf(statesOf(hundred), 0.07)).toBe(valueOfBucket(bucketOfValue(7)));
  });

  it("of nothing have no percentile", () => {
    expect(percentileOf([], 0.5)).toBeNull();
  });
});
