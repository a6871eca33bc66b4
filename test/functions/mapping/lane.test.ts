import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import type { TopicRecord } from "../../../adapters/kafka/records.ts";
import { Lane } from "../../../functions/mapping/lane.ts";

const record = (offset: number, bytes = 10): TopicRecord => ({
  offset: BigInt(offset),
  timestampMs: 1_000,
  timestampType: "LOG_APPEND_TIME",
  key: null,
  value: Buffer.alloc(bytes),
  headers: [],
});
const range = (from: number, to: number): TopicRecord[] =>
  Array.from({ length: to - from }, (_, i) => record(from + i));
const offsets = (batch: readonly TopicRecord[] | null) => batch?.map(({ offset }) => Number(offset)) ?? null;
/** Where a delay may lie, it lies at its end. */
const longest = () => 1;

let lane: Lane;
beforeEach(() => {
  lane = new Lane("topic", 0, 0n, { batchSize: 4, batchWindowMs: 0 });
});

describe("a lane", () => {
  it("has one batch in flight, and commits to what is done and no further", () => {
    lane.add(range(0, 6), 6n, 6n, 0);
    expect(offsets(lane.take(0))).toEqual([0, 1, 2, 3]);
    expect(lane.take(0)).toBeNull();
    expect([lane.position, lane.lag]).toEqual([0n, 6]);
    lane.settle(4, 5, longest);
    expect([lane.position, lane.lag]).toEqual([4n, 2]);
    expect(offsets(lane.take(5))).toEqual([4, 5]);
    lane.settle(2, 6, longest);
    expect([lane.position, lane.lag]).toEqual([6n, 0]);
  });

  it("goes past what the broker keeps to itself: control records, gaps of compaction", () => {
    lane.add([record(3), record(9)], 12n, 12n, 0);
    lane.take(0);
    lane.settle(1, 0, longest);
    expect(lane.position).toBe(9n);
    lane.take(100);
    lane.settle(1, 100, longest);
    expect([lane.position, lane.lag]).toEqual([12n, 0]);
  });

  it("takes no record twice that a fetch has repeated", () => {
    lane.add(range(0, 3), 3n, 3n, 0);
    lane.add(range(1, 5), 5n, 5n, 0);
    expect(offsets(lane.take(0))).toEqual([0, 1, 2, 3]);
  });

  it("halves a batch that fails until the cause stands alone, then grows again behind it", () => {
    lane.add(range(0, 9), 9n, 9n, 0);
    const sizes: number[] = [];
    let nowMs = 0;
    for (const done of [0, 0, 0, 1, 2, 4]) {
      nowMs = Math.max(nowMs, lane.dueMs()!);
      sizes.push(lane.take(nowMs)!.length);
      lane.settle(done, nowMs, longest);
    }
    expect(sizes).toEqual([4, 2, 1, 1, 2, 4]);
    expect([lane.position, lane.attempts]).toEqual([7n, 0]);
  });

  it("waits twice as long after each failure, half a minute at most, and never gives up", () => {
    lane.add(range(0, 1), 1n, 1n, 0);
    const waits: number[] = [];
    let nowMs = 0;
    for (let i = 0; i < 12; i++) {
      lane.take(nowMs);
      lane.settle(0, nowMs, longest);
      expect(lane.take(nowMs)).toBeNull();
      waits.push(lane.dueMs()! - nowMs);
      nowMs = lane.dueMs()!;
    }
    expect(waits).toEqual([100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000, 30000]);
    expect([lane.attempts, lane.blockedSinceMs, lane.position]).toEqual([12, 0, 0n]);
    expect(offsets(lane.take(nowMs))).toEqual([0]);
  });

  it("keeps what was done of a batch, and tries the rest", () => {
    lane.add(range(0, 4), 4n, 4n, 0);
    lane.take(0);
    lane.settle(3, 7, longest);
    expect([lane.position, lane.attempts, lane.blockedSinceMs]).toEqual([3n, 1, 7]);
    expect(offsets(lane.take(107))).toEqual([3]);
  });

  it("waits for a batch to fill up, as long as its window", () => {
    const slow = new Lane("topic", 0, 0n, { batchSize: 3, batchWindowMs: 500 });
    slow.add(range(0, 2), 2n, 2n, 100);
    expect([slow.take(599), slow.dueMs()]).toEqual([null, 600]);
    slow.add(range(2, 3), 3n, 3n, 200);
    expect(offsets(slow.take(200))).toEqual([0, 1, 2]);
  });

  it("bounds a batch and what waits by bytes too, but takes one record however large it is", () => {
    lane.add([record(0, 3_000_000), record(1, 3_000_000), record(2, 9_000_000)], 3n, 3n, 0);
    expect(lane.wantsMore()).toBe(false);
    for (const expected of [[0], [1], [2]]) {
      expect(offsets(lane.take(0))).toEqual(expected);
      lane.settle(1, 0, longest);
    }
    expect(lane.wantsMore()).toBe(true);
  });

  it("that was revoked takes nothing more, and one with something in hand is not moved elsewhere", () => {
    lane.add(range(0, 2), 2n, 2n, 0);
    lane.moveTo(50n);
    expect(lane.readTo).toBe(2n);
    lane.revoked = true;
    expect(lane.take(0)).toBeNull();
    const empty = new Lane("topic", 1, 5n, { batchSize: 4, batchWindowMs: 0 });
    empty.moveTo(50n);
    expect([empty.readTo, empty.position]).toEqual([50n, 50n]);
  });

  it("whatever fails and however it is fetched: every record in its order, and none skipped", () => {
    const steps = fc.array(
      fc.record({ fetched: fc.nat(5), gap: fc.nat(2), done: fc.double({ min: 0, max: 1, noNaN: true }) }),
      {
        maxLength: 60,
      },
    );
    fc.assert(
      fc.property(steps, (script) => {
        const tried = new Lane("topic", 0, 0n, { batchSize: 4, batchWindowMs: 0 });
        const sent: number[] = [];
        const done: number[] = [];
        let nowMs = 0;
        let next = 0;
        const turn = (share: number): void => {
          nowMs = Math.max(nowMs, tried.dueMs() ?? nowMs);
          const batch = tried.take(nowMs);
          if (batch === null) return;
          const count = Math.round(share * batch.length);
          done.push(...offsets(batch.slice(0, count))!);
          tried.settle(count, nowMs, longest);
          expect(tried.position).toBe(BigInt(done.length < sent.length ? sent[done.length]! : next));
        };
        for (const { fetched, gap, done: share } of script) {
          next += gap;
          const records = range(next, next + fetched);
          sent.push(...offsets(records)!);
          next += fetched;
          tried.add(records, BigInt(next), BigInt(next), nowMs);
          turn(share);
        }
        for (let i = 0; i < 400 && done.length < sent.length; i++) turn(1);
        expect(done).toEqual(sent);
      }),
    );
  });
});
