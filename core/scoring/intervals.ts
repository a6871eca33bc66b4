/** 95 % intervals of rates and their differences, where cases come in units (a card's scores) that are alike within. */

export interface Rate {
  readonly hits: number;
  readonly of: number;
  /** Null over nothing. */
  readonly rate: number | null;
  /** 95 %. */
  readonly low: number;
  readonly high: number;
}

export interface Interval {
  readonly difference: number;
  readonly low: number;
  readonly high: number;
}

/** What one unit adds to a ratio: hits of cases, or a sum of scores. */
export interface Part {
  readonly sum: number;
  readonly of: number;
}

/** Of the normal distribution, for 95 %. */
const Z = 1.959963984540054;

/**
 * Wilson's score interval: right also for few cases and rates near 0 or 1. (Wilson 1927; Newcombe 1998, method 3.)
 * @param of may be a fraction, of an effective size
 */
export function wilson(hits: number, of: number): Rate {
  if (of === 0) return { hits, of, rate: null, low: 0, high: 1 };
  const rate = hits / of;
  const centre = (rate + (Z * Z) / (2 * of)) / (1 + (Z * Z) / of);
  const half = (Z / (1 + (Z * Z) / of)) * Math.sqrt((rate * (1 - rate)) / of + (Z * Z) / (4 * of * of));
  return { hits, of, rate, low: hits === 0 ? 0 : centre - half, high: hits === of ? 1 : centre + half };
}

/**
 * Interval of the difference of two independent rates from their own intervals. (Newcombe, "Interval estimation for the
 * difference between independent proportions", 1998, method 10.)
 */
export function newcombe(a: Rate, b: Rate): Interval | null {
  if (a.rate === null || b.rate === null) return null;
  const difference = a.rate - b.rate;
  return {
    difference,
    low: difference - Math.hypot(a.rate - a.low, b.high - b.rate),
    high: difference + Math.hypot(a.high - a.rate, b.rate - b.low),
  };
}

/**
 * Rate over units, by Wilson's interval at the effective size: the count divided by the design effect, which is the rate's
 * variance between units over that of as many independent cases (Kish, "Survey Sampling", 1965). Never less than 1; and a rate
 * of 0 or 1, which shows no variance, counts each unit once. Units of one case each give Wilson's interval as it is.
 */
export function rateOverUnits(parts: readonly Part[]): Rate {
  const { sum: hits, of, units } = total(parts);
  if (of === 0) return wilson(0, 0);
  const rate = hits / of;
  let size = units;
  if (hits > 0 && hits < of) {
    const independent = of > 1 ? (rate * (1 - rate)) / (of - 1) : 0;
    size = units < 2 || independent === 0 ? 1 : of / Math.max(1, ratioVariance(parts) / independent);
  }
  const { low, high } = wilson(hits === of ? size : rate * size, size);
  return { hits, of, rate, low, high };
}

/** Difference of two ratios over units that are not the same, by the delta method (`pairedDifference`). */
export function ratioDifference(a: readonly Part[], b: readonly Part[]): Interval | null {
  const [inA, inB] = [total(a), total(b)];
  if (inA.units < 2 || inB.units < 2) return null;
  return around(inA.sum / inA.of - inB.sum / inB.of, ratioVariance(a) + ratioVariance(b));
}

/**
 * Difference of two ratios over the same units: `a[i]` and `b[i]` are of one unit, so that what they share cancels out. By the
 * delta method: each unit's deviation from either ratio, over that ratio's denominator. (Deng, Knoblich and Lu, "Applying the
 * Delta Method in Metric Analytics", 2018.) For tens of units and more.
 */
export function pairedDifference(a: readonly Part[], b: readonly Part[]): Interval | null {
  const [inA, inB] = [total(a), total(b)];
  if (inA.of === 0 || inB.of === 0) return null;
  const [ratioA, ratioB] = [inA.sum / inA.of, inB.sum / inB.of];
  let units = 0;
  let squares = 0;
  for (let i = 0; i < a.length; i++) {
    if (a[i].of === 0 && b[i].of === 0) continue;
    units++;
    squares += ((a[i].sum - ratioA * a[i].of) / inA.of - (b[i].sum - ratioB * b[i].of) / inB.of) ** 2;
  }
  return units < 2 ? null : around(ratioA - ratioB, (squares * units) / (units - 1));
}

function around(difference: number, variance: number): Interval {
  const half = Z * Math.sqrt(variance);
  return { difference, low: difference - half, high: difference + half };
}

/** Variance of a ratio over two units or more, by the delta method. */
function ratioVariance(parts: readonly Part[]): number {
  const { sum, of, units } = total(parts);
  const ratio = sum / of;
  let squares = 0;
  for (const part of parts) squares += (part.sum - ratio * part.of) ** 2;
  return ((squares / of / of) * units) / (units - 1);
}

function total(parts: readonly Part[]): { sum: number; of: number; units: number } {
  const all = { sum: 0, of: 0, units: 0 };
  for (const { sum, of } of parts) {
    all.sum += sum;
    all.of += of;
    if (of > 0) all.units++;
  }
  return all;
}
