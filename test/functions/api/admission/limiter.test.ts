/** Hosts before one store, with a clock that the test moves; the store is the model of core, which a real one is held to. */
import fc from "fast-check";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { ChargeRequest, TokenBuckets } from "../../../../adapters/online-store/token-buckets.ts";
import {
  type Bucket,
  charge,
  FULL,
  type Limit,
  settle,
  shortageOf,
  tokensLeft,
} from "../../../../core/token-bucket.ts";
import { createLimiter, type Decision, type Limiter } from "../../../../functions/api/admission/limiter.ts";
import { runs } from "../../../support/runs.ts";

const limit: Limit = { perSecond: 10, burst: 100, perDay: null };

/** @param aheadMs its clock, ahead of the hosts' */
function memoryStore(aheadMs = 0) {
  const buckets = new Map<string, Bucket>();
  const calls: ChargeRequest[] = [];
  const store: TokenBuckets & { fault: "refuses" | "hangs" | null; readonly calls: ChargeRequest[] } = {
    fault: null,
    calls,
    async charge(request) {
      if (store.fault === "refuses") throw new Error("connection refused");
      if (store.fault === "hangs") return new Promise(() => {});
      calls.push(request);
      const nowUs = (Date.now() + aheadMs) * 1_000;
      const name = `${request.tenant} ${request.routeClass}`;
      let bucket = settle(buckets.get(name) ?? FULL, request.limit, request.spent, nowUs);
      const admitted = request.cost > 0 && shortageOf(bucket, request.limit, request.cost, nowUs) === null;
      if (admitted) bucket = charge(bucket, request.limit, request.cost, nowUs);
      buckets.set(name, bucket);
      return { admitted, bucket, nowUs };
    },
  };
  const left = (tenant: string) => {
    const bucket = buckets.get(`${tenant} score`);
    return bucket && tokensLeft(bucket, limit, (Date.now() + aheadMs) * 1_000);
  };
  return { store, left };
}

function host(store: TokenBuckets | null, changes: boolean[] = []): Limiter {
  return createLimiter({ store, clock: Date.now, onFallback: (active) => changes.push(active) });
}
const isAdmitted = async (decision: Decision | Promise<Decision>) => (await decision).shortage === null;
const ask = (limiter: Limiter, cost = 1, tenant = "a") => limiter.admit(tenant, "score", limit, cost);

beforeEach(() => void vi.useFakeTimers({ now: 1_700_000_000_000 }));
afterEach(() => void vi.useRealTimers());

it("asks once, then decides by itself while there is plenty, and tells what it spent", async () => {
  const { store, left } = memoryStore();
  const limiter = host(store);
  expect(await isAdmitted(ask(limiter))).toBe(true);
  for (let i = 0; i < 30; i++) expect(ask(limiter)).not.toBeInstanceOf(Promise);
  expect(store.calls).toHaveLength(1);
  await vi.advanceTimersByTimeAsync(100);
  expect(store.calls.slice(1)).toMatchObject([{ spent: 30, cost: 0 }]);
  expect(left("a")).toBe(70);
  await vi.advanceTimersByTimeAsync(5_000);
  expect(store.calls).toHaveLength(2);
});

it("asks again when its picture is a second old, and tells with it what it has not told", async () => {
  const { store } = memoryStore();
  const limiter = host(store);
  await ask(limiter);
  ask(limiter, 5);
  vi.setSystemTime(Date.now() + 1_000);
  await ask(limiter, 2);
  expect(store.calls[1]).toMatchObject({ spent: 5, cost: 2 });
});

it("asks for each request near the limit, and lets no one beyond it", async () => {
  const { store } = memoryStore();
  const limiter = host(store);
  const admitted = await Promise.all(Array.from({ length: 150 }, () => isAdmitted(ask(limiter))));
  expect(admitted.filter(Boolean)).toHaveLength(100);
});

it("refuses by itself what it knows to be empty: a flood costs a call a second", async () => {
  const { store } = memoryStore();
  const limiter = host(store);
  await ask(limiter, 100);
  // A second of a thousand requests; ten of them find a token that has come back.
  let admitted = 0;
  for (let i = 0; i < 1_000; i++) {
    await vi.advanceTimersByTimeAsync(1);
    if (await isAdmitted(ask(limiter))) admitted++;
  }
  expect(admitted).toBe(10);
  expect(store.calls.length).toBeLessThanOrEqual(12);
  const { shortage } = await ask(limiter);
  expect(shortage).toEqual({ of: "rate", waitUs: 100_000 });
});

it("goes by the store's clock, whatever its own says", async () => {
  for (const aheadMs of [3_600_000, -3_600_000]) {
    const { store } = memoryStore(aheadMs);
    const limiter = host(store);
    expect(await isAdmitted(ask(limiter, 100))).toBe(true);
    expect(await isAdmitted(ask(limiter))).toBe(false);
    await vi.advanceTimersByTimeAsync(100);
    expect(await isAdmitted(ask(limiter))).toBe(true);
  }
});

it("shares one bucket with other hosts, within what each spends before it tells", async () => {
  const { store, left } = memoryStore();
  const hosts = [host(store), host(store), host(store)];
  let admitted = 0;
  for (let ms = 0; ms < 10_000; ms += 10) {
    for (const one of hosts) if (await isAdmitted(ask(one))) admitted++;
    await vi.advanceTimersByTimeAsync(10);
  }
  // Burst and ten seconds' tokens; each host may err by what it admits in 100 ms.
  expect(admitted).toBeGreaterThanOrEqual(195);
  expect(admitted).toBeLessThanOrEqual(200 + 3 * 10);
  expect(left("a")).toBeLessThanOrEqual(1);
});

it("decides by itself while the store fails, waits for it no more, and tells all of it afterwards", async () => {
  const { store, left } = memoryStore();
  const changes: boolean[] = [];
  const limiter = host(store, changes);
  store.fault = "refuses";
  const first = ask(limiter, 10);
  expect(await isAdmitted(first)).toBe(true);
  expect(changes).toEqual([true]);
  for (let i = 0; i < 90; i++) {
    const decision = ask(limiter);
    expect(decision).not.toBeInstanceOf(Promise);
    expect(await isAdmitted(decision)).toBe(true);
  }
  // The full rate of one bucket, and no more.
  expect(await isAdmitted(ask(limiter))).toBe(false);
  await vi.advanceTimersByTimeAsync(3_000);
  expect(changes).toEqual([true]);
  store.fault = null;
  await vi.advanceTimersByTimeAsync(1_000);
  expect(changes).toEqual([true, false]);
  expect(left("a")).toBe(0);
});

it("waits 50 ms for a store that hangs, once", async () => {
  const { store } = memoryStore();
  const changes: boolean[] = [];
  const limiter = host(store, changes);
  store.fault = "hangs";
  const decision = ask(limiter);
  await vi.advanceTimersByTimeAsync(50);
  expect(await isAdmitted(decision)).toBe(true);
  expect(changes).toEqual([true]);
  expect(ask(limiter)).not.toBeInstanceOf(Promise);
});

it("has buckets of its own where there is no store", async () => {
  const changes: boolean[] = [];
  const limiter = host(null, changes);
  expect(await isAdmitted(ask(limiter, 100))).toBe(true);
  expect(await isAdmitted(ask(limiter))).toBe(false);
  expect(await isAdmitted(ask(limiter, 1, "b"))).toBe(true);
  expect(changes).toEqual([]);
  expect(vi.getTimerCount()).toBe(0);
});

it("knows without asking what it would refuse, and takes nothing", async () => {
  const { store } = memoryStore();
  const limiter = host(store);
  expect(limiter.known("a", "score", limit)).toBeNull();
  await ask(limiter, 99);
  expect(limiter.known("a", "score", limit)).toBeNull();
  await ask(limiter, 1);
  expect(limiter.known("a", "score", limit)?.shortage).toEqual({ of: "rate", waitUs: 100_000 });
});

it("one host admits nothing that the bucket would not, and refuses nothing that it would have admitted 100 ms ago", async () => {
  const step = fc.record({ afterMs: fc.nat({ max: 1_500 }), cost: fc.integer({ min: 1, max: 60 }) });
  const limits = fc.record({
    perSecond: fc.constantFrom(1, 10, 200),
    burst: fc.integer({ min: 1, max: 120 }),
    perDay: fc.option(fc.integer({ min: 1, max: 900 }), { nil: null }),
  });
  await fc.assert(
    fc.asyncProperty(limits, fc.array(step, { maxLength: 40 }), async (some, steps) => {
      const { store } = memoryStore(12_345);
      const limiter = host(store);
      let bucket: Bucket = FULL;
      for (const { afterMs, cost } of steps) {
        await vi.advanceTimersByTimeAsync(afterMs);
        const nowUs = (Date.now() + 12_345) * 1_000;
        const admitted = await isAdmitted(limiter.admit("a", "score", some, cost));
        // What is told 100 ms late has come back 100 ms late.
        const late = { ...bucket, fullAtUs: Math.max(bucket.fullAtUs, nowUs - 100_000) + 100_000 };
        if (admitted) expect(shortageOf(bucket, some, cost, nowUs)).toBeNull();
        else expect(shortageOf(late, some, cost, nowUs)).not.toBeNull();
        if (admitted) bucket = charge(bucket, some, cost, nowUs);
      }
    }),
    { numRuns: runs(100) },
  );
});
