/** Turns of calls with many rows: who runs, who waits, who is turned away. The clock is handed in, but for the wait while nothing ends. */
import { describe, expect, it } from "vitest";
import { type LargeCall, LargeCalls } from "../../../../functions/api/admission/large-calls.ts";
import { LoadGate } from "../../../../functions/api/admission/load-gate.ts";

/** A call of 80 rows is worth 20 of one row; at 2 a ms it takes 10 ms. */
const ROWS = 80;
const CAPACITY = 2;

function lane(capacity: () => number | null = () => CAPACITY) {
  const calls = new LargeCalls(capacity);
  const running: LargeCall[] = [];
  const outcomes: ("runs" | "away")[] = [];
  const enter = (nowMs: number) =>
    void calls.enter(ROWS, nowMs).then((call) => {
      outcomes.push(call === null ? "away" : "runs");
      if (call !== null) running.push(call);
    });
  return { calls, running, outcomes, enter };
}
const turns = () => new Promise((resolve) => setImmediate(resolve));
const count = <T>(all: readonly T[], one: T): number => all.filter((each) => each === one).length;

describe("calls with many rows", () => {
  it("run a few at a time, in the order in which they came; the end of one is the turn of the next", async () => {
    const { calls, running, outcomes, enter } = lane();
    for (let i = 0; i < 6; i++) enter(i);
    await turns();
    expect([outcomes.length, calls.waiting, calls.work]).toEqual([4, 2, 80]);
    calls.end(running[0], 10);
    await turns();
    expect([outcomes.length, calls.waiting, calls.work]).toEqual([5, 1, 80]);
    calls.end(running[1], 20);
    await turns();
    for (const call of running.slice(2)) calls.end(call, 30);
    expect([outcomes, calls.waiting, calls.work]).toEqual([new Array(6).fill("runs"), 0, 0]);
  });

  it("are turned away at once when they would wait too long, and taken again when the others are through", async () => {
    const { calls, running, outcomes, enter } = lane();
    for (let i = 0; i < 200; i++) enter(0);
    await turns();
    // 200 ms of work at 10 ms a call: those that run, and those that wait for them; the rest is told at once.
    const taken = 4 + calls.waiting;
    expect([taken, count(outcomes, "away"), calls.shed]).toEqual([21, 179, 179]);
    for (let nowMs = 10; calls.work > 0; nowMs += 10) {
      calls.end(running.shift()!, nowMs);
      await turns();
    }
    expect([count(outcomes, "runs"), calls.waiting, calls.shed]).toEqual([21, 0, 179]);
    enter(500);
    await turns();
    expect(outcomes.at(-1)).toBe("runs");
  });

  it("are taken, a few of them, on a machine that is slow", async () => {
    const { calls, enter } = lane(() => 0.001);
    for (let i = 0; i < 200; i++) enter(0);
    await turns();
    expect([calls.waiting, calls.shed]).toEqual([4, 192]);
  });

  it("that have waited far longer than was thought are turned away when their turn comes, not worked on for nobody", async () => {
    const { calls, running, outcomes, enter } = lane();
    for (let i = 0; i < 8; i++) enter(0);
    await turns();
    // A machine that has stood still.
    calls.end(running[0], 1_001);
    await turns();
    expect([count(outcomes, "runs"), count(outcomes, "away"), calls.waiting]).toEqual([4, 4, 0]);
  });

  it("do not wait for those that wait for something else than the thread", async () => {
    const { calls, outcomes, enter } = lane();
    for (let i = 0; i < 6; i++) enter(performance.now());
    // Nothing ends: a store hangs.
    await expect.poll(() => outcomes.length, { timeout: 30_000 }).toBe(6);
    expect([outcomes, calls.work]).toEqual([new Array(6).fill("runs"), 120]);
  });

  it("go by what is usual until it is known what the thread can do", async () => {
    const { calls, enter } = lane(() => null);
    for (let i = 0; i < 200; i++) enter(0);
    await turns();
    // A call with one row a ms.
    expect(4 + calls.waiting).toBe(11);
  });
});

describe("a gate that knows of calls with many rows", () => {
  it("counts their work, and does not count small calls against those that only wait for their turn", async () => {
    const gate = new LoadGate();
    for (let i = 0; i < 40; i++) expect(gate.enter()).toBe(true);
    for (let i = 0; i < 20; i++) gate.leave();
    // 20 calls in 10 ms of work: 2 a ms.
    gate.look(0.2, 50);
    const entered: (LargeCall | null)[] = [];
    for (let i = 0; i < 12; i++) void gate.large.enter(ROWS).then((call) => entered.push(call));
    await turns();
    gate.look(1, 0);
    // 20 under way, of which 8 wait; four of 80 rows run.
    expect([gate.large.waiting, gate.large.work, gate.waitMs]).toEqual([8, 80, (20 - 8 + 80 + 1) / 2]);
    for (const call of entered.slice(0, 4)) gate.endLarge(call!);
    expect(gate.large.work).toBe(80);
  });

  it("counts among those turned away what found no turn", async () => {
    const gate = new LoadGate();
    for (let i = 0; i < 20; i++) void gate.large.enter(1_000);
    await turns();
    expect(gate.shed).toBe(gate.large.shed);
    expect(gate.shed).toBeGreaterThan(10);
  });
});
