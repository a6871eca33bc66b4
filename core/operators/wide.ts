/**
 * Exact sums wider than a double's 53 bits, as two integers: value = hi * 2^40 + lo with 0 <= lo < 2^40. Every |x| < 2^43
 * and x^2 < 2^86 fits, and adding is exact in any order. A single double would not do: whether a running sum passes
 * 2^53 depends on the order of its terms, and then equal sets of events would give different answers.
 */
export interface Wide {
  readonly hi: number;
  readonly lo: number;
}

export const LOW = 2 ** 40;
export const ZERO: Wide = { hi: 0, lo: 0 };

/** From an integer with |x| < 2^53. */
export function wide(x: number): Wide {
  const hi = Math.floor(x / LOW);
  return { hi, lo: x - hi * LOW };
}

export function addWide(a: Wide, b: Wide): Wide {
  const lo = a.lo + b.lo;
  return lo < LOW ? { hi: a.hi + b.hi, lo } : { hi: a.hi + b.hi + 1, lo: lo - LOW };
}

/** A sum of squares that has reached 2^93. It stays there: served as null, and equal bytes in any order. */
export const OVERFLOWN: Wide = { hi: 2 ** 53, lo: 0 };

/** `addWide` for terms that are never negative. */
export function addSquares(a: Wide, b: Wide): Wide {
  const total = addWide(a, b);
  return total.hi >= OVERFLOWN.hi ? OVERFLOWN : total;
}

/** x^2 for an integer with |x| < 2^43, split so that no product passes 2^53. */
export function squareWide(x: number): Wide {
  const magnitude = Math.abs(x);
  const high = Math.floor(magnitude / 2 ** 22); // < 2^21
  const low = magnitude - high * 2 ** 22; // < 2^22
  const middle = 2 * high * low; // < 2^44, weighs 2^22
  const middleHigh = Math.floor(middle / 2 ** 18); // weighs 2^40
  const rest = (middle - middleHigh * 2 ** 18) * 2 ** 22 + low * low; // < 2^40 + 2^44
  const carry = Math.floor(rest / LOW);
  return { hi: high * high * 16 + middleHigh + carry, lo: rest - carry * LOW };
}

export const wideToBigInt = (w: Wide): bigint => BigInt(w.hi) * 1099511627776n + BigInt(w.lo);

/** The value as a double when it is exact there, |x| < 2^53; null (OVERFLOW) otherwise. */
export function wideToNumber(w: Wide): number | null {
  if (w.hi >= 8192 || w.hi < -8192) return null;
  const value = w.hi * LOW + w.lo;
  return value > -(2 ** 53) ? value : null;
}
