/**
 * How often each value occurs, exactly, up to a number of different values; beyond it nothing but that it was passed. Which of
 * the two a state is depends on the set of values alone: more values never make it less.
 */
import type { Scalar } from "../plan.ts";
import { compareUtf8 } from "../where.ts";

/** Different values that a tile, and a window, can hold. */
export const TALLY_LIMIT = 64;
export type Tally = ReadonlyMap<Scalar, number> | "overflow";

export function combineTallies(a: Tally, b: Tally): Tally {
  if (a === "overflow" || b === "overflow") return "overflow";
  const union = new Map(a);
  for (const [value, count] of b) union.set(value, (union.get(value) ?? 0) + count);
  return union.size > TALLY_LIMIT ? "overflow" : union;
}

/** The k values that occur most often, the smaller of equals first; null of none, and of more than can be told. */
export function mostFrequent(tally: Tally, k: number): Scalar[] | null {
  if (tally === "overflow" || tally.size === 0) return null;
  const entries = [...tally].sort(([a, m], [b, n]) => n - m || compareValues(a, b));
  return entries.slice(0, k).map(([value]) => value);
}

/** Of one type: texts as their UTF-8 bytes, numbers by size, false before true. */
const compareValues = (a: Scalar, b: Scalar): number =>
  typeof a === "string" ? compareUtf8(a, b as string) : Number(a) - Number(b);
