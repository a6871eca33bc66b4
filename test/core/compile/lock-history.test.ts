import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { hash64 } from "../../../adapters/hash.ts";
import { compile, EMPTY_LOCK, type Lock } from "../../../core/compile/compile.ts";
import { followLock } from "../../../core/compile/lock-history.ts";
import * as d from "../../../core/definition.ts";
import { featureSet } from "../../support/feature-sets.ts";
import { card, contracts, payments, shop } from "../../support/fixture-plan.ts";

type Features = Record<string, d.AggregationDefinition>;
const evolve = (lock: Lock, features: Features, entity = card): Lock => {
  const views =
    Object.keys(features).length === 0
      ? []
      : [d.featureView("v", { entity, source: payments, ttl: "3650d", owner: "o", features })];
  return compile({ entities: [card, shop], streams: [payments], views, services: [] }, contracts, lock, hash64).lock;
};
const amount = () => d.sum("amount", { scale: 2 });
const first = evolve(EMPTY_LOCK, { n: d.count().over("1h") });
const refusal = (known: Lock, given: Lock): string => {
  try {
    followLock(known, given);
  } catch (error) {
    return (error as Error).message;
  }
  return "";
};

describe("a lock is refused", () => {
  it("when a slot's id means something else", () => {
    const known = evolve(first, { n: d.count().over("1h"), s: amount().over("1h") });
    const given = evolve(first, { n: d.count().over("1h"), s: d.sum("amount", { scale: 3 }).over("1h") });
    expect(refusal(known, given)).toMatch(
      /^slot cell 128 of card:payments is sum\{.*"scale":3.*\} in this features\/plan.lock.json, but sum\{.*"scale":2/,
    );
  });

  it("when a tile size has another id, or is folded from others", () => {
    const known = evolve(first, { n: d.count().over("1h"), six: d.count().over("6h").every("6m") });
    const given = evolve(first, { n: d.count().over("1h"), six: d.count().over("6h").every("10m") });
    expect(refusal(known, given)).toMatch(/^level \d of card:payments is tiles of 600000 ms .* but tiles of 360000 ms/);
  });

  it("when a pair of entity and stream takes another's id, or has another base", () => {
    const known = evolve(EMPTY_LOCK, { n: d.count().over("1h") }, shop);
    expect(refusal(known, first)).toMatch(
      /^group 1 of the store is card:payments in this .*, but shop:payments in what/,
    );
    const other = structuredClone(first) as { groups: Record<string, { baseMs: number }> };
    other.groups["card:payments"].baseMs = 1_000;
    expect(refusal(first, other as Lock)).toMatch(/^the base of card:payments is 1000 ms in this .*, but 60000 ms/);
  });
});

it("an older lock of the same line is followed: what is newer stays known, and retired", () => {
  const known = evolve(first, { n: d.count().over("1h"), s: amount().over("1h") });
  const { lock, overclaimed } = followLock(known, first);
  const [sum] = Object.keys(lock.groups["card:payments"].slots).filter((key) => key.startsWith("sum"));
  expect(lock.groups["card:payments"].slots[sum]).toEqual({ id: 128, levels: [], windows: [] });
  expect(overclaimed).toEqual([]);
});

it("a slot that was kept for less meanwhile is told", () => {
  const day = evolve(EMPTY_LOCK, { n: d.count().over("24h") });
  const half = evolve(day, { n: d.count().over("12h").every("1h") });
  expect(followLock(half, day).overclaimed).toEqual([{ group: "card:payments", object: false, id: 0 }]);
  expect(followLock(followLock(half, day).lock, day).overclaimed).toEqual([]);
});

const steps = fc.array(featureSet(4), { minLength: 1, maxLength: 4 });

it("deployments that follow each other, each under the lock of the one before, are never refused and begin nothing anew", () => {
  fc.assert(
    fc.property(steps, (list) => {
      let known = EMPTY_LOCK;
      let lock = EMPTY_LOCK;
      for (const features of list) {
        lock = evolve(lock, features);
        const step = followLock(known, lock);
        expect(step.overclaimed).toEqual([]);
        expect(step.lock).toEqual(lock);
        known = step.lock;
      }
    }),
    { seed: 20_260_106 },
  );
});

it("whatever branch of the past comes back, an id that is let through means one thing", () => {
  const meanings = (lock: Lock) =>
    Object.entries(lock.groups).flatMap(([name, { slots, levels }]) => [
      ...Object.entries(slots).map(([key, { id }]) => [
        `${name} ${/^(first|last|distinct|buckets|tally)/.test(key) ? "object" : "cell"} ${id}`,
        key,
      ]),
      ...Object.entries(levels).map(([size, { id, parts }]) => [`${name} level ${id}`, `${size}/${parts}`]),
    ]);
  let refused = 0;
  fc.assert(
    fc.property(steps, fc.nat(3), steps, (trunk, at, branch) => {
      const locks = [EMPTY_LOCK];
      for (const features of trunk) locks.push(evolve(locks[locks.length - 1], features));
      let known = locks[locks.length - 1];
      let lock = locks[Math.min(at, locks.length - 1)];
      const meaning = new Map(meanings(known) as [string, string][]);
      for (const features of branch) {
        lock = evolve(lock, features);
        const contradicts = meanings(lock).some(([id, what]) => (meaning.get(id) ?? what) !== what);
        if (contradicts) {
          refused++;
          expect(() => followLock(known, lock)).toThrow("in what is stored");
          return;
        }
        try {
          known = followLock(known, lock).lock;
        } catch {
          // One meaning under two ids is refused as well.
          return;
        }
        for (const [id, what] of meanings(known)) {
          expect(meaning.get(id) ?? what).toBe(what);
          meaning.set(id, what);
        }
      }
    }),
    { seed: 20_260_107 },
  );
  expect(refused).toBeGreaterThan(10);
});
