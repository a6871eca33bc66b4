import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  addSquares,
  addWide,
  OVERFLOWN,
  squareWide,
  wide,
  wideToBigInt,
  wideToNumber,
  ZERO,
} from "../../../core/operators/wide.ts";
import { runs } from "../../support/runs.ts";

const LIMIT = 2 ** 43;
/** Minor units as `toMinorUnits` lets them through, the largest often. */
const minor = fc.oneof(
  fc.constantFrom(0, 1, -1, LIMIT - 1, 1 - LIMIT, 2 ** 40, -(2 ** 40), 2 ** 40 - 1, 2 ** 22, 2 ** 42),
  fc.integer({ min: 1 - LIMIT, max: LIMIT - 1 }),
);

describe("wide integers", () => {
  it("hold every minor unit, low part never negative", () => {
    fc.assert(
      fc.property(minor, (x) => {
        const { hi, lo } = wide(x);
        expect(lo).toBeGreaterThanOrEqual(0);
        expect(lo).toBeLessThan(2 ** 40);
        expect(hi * 2 ** 40 + lo).toBe(x);
      }),
    );
  });

  it("add up as big integers do", () => {
    fc.assert(
      fc.property(fc.array(minor, { maxLength: 200 }), (list) => {
        const total = list.map(wide).reduce(addWide, ZERO);
        expect(wideToBigInt(total)).toBe(list.reduce((sum, x) => sum + BigInt(x), 0n));
      }),
    );
  });

  it("square as big integers do", () => {
    fc.assert(
      fc.property(minor, (x) => {
        expect(wideToBigInt(squareWide(x))).toBe(BigInt(x) ** 2n);
      }),
      { numRuns: runs(2_000) },
    );
  });

  it("sum squares as big integers do, up to 2^93, and stay full from there on", () => {
    fc.assert(
      fc.property(fc.array(minor, { maxLength: 100 }), fc.integer({ min: 1, max: 9_000 }), (list, times) => {
        let total = ZERO;
        let exact = 0n;
        for (let i = 0; i < times; i++) {
          const x = list[i % Math.max(1, list.length)] ?? 0;
          total = addSquares(total, squareWide(x));
          exact += BigInt(x) ** 2n;
        }
        if (exact < 2n ** 93n) expect(wideToBigInt(total)).toBe(exact);
        else expect(total).toBe(OVERFLOWN);
      }),
      { numRuns: runs(60) },
    );
  });

  it.each([
    [2n ** 53n - 1n, 2 ** 53 - 1],
    [2n ** 53n, null],
    [-(2n ** 53n) + 1n, -(2 ** 53) + 1],
    [-(2n ** 53n), null],
    [2n ** 60n, null],
    [-(2n ** 60n), null],
    [0n, 0],
    [-1n, -1],
  ])("are numbers as long as a double is exact: %s", (value, expected) => {
    const lo = Number(((value % 2n ** 40n) + 2n ** 40n) % 2n ** 40n);
    const hi = Number((value - BigInt(lo)) / 2n ** 40n);
    expect(wideToNumber({ hi, lo })).toBe(expected);
  });
});
