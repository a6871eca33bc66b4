import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Group, Window } from "../../../core/plan.ts";
import { cover, floorTo, frontier, levelsOfWindow, pruneBound, windowInterval } from "../../../core/tiles/window.ts";
import { GROUP_PLANS } from "../../support/group-plans.ts";
import { runs } from "../../support/runs.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const at = (text: string) => Date.parse(`2026-01-05T${text}Z`);
const hopping = (sizeMs: number, hopMs: number, delayMs = 0) => ({ kind: "hopping", sizeMs, hopMs, delayMs }) as const;

describe("windowInterval", () => {
  const CASES: readonly [string, ReturnType<typeof hopping>, string, string, string][] = [
    [
      "to the end of the base tile that holds the reader's clock",
      hopping(HOUR, 5 * MINUTE),
      "12:07:31",
      "11:05",
      "12:08",
    ],
    [
      "from a multiple of the hop, up to a hop further back than the size",
      hopping(HOUR, 5 * MINUTE),
      "12:04:59.999",
      "11:00",
      "12:05",
    ],
    ["at a boundary of both", hopping(HOUR, 5 * MINUTE), "12:05", "11:05", "12:06"],
    ["delayed, in whole hops only", hopping(HOUR, 5 * MINUTE, 10 * MINUTE), "12:07:31", "10:55", "11:55"],
    ["delayed, at a boundary", hopping(HOUR, 5 * MINUTE, 10 * MINUTE), "12:05", "10:55", "11:55"],
  ];
  it.each(CASES)("%s", (_, window, now, start, end) => {
    const full = (text: string) => at(text.length === 5 ? `${text}:00` : text);
    expect(windowInterval(window, MINUTE, full(now))).toEqual({ startMs: full(start), endMs: full(end) });
  });

  it("of a delayed window has the window's size, and never reaches into the delay", () => {
    fc.assert(
      fc.property(
        fc.nat(2 * DAY),
        fc.integer({ min: 1, max: 20 }),
        fc.integer({ min: 1, max: 9 }),
        (offset, hops, delay) => {
          const t = at("00:00:00") + offset;
          const hop = 7 * MINUTE;
          const { startMs, endMs } = windowInterval(hopping(hops * hop, hop, delay * hop), MINUTE, t);
          expect(endMs - startMs).toBe(hops * hop);
          expect(endMs).toBeLessThanOrEqual(t - delay * hop);
        },
      ),
    );
  });
});

describe.each(Object.entries(GROUP_PLANS))("the tiles of a window: %s", (_, plan) => {
  const [group] = plan.groups;
  const features = plan.views.filter(({ group: index }) => index === 0).flatMap((view) => view.features);
  const stretch =
    4 * Math.max(HOUR, ...features.map(({ window }) => (window.kind === "lifetime" ? DAY : window.sizeMs)));
  const NOW = at("00:00:00");

  /** Every window of the group at some instant, with what is folded at a seal behind it. */
  const moment = fc
    .tuple(fc.nat(stretch), fc.nat(stretch / 2), fc.constantFrom(...features))
    .map(([after, behind, feature]) => {
      const asOfMs = NOW + after;
      const foldedMs = floorTo(asOfMs - behind, group.baseMs);
      const { window } = feature;
      const interval =
        window.kind === "lifetime"
          ? {
              startMs: frontier(group.levels[group.absorbing], foldedMs),
              endMs: floorTo(asOfMs, group.baseMs) + group.baseMs,
            }
          : windowInterval(window, group.baseMs, asOfMs);
      return { feature, interval, foldedMs };
    });

  it("cover its interval once, of sizes that the slot has, folded and not pruned", () => {
    fc.assert(
      fc.property(moment, ({ feature, interval, foldedMs }) => {
        for (const index of feature.slots) {
          const slot = group.slots[index];
          let next = interval.startMs;
          for (const { level, from, to } of cover(
            group,
            slot,
            feature.window,
            interval,
            foldedMs,
            Number.POSITIVE_INFINITY,
          )) {
            const { sizeMs } = group.levels[level];
            expect(from * sizeMs).toBe(next);
            expect(to).toBeGreaterThan(from);
            next = to * sizeMs;
            expect(slot.levels).toContain(level);
            expect(from * sizeMs).toBeGreaterThanOrEqual(pruneBound(group, level, foldedMs));
            if (level > 0) expect(next).toBeLessThanOrEqual(frontier(group.levels[level], foldedMs));
            else expect(next).toBeGreaterThan(pruneBound(group, 0, foldedMs));
          }
          expect(Math.max(next, interval.startMs)).toBe(Math.max(interval.endMs, interval.startMs));
        }
      }),
      { numRuns: runs(400) },
    );
  });

  it("stop behind the newest tile", () => {
    fc.assert(
      fc.property(moment, fc.nat(100), ({ feature, interval, foldedMs }, part) => {
        const stopMs = floorTo(interval.startMs + ((interval.endMs - interval.startMs) * part) / 100, group.baseMs);
        const ranges = cover(group, group.slots[feature.slots[0]], feature.window, interval, foldedMs, stopMs);
        for (const { level, to } of ranges) expect((to - 1) * group.levels[level].sizeMs).toBeLessThan(stopMs);
      }),
    );
  });

  it("are pruned only when whole, folded upwards, and behind every window", () => {
    fc.assert(
      fc.property(fc.nat(stretch), (offset) => {
        const foldedMs = floorTo(NOW + offset, group.baseMs);
        group.levels.forEach((level, index) => {
          const bound = pruneBound(group, index, foldedMs);
          expect(bound % level.sizeMs).toBe(0);
          expect(bound).toBeLessThanOrEqual(foldedMs - level.retainMs);
          for (const above of group.levels) {
            if (above.parts === index) expect(bound).toBeLessThanOrEqual(frontier(above, foldedMs));
          }
        });
      }),
    );
  });
});

describe("cover", () => {
  const group = GROUP_PLANS["hops of 5 and 6 minutes, the coarser kept shortest"].groups[0] as Group;
  const [slot] = group.slots;
  const spans = (window: Window, from: string, to: string, folded: string) =>
    cover(group, slot, window, { startMs: at(from), endMs: at(to) }, at(folded), Number.POSITIVE_INFINITY).map(
      ({ level, from: first, to: last }) => `${last - first} × ${group.levels[level].sizeMs / MINUTE}m`,
    );

  // Found by a property: at 10:30 a 6-minute tile is aligned too, but another window's, and gone since 11:06.
  it("never reads another window's tiles, which may be gone", () => {
    expect(spans(hopping(6 * HOUR, 5 * MINUTE), "10:30:00", "16:33:00", "14:00:00")).toEqual([
      "6 × 5m",
      "3 × 60m",
      "153 × 1m",
    ]);
  });

  it("takes above a frontier what the next tile will be folded from", () => {
    expect(spans(hopping(6 * HOUR, 5 * MINUTE), "10:30:00", "16:33:00", "16:29:00")).toEqual([
      "6 × 5m",
      "5 × 60m",
      "5 × 5m",
      "8 × 1m",
    ]);
    expect(spans(hopping(30 * MINUTE, 6 * MINUTE), "16:00:00", "16:33:00", "16:29:00")).toEqual(["4 × 6m", "9 × 1m"]);
  });

  it("reads the hop and what fits the window twice", () => {
    const sizes = (window: Window) =>
      levelsOfWindow(group.levels, slot.levels, window).map((index) => group.levels[index].sizeMs / MINUTE);
    expect(sizes(hopping(6 * HOUR, 5 * MINUTE))).toEqual([5, 60]);
    expect(sizes(hopping(90 * MINUTE, 5 * MINUTE))).toEqual([5]);
    expect(sizes(hopping(12 * MINUTE, 6 * MINUTE))).toEqual([6]);
    expect(sizes({ kind: "lifetime" })).toEqual([]);
  });
});
