/** Packed values are found by their ids, whatever lies between. Seeded: a failure prints its seed. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { PackedReader, type PushedValue, packValues, unpackValues } from "../../../adapters/valkey/packed.ts";
import type { Scalar } from "../../../core/plan.ts";
import { runs } from "../../support/runs.ts";

const scalar: fc.Arbitrary<Pick<PushedValue, "dtype" | "value">> = fc.oneof(
  fc.record({ dtype: fc.constant("double" as const), value: fc.double({ noNaN: true, noDefaultInfinity: true }) }),
  fc.record({ dtype: fc.constant("int64" as const), value: fc.maxSafeInteger() }),
  fc.record({ dtype: fc.constant("boolean" as const), value: fc.boolean() }),
  fc.record({ dtype: fc.constant("string" as const), value: fc.string({ maxLength: 5 }) }),
  fc.record({ dtype: fc.constantFrom("double" as const, "string" as const), value: fc.constant(null) }),
);
/** Ids ascend by steps of mostly one; so do event times change now and then, as after several pushes. */
const entry = fc.record({
  step: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 300 })),
  timeMs: fc.constantFrom(1_000, 1_000, 1_000, 2 ** 47),
  of: scalar,
});
const packed = fc.array(entry, { maxLength: 30 }).map((entries) => {
  let id = -1;
  const values = new Map<number, { value: Scalar; eventTimeMs: number }>();
  const parts = entries.map(({ step, timeMs, of }) => {
    id += step;
    // −0 is stored as 0.
    values.set(id, { value: typeof of.value === "number" ? of.value + 0 : of.value, eventTimeMs: timeMs });
    return { timeMs, value: { id, ...of } };
  });
  // Runs as one push makes them, and those of several after each other.
  const groups: { timeMs: number; values: PushedValue[] }[] = [];
  for (const { timeMs, value } of parts) {
    const last = groups.at(-1);
    if (last?.timeMs === timeMs) last.values.push(value);
    else groups.push({ timeMs, values: [value] });
  }
  const runs = groups.map((group) => packValues(group.values, group.timeMs).subarray(1));
  return { values, bytes: Buffer.concat([packValues([], 0), ...runs]) };
});

it("a reader that asks for some ids, upwards, finds those that there are", () => {
  const asked = fc.array(fc.nat(400), { maxLength: 40 }).map((ids) => ids.sort((a, b) => a - b));
  fc.assert(
    fc.property(packed, asked, ({ values, bytes }, ids) => {
      const reader = new PackedReader(bytes);
      for (const id of ids) {
        const next = [...values.keys()].find((known) => known >= id) ?? null;
        expect(reader.next(id)).toBe(next);
        if (next !== null) expect([reader.value(), reader.eventTimeMs]).toEqual(Object.values(values.get(next)!));
      }
    }),
    { numRuns: runs(300) },
  );
});

it("all of them come back", () => {
  fc.assert(
    fc.property(packed, ({ values, bytes }) => {
      expect(unpackValues(bytes)).toEqual(values);
    }),
    { numRuns: runs(100) },
  );
});

it("bytes of a newer release are refused", () => {
  expect(() => new PackedReader(Buffer.from([2]))).toThrow("pushed values have version 2, this reader knows 1");
});
