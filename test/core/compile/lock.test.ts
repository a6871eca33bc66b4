/** What definitions may become without a stored byte being read for what it is not. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { hash64 } from "../../../adapters/hash.ts";
import { canonicalJson, compile, EMPTY_LOCK, type Lock } from "../../../core/compile/compile.ts";
import { keptFor, windowText } from "../../../core/compile/lock.ts";
import * as d from "../../../core/definition.ts";
import type { Group, Plan, Slot } from "../../../core/plan.ts";
import { featureSet } from "../../support/feature-sets.ts";
import { card, contracts, payments, shop } from "../../support/fixture-plan.ts";
import { runs } from "../../support/runs.ts";

type Features = Record<string, d.AggregationDefinition>;
function evolve(lock: Lock, features: Features, entity = card): { plan: Plan; lock: Lock } {
  const views =
    Object.keys(features).length === 0
      ? []
      : [d.featureView("v", { entity, source: payments, ttl: "3650d", owner: "o", features })];
  return compile({ entities: [card, shop], streams: [payments], views, services: [] }, contracts, lock, hash64);
}
/** Plans of definitions that follow each other, each under the lock of the one before. */
function history(...steps: Features[]): Plan[] {
  let lock = EMPTY_LOCK;
  return steps.map((features) => {
    const result = evolve(lock, features);
    lock = result.lock;
    return result.plan;
  });
}
const slotsOf = (plan: Plan, feature: string): Slot[] =>
  plan.views[0].features.find(({ name }) => name === `v:${feature}`)!.slots.map((index) => plan.groups[0].slots[index]);
const ids = (plan: Plan, feature: string) => slotsOf(plan, feature).map(({ id }) => id);
const level = (group: Group, sizeMs: number) => group.levels.find((candidate) => candidate.sizeMs === sizeMs);
const partsOf = (group: Group, sizeMs: number) => group.levels[level(group, sizeMs)!.parts].sizeMs;
const MINUTE = 60_000;
const amount = () => d.sum("amount", { scale: 2 });

describe("ids", () => {
  it("stay when features are added, moved or described anew", () => {
    const [before, after] = history(
      { n: d.count().over("1h"), s: amount().over("1h") },
      {
        last: d.last("country"),
        s: amount().over("1h").describe("spent"),
        m: d.min("amount").over("5m"),
        n: d.count().over("1h"),
      },
    );
    expect(ids(after, "n_1h")).toEqual(ids(before, "n_1h"));
    expect(ids(after, "s_1h")).toEqual(ids(before, "s_1h"));
    expect(after.groups[0].id).toBe(before.groups[0].id);
    expect(level(after.groups[0], 300_000)!.id).toBe(level(before.groups[0], 300_000)!.id);
  });

  it("of a removed slot are retired: the same feature gets another when it comes back", () => {
    const plans = history(
      { n: d.count().over("1h"), s: amount().over("1h") },
      { s: amount().over("1h") },
      { n: d.count().over("1h"), s: amount().over("1h") },
    );
    expect(ids(plans[2], "s_1h")).toEqual(ids(plans[0], "s_1h"));
    expect(ids(plans[2], "n_1h")).not.toEqual(ids(plans[0], "n_1h"));
  });

  it("of a group are retired with it", () => {
    const plans = history({ n: d.count().over("1h") }, {}, { n: d.count().over("1h") });
    expect(plans[2].groups[0].id).toBe(plans[0].groups[0].id);
    expect(ids(plans[2], "n_1h")).not.toEqual(ids(plans[0], "n_1h"));
  });

  it("of another entity's group are its own", () => {
    const first = evolve(EMPTY_LOCK, { n: d.count().over("1h") });
    const second = evolve(first.lock, { n: d.count().over("1h") }, shop);
    expect([first.plan.groups[0].id, second.plan.groups[0].id]).toEqual([1, 2]);
    expect(ids(second.plan, "n_1h")).toEqual(ids(first.plan, "n_1h"));
  });

  it("give every kind its class, so that a tile tells the size of a cell it doesn't know", () => {
    const { plan } = evolve(EMPTY_LOCK, {
      n: d.count(),
      low: d.min("amount"),
      high: d.max("amount"),
      s: amount(),
      v: d.variance("amount", { scale: 2 }),
      f: d.first("country"),
      l: d.last("country"),
      u: d.approxDistinct("shop"),
    });
    const classes = { count: 0, min: 1, max: 1, sum: 2, squares: 3 } as Record<string, number>;
    const cells = plan.groups[0].slots.filter(({ kind }) => kind in classes);
    expect(cells.map(({ kind, id }) => [kind, id >> 6])).toEqual(cells.map(({ kind }) => [kind, classes[kind]]));
    expect(new Set(cells.map(({ id }) => id)).size).toBe(cells.length);
    expect(plan.groups[0].slots.filter(({ kind }) => !(kind in classes)).map(({ id }) => id)).toEqual([0, 1, 2]);
  });
});

describe("a window that a slot was not kept for gets a slot of its own", () => {
  const windows: readonly [string, d.AggregationDefinition, d.AggregationDefinition, boolean][] = [
    ["longer, whose older tiles are gone", d.count().over("1h"), d.count().over("1h", "24h"), true],
    ["with a lifetime, of which nothing was absorbed", d.count().over("24h"), d.count().over("24h", "lifetime"), true],
    ["with another hop, at which nothing was folded", d.count().over("1h"), d.count().over("1h").every("6m"), true],
    ["that reaches back further by its delay", d.count().over("24h"), d.count().over("24h").delayedBy("1h"), true],
    ["longer than a delayed one that reaches as far", d.count().over("2h").delayedBy("4h"), d.count().over("6h"), true],
    ["shorter, of the same hop", d.count().over("6h"), d.count().over("2h"), false],
    ["delayed, within what is kept", d.count().over("10h"), d.count().over("2h").delayedBy("4h"), false],
    ["the same", d.count().over("24h", "lifetime"), d.count().over("lifetime", "24h"), false],
  ];
  it.each(windows)("%s", (_, before, after, fresh) => {
    const plans = history({ n: before, s: amount().over("1h") }, { n: after, s: amount().over("1h") });
    const known = new Set(plans[0].groups[0].slots.map(({ id }) => id));
    const added = plans[1].groups[0].slots.filter(({ id }) => !known.has(id));
    expect(added.length > 0).toBe(fresh);
  });

  it("while windows that were there keep theirs, and stay ready", () => {
    const [before, after] = history(
      { n: d.count().over("1h", "24h") },
      { n: d.count().over("1h", "24h", "7d", "lifetime") },
    );
    for (const name of ["n_1h", "n_24h"]) expect(ids(after, name)).toEqual(ids(before, name));
    expect(ids(after, "n_7d")).toEqual(ids(after, "n_lifetime"));
    expect(ids(after, "n_7d")).not.toEqual(ids(before, "n_24h"));
  });

  it("even when it was there once: between, its tiles were not kept", () => {
    const plans = history(
      { n: d.count().over("1h", "24h") },
      { n: d.count().over("1h") },
      { n: d.count().over("1h", "24h") },
    );
    expect(ids(plans[2], "n_1h")).toEqual(ids(plans[0], "n_1h"));
    expect(ids(plans[2], "n_24h")).not.toEqual(ids(plans[0], "n_24h"));
  });

  it("an older slot is never read at a size that came later", () => {
    const [before, after] = history(
      { n: d.count().over("7d") },
      {
        n: d.count().over("7d"),
        six: d
          .count({ where: d.eq("country", "NO") })
          .over("12h")
          .every("6h"),
      },
    );
    expect(level(before.groups[0], 6 * 60 * MINUTE)).toBeUndefined();
    const sizes = (plan: Plan) => slotsOf(plan, "n_7d")[0].levels.map((index) => plan.groups[0].levels[index].sizeMs);
    expect(level(after.groups[0], 6 * 60 * MINUTE)).toBeDefined();
    expect(sizes(after)).toEqual(sizes(before));
    // A slot that is new takes it.
    const [fresh] = history({
      n: d.count().over("7d"),
      six: d
        .count({ where: d.eq("country", "NO") })
        .over("12h")
        .every("6h"),
    });
    expect(sizes(fresh)).toContain(6 * 60 * MINUTE);
  });
});

describe("tile sizes", () => {
  it("are folded from the same parts for ever, though a finer divisor comes or goes", () => {
    const hourly: Features = { n: d.count().over("24h") };
    const six: Features = {
      six: d
        .count({ where: d.eq("country", "NO") })
        .over("30m")
        .every("6m"),
    };
    const [alone, joined] = history(hourly, { ...hourly, ...six });
    expect(partsOf(alone.groups[0], 60 * MINUTE)).toBe(5 * MINUTE);
    expect(partsOf(joined.groups[0], 60 * MINUTE)).toBe(5 * MINUTE);
    const [together, left] = history({ ...hourly, ...six }, hourly);
    expect(partsOf(together.groups[0], 60 * MINUTE)).toBe(6 * MINUTE);
    // The 6-minute tiles stay, since hours are made of them.
    expect(partsOf(left.groups[0], 60 * MINUTE)).toBe(6 * MINUTE);
  });

  it("lifetimes are absorbed from days, whatever longer hop comes or goes", () => {
    const plans = history({ n: d.count() }, { n: d.count(), w: d.count().over("28d").every("7d") }, { n: d.count() });
    for (const {
      groups: [group],
    } of plans)
      expect(group.levels[group.absorbing].sizeMs).toBe(86_400_000);
    expect(level(plans[1].groups[0], 7 * 86_400_000)).toBeDefined();
    expect(ids(plans[1], "n")).toEqual(ids(plans[0], "n"));
  });
});

describe("a sum that fades", () => {
  const fading = d.decayedSum("amount", { scale: 2, halfLife: "6h" }).over("7d");
  const plain = d.sum("amount", { scale: 2 }).over("7d");

  it("reads the tiles of a plain sum that is there", () => {
    const [before, after] = history({ plain }, { plain, fading });
    expect(ids(after, "fading_7d")).toEqual(ids(before, "plain_7d"));
  });

  it("leaves a plain sum that comes later a slot of its own, since its days were not kept", () => {
    const [, after] = history({ fading, ever: d.sum("amount", { scale: 2 }) }, { fading, plain });
    expect(ids(after, "plain_7d")).not.toEqual(ids(after, "fading_7d"));
  });
});

describe("whatever definitions follow each other", () => {
  const steps = fc.array(featureSet(5), { minLength: 2, maxLength: 6 });

  it("an id means one thing, a plan compiles to itself, and no window is read from what was not kept for it", () => {
    fc.assert(
      fc.property(steps, (list) => {
        let lock = EMPTY_LOCK;
        let previous: Plan | null = null;
        const meaning = new Map<string, string>();
        for (const features of list) {
          const { plan, lock: next } = evolve(lock, features);
          expect(canonicalJson(evolve(next, features))).toBe(canonicalJson({ plan, lock: next }));
          for (const [name, group] of Object.entries(next.groups)) {
            for (const [key, { id }] of Object.entries(group.slots)) {
              const place = `${name} ${/^(first|last|distinct|buckets|tally)/.test(key) ? "object" : "cell"} ${id}`;
              expect(meaning.get(place) ?? key).toBe(key);
              meaning.set(place, key);
            }
            for (const [size, { id, parts }] of Object.entries(lock.groups[name]?.levels ?? {})) {
              expect(group.levels[size]).toEqual({ id, parts });
            }
          }
          for (const group of plan.groups) {
            for (const slot of group.slots) {
              // Whatever is kept at a level is kept at the level's parts, down to the base.
              for (const index of slot.levels) {
                if (index > 0) expect(slot.levels).toContain(group.levels[index].parts);
              }
              const old = previous?.groups.find(({ name }) => name === group.name);
              const before = old?.slots.find(({ id, kind }) => id === slot.id && kind === slot.kind);
              if (!old || !before) continue;
              const known = before.levels.map((index) => old.levels[index].sizeMs);
              for (const index of slot.levels) expect(known).toContain(group.levels[index].sizeMs);
              if (slot.lifetime) expect(before.lifetime).toBe(true);
            }
          }
          previous = plan;
          lock = next;
        }
      }),
      { numRuns: runs(300) },
    );
  });

  it("a window is kept for another exactly when that reads none but its tiles", () => {
    const [day, week] = [1_440, 10_080].map((minutes) => minutes * MINUTE);
    const hopping = (sizeMs: number, hopMs: number, delayMs = 0) =>
      ({ kind: "hopping", sizeMs, hopMs, delayMs }) as const;
    expect(windowText(hopping(week, 3_600_000, day))).toBe("7d/1h/24h");
    expect(windowText({ kind: "lifetime" })).toBe("lifetime");
    expect(keptFor("7d/1h", hopping(week, 3_600_000))).toBe(true);
    expect(keptFor("7d/1h", hopping(week - day, 3_600_000, day))).toBe(true);
    expect(keptFor("7d/1h", hopping(week, 3_600_000, day))).toBe(false);
    expect(keptFor("7d/1h", hopping(day, 300_000))).toBe(false);
    expect(keptFor("24h/1h/7d", hopping(2 * day, 3_600_000))).toBe(false);
    const byHop = { ...hopping(week, 3_600_000), byHop: true } as const;
    expect(windowText(byHop)).toBe("hops:7d/1h");
    expect(keptFor("hops:7d/1h", byHop)).toBe(true);
    expect(keptFor("7d/1h", byHop)).toBe(true);
    expect(keptFor("hops:7d/1h", hopping(week, 3_600_000))).toBe(false);
    expect(keptFor("hops:7d/1h", { kind: "lifetime" })).toBe(false);
    expect(keptFor("lifetime", { kind: "lifetime" })).toBe(true);
    expect(keptFor("lifetime", hopping(day, 3_600_000))).toBe(false);
    expect(keptFor("7d/1h", { kind: "lifetime" })).toBe(false);
  });
});
