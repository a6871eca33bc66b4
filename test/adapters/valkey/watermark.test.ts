import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { committedArrival, type OutstandingSpan, type ShardInfo } from "../../../adapters/valkey/watermark.ts";

const NOW = 1_767_700_000_000;
const ORIGIN = NOW - 3_600_000;
const HOUR = 3_600_000;
const shard = (id: string, parents: string[] = [], closed = false): ShardInfo => ({ id, parents, closed });
const span = (id: string, firstArrivalMs: number, ageMs = 0): OutstandingSpan => ({
  shard: id,
  firstSequence: "1",
  lastSequence: "2",
  firstArrivalMs,
  stamp: (NOW - ageMs) * 1_000,
});
const committed = (
  acknowledged: Record<string, number>,
  outstanding: OutstandingSpan[],
  shards: ShardInfo[],
  originMs: number | null = ORIGIN,
) => committedArrival({ originMs, committed: new Map(Object.entries(acknowledged)), outstanding }, shards, NOW);

describe("committedArrival", () => {
  const CASES: readonly [string, number | null, number | null][] = [
    ["is the least of all shards", committed({ a: NOW - 5, b: NOW - 9 }, [], [shard("a"), shard("b")]), NOW - 9],
    ["is held by a shard that has acknowledged nothing", committed({ a: NOW - 5 }, [], [shard("a"), shard("b")]), null],
    ["is held by one that has not since the registrations began", committed({ a: ORIGIN - 1 }, [], [shard("a")]), null],
    ["counts an acknowledgement at that very moment", committed({ a: ORIGIN }, [], [shard("a")]), ORIGIN],
    ["is held by a batch that is begun", committed({ a: NOW - 5 }, [span("a", NOW - 70)], [shard("a")]), NOW - 70],
    [
      "is held by the oldest of several",
      committed({ a: NOW }, [span("a", NOW - 7), span("a", NOW - 9)], [shard("a")]),
      NOW - 9,
    ],
    [
      "is not moved by a batch that is younger than what is done",
      committed({ a: NOW - 9 }, [span("a", NOW - 7)], [shard("a")]),
      NOW - 9,
    ],
    [
      "forgets a batch that was given up",
      committed({ a: NOW - 5 }, [span("a", NOW - 8 * HOUR, 7 * HOUR)], [shard("a")]),
      NOW - 5,
    ],
    [
      "remembers one that is tried again and again",
      committed({ a: NOW - 5 }, [span("a", NOW - 8 * HOUR, HOUR)], [shard("a")]),
      NOW - 8 * HOUR,
    ],
    [
      "ignores batches of shards that are not listed",
      committed({ a: NOW }, [span("gone", NOW - 9)], [shard("a")]),
      NOW,
    ],
    ["is unknown before registrations began", committed({ a: NOW }, [], [shard("a")], null), null],
    ["is unknown without a shard", committed({}, [], []), null],
  ];
  it.each(CASES)("%s", (_, given, expected) => {
    expect(given).toBe(expected);
  });

  describe("of a closed shard", () => {
    const split = [shard("p", [], true), shard("l", ["p"]), shard("r", ["p"])];
    const merged = [shard("x", [], true), shard("y", [], true), shard("m", ["x", "y"])];

    it.each<[string, number | null, number | null]>([
      ["counts until a child was worked on", committed({ p: NOW - 9, l: NOW }, [], split.slice(0, 1)), NOW - 9],
      ["still holds while its children have seen nothing", committed({ p: NOW - 9 }, [], split), null],
      [
        "is read to its end once one child was begun",
        committed({ p: NOW - 9, r: NOW - 2 }, [span("l", NOW - 3)], split),
        null,
      ],
      [
        "is read to its end once children acknowledge",
        committed({ p: NOW - 9, l: NOW - 3, r: NOW - 2 }, [], split),
        NOW - 3,
      ],
      [
        "holds with a batch of its own, children or not",
        committed({ p: NOW - 9, l: NOW, r: NOW }, [span("p", NOW - 11)], split),
        NOW - 11,
      ],
      ["needs no acknowledgement when it was empty", committed({ l: NOW - 3, r: NOW - 2 }, [], split), NOW - 3],
      [
        "both parents of a merge are done when the child is",
        committed({ x: NOW - 9, m: NOW - 1 }, [], merged),
        NOW - 1,
      ],
      [
        "is read to its end once a child's child was worked on, after registrations that began anew",
        committed(
          { r: NOW - 2, ll: NOW - 3, lr: NOW - 1 },
          [],
          [
            ...[shard("p", [], true), shard("l", ["p"], true), shard("r", ["p"])],
            ...[shard("ll", ["l"]), shard("lr", ["l"])],
          ],
        ),
        NOW - 3,
      ],
      ["a merge holds until then", committed({ x: NOW - 9, y: NOW - 8 }, [], merged), null],
      ["an open parent is never done", committed({ p: NOW - 9, l: NOW }, [], [shard("p"), shard("l", ["p"])]), NOW - 9],
    ])("%s", (_, given, expected) => {
      expect(given).toBe(expected);
    });
  });

  it("never passes what is outstanding, and never falls when something is acknowledged", () => {
    const ids = ["a", "b", "c"];
    const shards = ids.map((id) => shard(id));
    const times = fc.array(fc.nat(1_000), { minLength: 3, maxLength: 3 });
    const spans = fc.array(fc.tuple(fc.constantFrom(...ids), fc.nat(1_000)), { maxLength: 6 });
    fc.assert(
      fc.property(times, spans, fc.nat(2), fc.nat(500), (done, open, which, more) => {
        const of = (list: readonly number[]) => Object.fromEntries(ids.map((id, i) => [id, NOW - 1_000 + list[i]]));
        const outstanding = open.map(([id, at]) => span(id, NOW - 1_000 + at));
        const before = committed(of(done), outstanding, shards)!;
        for (const { firstArrivalMs } of outstanding) expect(before).toBeLessThanOrEqual(firstArrivalMs);
        const after = done.map((at, i) => (i === which ? at + more : at));
        expect(committed(of(after), outstanding, shards)).toBeGreaterThanOrEqual(before);
      }),
    );
  });
});
