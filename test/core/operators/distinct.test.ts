import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { hash64 } from "../../../adapters/hash.ts";
import {
  combineDistinct,
  countDistinct,
  type Distinct,
  REGISTERS,
  SPARSE_MAX,
} from "../../../core/operators/distinct.ts";

const hash32 = (text: string) => Number.parseInt(hash64(text).slice(0, 8), 16);
const of = (hashes: readonly number[]): Distinct =>
  hashes.reduce<Distinct>((state, h) => combineDistinct(state, [h]), []);
const range = (n: number, prefix = "v") => Array.from({ length: n }, (_, i) => hash32(`${prefix}${i}`));

describe("approximate distinct counts", () => {
  it("are exact to 48 values and keep a set of 32-bit hashes until then", () => {
    for (const n of [0, 1, 47, SPARSE_MAX]) {
      expect(of(range(n))).toHaveLength(n);
      expect(countDistinct(of(range(n)))).toBe(n);
    }
    expect(of(range(SPARSE_MAX + 1))).toHaveLength(REGISTERS);
  });

  it.each([49, 100, 1_000, 3_000, 10_000, 100_000, 1_000_000])("of %i values are within four standard errors", (n) => {
    const registers = new Uint8Array(REGISTERS);
    let state: Distinct = registers;
    for (let from = 0; from < n; from += 10_000) {
      const part = new Uint8Array(REGISTERS);
      for (let i = from; i < Math.min(n, from + 10_000); i++) {
        const h = hash32(`n${i}`);
        part[h >>> 22] = Math.max(part[h >>> 22], Math.min(23, Math.clz32((h << 10) >>> 0) + 1));
      }
      state = combineDistinct(state, part);
    }
    // 1.04 / sqrt(1024) is 3.25 %.
    expect(Math.abs(countDistinct(state) - n) / n).toBeLessThan(4 * 0.0325);
  });

  it("average to the truth over many sets: the error has no direction", () => {
    const errors = Array.from({ length: 60 }, (_, set) => (countDistinct(of(range(600, `s${set}-`))) - 600) / 600);
    expect(Math.abs(errors.reduce((a, b) => a + b, 0) / errors.length)).toBeLessThan(0.015);
  });

  it("have one form and one set of bytes for a set of values, whatever order and grouping", () => {
    const hashes = fc.array(
      fc.oneof(
        fc.nat(120).map((n) => hash32(`x${n}`)),
        fc.constantFrom(0, 1, 0xffffffff, 0x80000000, 0x003fffff, 0x00400000),
      ),
      { maxLength: 150 },
    );
    fc.assert(
      fc.property(
        hashes.chain((list) =>
          fc.tuple(fc.constant(list), fc.shuffledSubarray(list, { minLength: list.length }), fc.nat(150)),
        ),
        ([list, other, cut]) => {
          const whole = of(list);
          expect(of(other)).toEqual(whole);
          expect(combineDistinct(of(list.slice(0, cut)), of(list.slice(cut)))).toEqual(whole);
          expect(combineDistinct(of(list.slice(cut)), of(list.slice(0, cut)))).toEqual(whole);
          expect(combineDistinct(whole, whole)).toEqual(whole);
          expect(whole instanceof Uint8Array).toBe(new Set(list).size > SPARSE_MAX);
        },
      ),
    );
  });

  it("never change a state that they are combined from", () => {
    const [dense, sparse] = [of(range(60)) as Uint8Array, of(range(5, "w"))];
    const before = dense.slice();
    combineDistinct(dense, sparse);
    combineDistinct(sparse, dense);
    expect(dense).toEqual(before);
  });
});
