import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type Bucket,
  charge,
  DAY_US,
  FULL,
  isPlenty,
  type Limit,
  leftToday,
  settle,
  shortageOf,
  tokensLeft,
} from "../../core/token-bucket.ts";

const SECOND = 1_000_000;
const NOW = 20_000 * DAY_US + 3_600 * SECOND;

/** Drips and spends, as the words say it. */
class NaiveBucket {
  private tokens: number;
  private atUs = NOW;
  private readonly used = new Map<number, number>();
  private readonly limit: Limit;
  constructor(limit: Limit) {
    this.limit = limit;
    this.tokens = limit.burst;
  }
  take(cost: number, nowUs: number): boolean {
    const { perSecond, burst, perDay } = this.limit;
    this.tokens = Math.min(burst, this.tokens + ((nowUs - this.atUs) / SECOND) * perSecond);
    this.atUs = nowUs;
    const day = Math.floor(nowUs / DAY_US);
    const used = this.used.get(day) ?? 0;
    if (this.tokens < Math.min(cost, burst) || (perDay !== null && used + cost > perDay)) return false;
    this.tokens -= cost;
    this.used.set(day, used + cost);
    return true;
  }
}

// Powers of two, so that the naive bucket's tokens are exact.
const limits = fc.record({
  perSecond: fc.constantFrom(0.5, 1, 4, 64),
  burst: fc.integer({ min: 1, max: 20 }),
  perDay: fc.option(fc.integer({ min: 1, max: 60 }), { nil: null }),
});
const steps = fc.array(
  fc.record({
    afterUs: fc.integer({ min: 0, max: 40 }).map((n) => n * 250_000),
    cost: fc.integer({ min: 1, max: 30 }),
  }),
  { maxLength: 60 },
);

describe("a token bucket", () => {
  it("admits what a bucket that drips would, midnight included", () => {
    fc.assert(
      fc.property(limits, steps, fc.constantFrom(0, 22.999 * 3_600 * SECOND), (limit, all, lateUs) => {
        const naive = new NaiveBucket(limit);
        let bucket: Bucket = FULL;
        let nowUs = NOW + lateUs;
        for (const { afterUs, cost } of all) {
          nowUs += afterUs;
          const shortage = shortageOf(bucket, limit, cost, nowUs);
          expect(shortage === null).toBe(naive.take(cost, nowUs));
          if (shortage === null) bucket = charge(bucket, limit, cost, nowUs);
        }
      }),
    );
  });

  it("says how long to wait: then it admits, and just before it does not", () => {
    fc.assert(
      fc.property(limits, steps, fc.integer({ min: 1, max: 30 }), (limit, all, cost) => {
        const open = { ...limit, perDay: null };
        const bucket = all.reduce<Bucket>((one, step) => charge(one, open, step.cost, NOW), FULL);
        const shortage = shortageOf(bucket, open, cost, NOW);
        if (shortage === null) return;
        expect(shortage.of).toBe("rate");
        expect(shortageOf(bucket, open, cost, NOW + Math.ceil(shortage.waitUs))).toBeNull();
        expect(shortageOf(bucket, open, cost, NOW + shortage.waitUs - 1)).not.toBeNull();
      }),
    );
  });

  it("counts a day's tokens until midnight UTC", () => {
    const limit = { perSecond: 1_000, burst: 1_000, perDay: 10 };
    const bucket = charge(FULL, limit, 8, NOW);
    expect(leftToday(bucket, limit, NOW)).toBe(2);
    expect(shortageOf(bucket, limit, 2, NOW)).toBeNull();
    expect(shortageOf(bucket, limit, 3, NOW)).toEqual({ of: "quota", waitUs: 23 * 3_600 * SECOND });
    // No day has as many.
    expect(shortageOf(FULL, limit, 11, NOW)).toEqual({ of: "quota", waitUs: Number.POSITIVE_INFINITY });
    expect(leftToday(bucket, limit, NOW + 23 * 3_600 * SECOND)).toBe(10);
  });

  it("is emptied by what was spent elsewhere, and never in debt for it", () => {
    const limit = { perSecond: 10, burst: 100, perDay: null };
    expect(tokensLeft(settle(FULL, limit, 30, NOW), limit, NOW)).toBe(70);
    const empty = settle(FULL, limit, 1_000_000, NOW);
    expect(tokensLeft(empty, limit, NOW)).toBe(0);
    expect(shortageOf(empty, limit, 1, NOW)?.waitUs).toBe(100_000);
    // A debt that was admitted stays.
    const debt = charge(FULL, limit, 300, NOW);
    expect(settle(debt, limit, 5, NOW).fullAtUs).toBe(debt.fullAtUs);
  });

  it("has plenty while half of it, and a burst of the day, would be left", () => {
    const limit = { perSecond: 10, burst: 100, perDay: null };
    expect(isPlenty(FULL, limit, 50, NOW)).toBe(true);
    expect(isPlenty(FULL, limit, 51, NOW)).toBe(false);
    expect(isPlenty(charge(FULL, limit, 40, NOW), limit, 11, NOW)).toBe(false);
    expect(isPlenty(FULL, { ...limit, perDay: 110 }, 10, NOW)).toBe(true);
    expect(isPlenty(FULL, { ...limit, perDay: 110 }, 11, NOW)).toBe(false);
  });
});
