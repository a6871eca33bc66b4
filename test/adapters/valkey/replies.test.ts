import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readOutcomes, readReply } from "../../../adapters/valkey/replies.ts";

const NOW = Date.UTC(2026, 0, 5, 12);
const stamp = (ms: number) => {
  const bytes = Buffer.alloc(5, 1);
  bytes.writeUInt32LE(ms % 2 ** 32, 1);
  return bytes;
};

describe("readOutcomes", () => {
  it("reads a row of fates", () => {
    const bytes = Buffer.concat([Buffer.from([0]), stamp(NOW - 5), Buffer.from([2]), Buffer.from([0])]);
    expect(readOutcomes(bytes, 4, NOW)).toEqual([
      { fate: "applied", visibleMs: NOW },
      { fate: "duplicate", visibleMs: NOW - 5 },
      { fate: "sealed", visibleMs: null },
      { fate: "applied", visibleMs: NOW },
    ]);
  });

  it("takes nothing for all applied", () => {
    expect(readOutcomes(Buffer.alloc(0), 2, NOW).map(({ fate }) => fate)).toEqual(["applied", "applied"]);
  });

  it("gives a duplicate the time of its first apply, also across 2^32 ms, also by a clock that was ahead", () => {
    const days = 24 * 86_400_000;
    fc.assert(
      fc.property(fc.nat(2 ** 42), fc.integer({ min: -days, max: 60_000 }), (now, offset) => {
        const first = Math.max(0, now + offset);
        fc.pre(now - first < days);
        expect(readOutcomes(stamp(first), 1, now)).toEqual([{ fate: "duplicate", visibleMs: first }]);
      }),
    );
    // A primary whose clock is 3 ms behind: the first apply was not 49 days ago.
    expect(readOutcomes(stamp(NOW + 3), 1, NOW)).toEqual([{ fate: "duplicate", visibleMs: NOW + 3 }]);
  });
});

describe("readReply", () => {
  it("reads the store's clock and whether another primary answers", () => {
    expect(readReply([NOW, 0])).toEqual({ nowMs: NOW, failover: false, outcomes: null });
    expect(readReply([NOW, 1, Buffer.from([2])])).toEqual({ nowMs: NOW, failover: true, outcomes: [Buffer.from([2])] });
  });

  it.each([
    [-1, 0, "control_lost"],
    [-2, 7, "epoch_changed"],
    [-3, 2, "store_not_ready"],
    [-4, 9, "group_unknown"],
    [-5, 2, "group_new"],
  ])("refuses with code %i and detail %i as %s, and says what to do", (code, detail, name) => {
    expect(() => readReply([code, detail])).toThrow(
      expect.objectContaining({ code: name, repair: expect.any(String) }),
    );
  });
});
