import fc from "fast-check";
import { expect, test } from "vitest";
import { CircuitBreaker } from "../../../adapters/online-store/circuit-breaker.ts";

const fail = (breaker: CircuitBreaker, times: number, atMs = 0) => {
  for (let i = 0; i < times; i++) breaker.failed(atMs);
};

test("opens at the fifth failure among the newest twenty calls, and says so once", () => {
  const changes: boolean[] = [];
  const breaker = new CircuitBreaker({}, (isOpen) => changes.push(isOpen));
  fail(breaker, 4);
  expect([breaker.isOpen, breaker.admit(0)]).toEqual([false, "call"]);
  fail(breaker, 3);
  expect([breaker.isOpen, changes]).toEqual([true, [true]]);
});

test("a failure now and then among many calls opens nothing, and neither do failures of long ago", () => {
  const breaker = new CircuitBreaker({});
  for (let i = 0; i < 1_000; i++) {
    if (i % 5 === 0) breaker.failed(i);
    else breaker.succeeded();
  }
  expect(breaker.isOpen).toBe(false);
  const slow = new CircuitBreaker({ windowMs: 10_000 });
  for (let i = 0; i < 100; i++) slow.failed(i * 3_000);
  expect(slow.isOpen).toBe(false);
});

test("while it is open nobody calls but one try every half second, and a success closes it", () => {
  const changes: boolean[] = [];
  const breaker = new CircuitBreaker({}, (isOpen) => changes.push(isOpen));
  fail(breaker, 5, 1_000);
  const asked = Array.from({ length: 200 }, (_, i) => breaker.admit(1_000 + i * 10));
  expect([...new Set(asked)]).toEqual(["skip", "probe"]);
  expect(asked.filter((admission) => admission === "probe")).toHaveLength(3);
  breaker.succeeded();
  expect([breaker.isOpen, breaker.admit(3_000), changes]).toEqual([false, "call", [true, false]]);
  // It begins with a clean sheet.
  fail(breaker, 4, 3_000);
  expect(breaker.isOpen).toBe(false);
});

test("after a long quiet a call is the try itself: what was known then is known no more", () => {
  const breaker = new CircuitBreaker({});
  breaker.admit(1_000);
  fail(breaker, 5, 1_000);
  expect([breaker.admit(60_000), breaker.admit(60_001)]).toEqual(["call", "skip"]);
  breaker.failed(60_100);
  expect([breaker.admit(60_200), breaker.admit(60_700)]).toEqual(["skip", "probe"]);
});

test("whatever happens: of calls that all fail, all but a bounded few are kept away", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 400 }), { minLength: 20, maxLength: 200 }), (gaps) => {
      const breaker = new CircuitBreaker({ quietMs: 100_000 });
      let nowMs = 0;
      let calls = 0;
      let probes = 0;
      for (const gap of gaps) {
        nowMs += gap;
        const admission = breaker.admit(nowMs);
        if (admission !== "skip") breaker.failed(nowMs);
        if (admission === "call") calls++;
        if (admission === "probe") probes++;
      }
      expect(calls).toBeLessThanOrEqual(5);
      expect(probes).toBeLessThanOrEqual(Math.ceil(nowMs / 500));
    }),
  );
});
