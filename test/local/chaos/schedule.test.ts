import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FAULTS, type PlannedFault, planFaults } from "../../../local/chaos/schedule.ts";

const ends = ({ atMs, forMs }: PlannedFault): number => atMs + forMs;
const drawn = fc.record({ seed: fc.nat(2 ** 32 - 1), forMs: fc.integer({ min: 1_000, max: 3_600_000 }) });

describe("the schedule of faults", () => {
  it("is the same for the same seed, and another for another", () => {
    expect(planFaults(7, 300_000)).toEqual(planFaults(7, 300_000));
    expect(planFaults(8, 300_000)).not.toEqual(planFaults(7, 300_000));
  });

  it("ends within the run, with every kind once before any comes twice", () => {
    fc.assert(
      fc.property(drawn, ({ seed, forMs }) => {
        const planned = planFaults(seed, forMs);
        const counts = new Map(Object.keys(FAULTS).map((name) => [name, 0]));
        for (const fault of planned) {
          expect(fault.atMs).toBeGreaterThan(0);
          expect(ends(fault)).toBeLessThanOrEqual(forMs);
          counts.set(fault.name, counts.get(fault.name)! + 1);
          expect(Math.max(...counts.values()) - Math.min(...counts.values())).toBeLessThanOrEqual(1);
        }
      }),
    );
  });

  it("never hits one thing with two faults at once, and nothing with three", () => {
    fc.assert(
      fc.property(drawn, ({ seed, forMs }) => {
        const planned = planFaults(seed, forMs);
        planned.forEach((fault, i) => {
          const during = planned.filter(
            (other, j) => j !== i && other.atMs <= fault.atMs && ends(other) >= fault.atMs && j < i,
          );
          expect(during.length).toBeLessThanOrEqual(1);
          for (const other of during) expect(FAULTS[other.name].target).not.toBe(FAULTS[fault.name].target);
        });
      }),
    );
  });

  it("of five minutes has most kinds in it", () => {
    const kinds = new Set(planFaults(7, 300_000).map(({ name }) => name));
    expect(kinds.size).toBeGreaterThan(10);
  });
});
