/** How store, snapshots, budget and breakers play together; with doubles, since their faults have to be made on demand. */
import { expect, test, vi } from "vitest";
import { FallbackReader, type ReadEvents } from "../../../adapters/online-store/fallback-reader.ts";
import type {
  EntityRequest,
  OnlineReader,
  SnapshotAnswer,
  SnapshotSource,
} from "../../../adapters/online-store/online-store.ts";
import { FreshetError, InfrastructureError } from "../../../core/errors.ts";
import type { FeatureValue } from "../../../core/plan.ts";

const value = (of: number): FeatureValue => ({ value: of, status: "PRESENT", eventTimeMs: 1 });
const card = (id: string): EntityRequest => ({ tenant: "t", entity: "card", id, features: ["view:n"] });
/** Of which no snapshots are kept. */
const item = (id: string): EntityRequest => ({ tenant: "t", entity: "item", id, features: ["other:n"] });
const NOTHING: FeatureValue = { value: null, status: "NOT_FOUND", eventTimeMs: null };

/** Where a test says nothing else: beyond any pause that the machine may make. */
const TOTAL_MS = 30_000;

type Mood = "up" | "slow" | "down" | "silent" | "hollow" | "bug";

function world(options: { snapshots?: boolean | "silent"; totalMs?: number } = {}) {
  const log: string[] = [];
  const state = {
    mood: "up" as Mood,
    /** Of a cluster whose primaries are named by the ends of the entities' ids: which one does not answer. */
    sick: null as string | null,
    /** Reads that reached the store. */
    asked: [] as string[][],
    snapshots: [] as { ids: string[]; withinMs: number }[],
    answerOf: (id: string): SnapshotAnswer =>
      id.startsWith("new") ? { lost: "not_covered" } : { values: [value(7)], ageMs: 4_000 },
  };
  const store: OnlineReader = {
    async read(requests) {
      state.asked.push(requests.map(({ id }) => id));
      if (requests.some(({ id }) => id.endsWith(`@${state.sick}`)))
        throw new InfrastructureError("store_unavailable", "sick");
      if (state.mood === "down") throw new InfrastructureError("store_unavailable", "the connection is end");
      if (state.mood === "bug") throw new FreshetError("read_overtaken", "folding overtook a read five times");
      if (state.mood === "silent") await new Promise(() => {});
      // Longer than the store's share.
      if (state.mood === "slow") await new Promise((resolve) => setTimeout(resolve, 60));
      return requests.map(({ id }) => ({
        values: [value(1)],
        degraded: state.mood === "hollow" && id !== "whole" ? "lost" : null,
      }));
    },
    primaryOf: ({ id }) => id.split("@")[1] ?? "",
    state: async () => ({ reachable: true, control: "ok", seals: {} }),
    close: async () => {},
  };
  const snapshots: SnapshotSource = {
    keeps: (entity) => entity === "card",
    warm: async () => {},
    async read(requests, _asOfMs, withinMs) {
      state.snapshots.push({ ids: requests.map(({ id }) => id), withinMs });
      if (options.snapshots === "silent") await new Promise(() => {});
      return requests.map(({ id }) => state.answerOf(id));
    },
  };
  const events: ReadEvents = {
    answered: (by) => log.push(by),
    lost: (reason) => log.push(reason),
    breaker: (of, isOpen) => log.push(`${of} ${isOpen ? "opens" : "closes"}`),
  };
  const kept = options.snapshots === false ? null : snapshots;
  const reader = new FallbackReader(store, kept, { totalMs: options.totalMs ?? TOTAL_MS, storeMs: 20 }, events, {
    probeEveryMs: 0,
  });
  return { state, reader, log };
}

/** By a clock of the test's: on a machine that stands still for a moment, two real timers are due in one. */
async function byTheClock(test: (after: <T>(ms: number, work: Promise<T>) => Promise<T>) => Promise<void>) {
  vi.useFakeTimers();
  try {
    await test(async (ms, work) => {
      await vi.advanceTimersByTimeAsync(ms);
      return work;
    });
  } finally {
    vi.useRealTimers();
  }
}

test("a store that answers is all there is to it", async () => {
  const { state, reader, log } = world();
  expect(await reader.read([card("a")], 0)).toEqual([{ values: [value(1)], degraded: null }]);
  expect([state.snapshots, log]).toEqual([[], ["store"]]);
});

test.each(["down", "silent"] as const)("a store that is %s: the snapshot answers, with its age", async (mood) => {
  const { state, reader, log } = world();
  state.mood = mood;
  expect(await reader.read([card("a")], 0)).toEqual([
    { values: [value(7)], degraded: "snapshot", snapshotAgeMs: 4_000 },
  ]);
  expect(log).toEqual(["snapshot"]);
  // Only what is left of the budget.
  expect(state.snapshots[0].withinMs).toBeLessThanOrEqual(mood === "silent" ? TOTAL_MS - 19 : TOTAL_MS);
});

test("what a call has waited for before is no longer there for its read", async () => {
  vi.useFakeTimers();
  try {
    const { state, reader, log } = world({ snapshots: "silent", totalMs: 500 });
    state.mood = "silent";
    let outcome = "";
    const asked = reader.read([card("a")], 0, { spentMs: 400 }).catch(({ code }) => {
      outcome = code;
    });
    await vi.advanceTimersByTimeAsync(99);
    expect(outcome).toBe("");
    expect(state.snapshots[0].withinMs).toBeLessThanOrEqual(80);
    await vi.advanceTimersByTimeAsync(10);
    await asked;
    expect([outcome, log]).toEqual(["store_unavailable", ["unavailable", "nothing"]]);
    // Nothing is left at all: the store is asked, since it may answer at once.
    state.mood = "up";
    expect(await reader.read([card("a")], 0, { spentMs: 600 })).toEqual([{ values: [value(1)], degraded: null }]);
  } finally {
    vi.useRealTimers();
  }
});

test("a caller that goes on without has its read's end when seven tenths of the budget are gone, and the rest to answer in", async () => {
  vi.useFakeTimers();
  try {
    const { state, reader, log } = world({ snapshots: "silent", totalMs: 500 });
    state.mood = "silent";
    let outcome = "";
    const asked = reader.read([card("a")], 0, { spentMs: 50, partial: true }).catch(({ code }) => {
      outcome = code;
    });
    await vi.advanceTimersByTimeAsync(299);
    expect(outcome).toBe("");
    await vi.advanceTimersByTimeAsync(10);
    await asked;
    expect([outcome, log]).toEqual(["store_unavailable", ["unavailable", "nothing"]]);
  } finally {
    vi.useRealTimers();
  }
});

test("a caller that goes on without gives the store its share, also where no snapshot could answer", async () => {
  await byTheClock(async (after) => {
    const { state, reader } = world({ totalMs: 5_000 });
    state.mood = "slow";
    const asked = reader.read([item("i")], 0, { partial: true });
    await after(100, expect(asked).rejects.toMatchObject({ code: "store_unavailable" }));
    expect(await after(100, reader.read([item("i")], 0))).toMatchObject([{ degraded: null }]);
  });
});

test("one entity without an answer fails a read; who asks for what there is gets the others", async () => {
  const { state, reader, log } = world();
  state.mood = "down";
  await expect(reader.read([card("a"), card("new")], 0)).rejects.toMatchObject({ code: "store_unavailable" });
  expect(await reader.read([card("a"), card("new")], 0, { partial: true })).toEqual([
    { values: [value(7)], degraded: "snapshot", snapshotAgeMs: 4_000 },
    { values: [NOTHING], degraded: "snapshot", lost: true },
  ]);
  await expect(reader.read([card("new")], 0, { partial: true })).rejects.toMatchObject({ code: "store_unavailable" });
  expect(log).toEqual(["not_covered", "nothing", "not_covered", "snapshot", "not_covered", "nothing"]);
});

test("an error of another kind is no outage: it is the caller's, and opens nothing", async () => {
  const { state, reader, log } = world();
  state.mood = "bug";
  for (let i = 0; i < 10; i++) await expect(reader.read([card("a")], 0)).rejects.toThrow("overtook");
  expect([state.asked.length, log]).toEqual([10, []]);
});

test("while the breaker is open no call waits for the store; what failed is tried beside, and an answer closes it", async () => {
  const { state, reader, log } = world();
  state.mood = "silent";
  for (let i = 0; i < 5; i++) await reader.read([card(`c${i}`)], 0);
  expect(log.at(-1)).toBe("snapshot");
  expect(log).toContain("store opens");
  expect(reader.open).toEqual(["store"]);
  state.asked.length = 0;
  await reader.read([card("x"), card("y")], 0);
  // What failed last is asked for, not what is wanted now.
  expect(state.asked).toEqual([["c4"]]);
  state.mood = "up";
  await reader.read([card("z")], 0);
  await expect.poll(() => log.includes("store closes")).toBe(true);
  expect(reader.open).toEqual([]);
  expect(await reader.read([card("z")], 0)).toEqual([{ values: [value(1)], degraded: null }]);
});

test("a store that has lost its data is asked past: snapshots for what it lost, its own word for the rest", async () => {
  const { state, reader, log } = world();
  state.mood = "hollow";
  expect(await reader.read([card("whole"), card("a"), card("new")], 0)).toEqual([
    { values: [value(1)], degraded: null },
    { values: [value(7)], degraded: "snapshot", snapshotAgeMs: 4_000 },
    { values: [value(1)], degraded: "lost" },
  ]);
  expect(state.snapshots.map(({ ids }) => ids)).toEqual([["a", "new"]]);
  expect(log).toEqual(["not_covered", "snapshot"]);
});

test("both down: neither is waited for once that is known, and both are found again", async () => {
  const { state, reader, log } = world();
  state.mood = "down";
  state.answerOf = () => ({ lost: "unavailable" });
  const outcome = () =>
    reader.read([card("a")], 0, { partial: true }).then(
      () => "answer",
      (error) => error.code,
    );
  for (let i = 0; i < 5; i++) expect(await outcome()).toBe("store_unavailable");
  expect(log.filter((line) => line.endsWith("opens"))).toEqual(["store opens", "snapshots opens"]);
  expect(reader.open).toEqual(["store", "snapshots"]);
  state.answerOf = () => ({ values: [value(7)], ageMs: 0 });
  await outcome();
  await expect.poll(() => log.includes("snapshots closes")).toBe(true);
  expect(await outcome()).toBe("answer");
  state.mood = "up";
  await outcome();
  await expect.poll(() => log.includes("store closes")).toBe(true);
});

test.each(["reads", "looks at the store"])(
  "snapshots that are back are found by %s while the store answers, and not by its calls",
  async (by) => {
    const { state, reader, log } = world();
    state.mood = "down";
    state.answerOf = () => ({ lost: "unavailable" });
    for (let i = 0; i < 5; i++) await reader.read([card("a")], 0, { partial: true }).catch(() => {});
    state.mood = "up";
    const ask = async () => {
      if (by === "reads") expect(await reader.read([item("i")], 0)).toMatchObject([{ degraded: null }]);
      else expect(await reader.state()).toMatchObject({ reachable: true });
    };
    await reader.read([card("a")], 0, { partial: true }).catch(() => {});
    await expect.poll(() => log.includes("store closes")).toBe(true);
    const before = state.snapshots.length;
    await ask();
    await expect.poll(() => state.snapshots.length).toBeGreaterThan(before);
    expect([reader.open, state.snapshots.at(-1)?.ids]).toEqual([["snapshots"], ["a"]]);
    state.answerOf = () => ({ values: [value(7)], ageMs: 0 });
    await expect
      .poll(async () => {
        await ask();
        return log.filter((line) => line === "snapshots closes").length;
      })
      .toBe(1);
    expect(reader.open).toEqual([]);
    // Sound as they are, no read asks them.
    const after = state.snapshots.length;
    await ask();
    expect(state.snapshots).toHaveLength(after);
  },
);

test("without snapshots the store has the whole budget, and the breaker alone spares the wait", async () => {
  const { state, reader, log } = world({ snapshots: false, totalMs: 30 });
  state.mood = "silent";
  for (let i = 0; i < 5; i++) await expect(reader.read([card("a")], 0)).rejects.toThrow("does not answer");
  expect(log.filter((line) => line === "not_declared")).toHaveLength(5);
  expect(log.filter((line) => line.endsWith("opens"))).toEqual(["store opens"]);
});

test("entities without snapshots have the store's answer for as long as the budget lasts, others its share", async () => {
  await byTheClock(async (after) => {
    const { state, reader, log } = world({ totalMs: 5_000 });
    state.mood = "slow";
    for (let i = 0; i < 6; i++) {
      expect(await after(100, reader.read([item(`i${i}`)], 0))).toMatchObject([{ degraded: null }]);
    }
    expect(await after(100, reader.read([card("a")], 0))).toMatchObject([{ degraded: "snapshot" }]);
    expect(log).toEqual([...new Array(6).fill("store"), "snapshot"]);
    state.mood = "down";
    await expect(reader.read([item("i")], 0)).rejects.toMatchObject({ code: "store_unavailable" });
    expect(log.slice(-2)).toEqual(["not_declared", "nothing"]);
    expect(state.snapshots.map(({ ids }) => ids)).toEqual([["a"]]);
  });
});

test("nothing is asked of snapshots when nothing is left of the budget", async () => {
  const { state, reader, log } = world({ totalMs: 20 });
  state.mood = "silent";
  await expect(reader.read([card("a")], 0)).rejects.toMatchObject({ code: "store_unavailable" });
  expect([state.snapshots, log]).toEqual([[], ["unavailable", "nothing"]]);
});

test("snapshots that never answer hold no read beyond its budget, and are spared calls as well", async () => {
  const { state, reader, log } = world({ snapshots: "silent", totalMs: 40 });
  state.mood = "down";
  for (let i = 0; i < 6; i++) {
    await expect(reader.read([card("a")], 0)).rejects.toMatchObject({ code: "store_unavailable" });
  }
  expect(log.filter((line) => line.endsWith("opens"))).toEqual(["store opens", "snapshots opens"]);
});

test("a primary that is sick takes its own entities with it, and no others: neither their answers nor the fast path to them", async () => {
  const { state, reader, log } = world();
  const both = [card("a@one"), item("b@two"), card("c@two"), card("d@one")];
  const whole = await reader.read(both, 0);
  expect(whole.map(({ degraded }) => degraded)).toEqual([null, null, null, null]);
  expect(state.asked).toEqual([
    ["a@one", "d@one"],
    ["b@two", "c@two"],
  ]);
  state.sick = "one";
  const part = await reader.read(both, 0);
  expect(part.map(({ degraded, values }) => [degraded, values[0].value])).toEqual([
    ["snapshot", 7],
    [null, 1],
    [null, 1],
    ["snapshot", 7],
  ]);
  expect(state.snapshots.map(({ ids }) => ids)).toEqual([["a@one", "d@one"]]);
  while (!log.includes("store opens")) await reader.read([card("a@one")], 0);
  // The sick one is spared, but for the probes, which ask for what failed; the other one is asked as ever.
  state.asked.length = log.length = 0;
  expect(await reader.read([card("c@two")], 0)).toEqual([{ values: [value(1)], degraded: null }]);
  expect([state.asked, log]).toEqual([[["c@two"]], ["store"]]);
  await expect(reader.read([item("b@two"), item("e@one")], 0)).rejects.toMatchObject({ code: "store_unavailable" });
  state.sick = null;
  await expect.poll(async () => (await reader.read(both, 0))[0].degraded, { timeout: 30_000 }).toBeNull();
  expect(log.filter((line) => line.startsWith("store "))).toEqual(["store closes"]);
});

test("two primaries that are sick are told as one store, until both are well", async () => {
  const { state, reader, log } = world();
  const told = () => log.filter((line) => line.startsWith("store "));
  const failing = async (primary: string) => {
    state.sick = primary;
    for (let i = 0; i < 6; i++) await reader.read([card(`a@${primary}`)], 0);
  };
  await failing("one");
  await failing("two");
  expect(told()).toEqual(["store opens"]);
  // Only two is sick now.
  await expect.poll(async () => (await reader.read([card("a@one")], 0))[0].degraded, { timeout: 30_000 }).toBeNull();
  expect(told()).toEqual(["store opens"]);
  state.sick = null;
  await expect.poll(async () => (await reader.read([card("a@two")], 0))[0].degraded, { timeout: 30_000 }).toBeNull();
  expect(told()).toEqual(["store opens", "store closes"]);
});
