/**
 * Counts of values by bucket, for percentiles. 64 buckets of equal width lie between a power of two and the next, so a bucket's
 * middle is within 1/128 (0.78 %) of whatever is in it; negative values mirror positive ones. Buckets follow the order of the
 * values and are integers taken from a double's own bits, so that equal sets of values have equal states. Log-linear buckets are
 * those of HdrHistogram (Tene); the bound on the relative error is what DDSketch (Masson, Rim, Lee, VLDB 2019) promises too.
 */

/** Bucket and count in turn, ascending by bucket. */
export type Buckets = readonly number[];

const ZERO_BUCKET = 32_768;
const STEPS = 64;
/** Magnitudes below 2^-64 count as 0, those from 2^64 on as the last bucket below it. */
const LEAST_EXPONENT = -64;
const LAST = 128 * STEPS - 1;

const bits = new DataView(new ArrayBuffer(8));

/** 24,576 to 40,960; a greater value never has a smaller one. */
export function bucketOfValue(value: number): number {
  bits.setFloat64(0, value);
  // Below the sign: 11 bits of exponent, then the 6 highest of the mantissa.
  const index = ((bits.getUint32(0) & 0x7fffffff) >>> 14) - (1_023 + LEAST_EXPONENT) * STEPS;
  if (index < 0) return ZERO_BUCKET;
  const distance = 1 + Math.min(index, LAST);
  return value < 0 ? ZERO_BUCKET - distance : ZERO_BUCKET + distance;
}

/** The middle of a bucket. */
export function valueOfBucket(bucket: number): number {
  if (bucket === ZERO_BUCKET) return 0;
  const index = Math.abs(bucket - ZERO_BUCKET) - 1;
  const middle = 2 ** (Math.floor(index / STEPS) + LEAST_EXPONENT) * (1 + ((index % STEPS) + 0.5) / STEPS);
  return bucket < ZERO_BUCKET ? -middle : middle;
}

export function combineBuckets(a: Buckets, b: Buckets): Buckets {
  if (a.length === 0) return b;
  const out: number[] = [];
  for (let i = 0, j = 0; i < a.length || j < b.length; ) {
    const fromA = j >= b.length || (i < a.length && a[i] <= b[j]);
    const both = fromA && i < a.length && a[i] === b[j];
    if (both) out.push(a[i], a[i + 1] + b[j + 1]);
    else if (fromA) out.push(a[i], a[i + 1]);
    else out.push(b[j], b[j + 1]);
    if (fromA) i += 2;
    if (!fromA || both) j += 2;
  }
  return out;
}

/** Of n values the one of rank ceil(p n), 1 to n, as its bucket's middle; null of none. @param p of at most five decimals */
export function percentileOf(buckets: Buckets, p: number): number | null {
  let total = 0;
  for (let i = 1; i < buckets.length; i += 2) total += buckets[i];
  // In whole numbers: 0.07 x 100 is a little more than 7 in doubles.
  const rank = Math.ceil((total * Math.round(p * 100_000)) / 100_000);
  for (let i = 0, seen = 0; i < buckets.length; i += 2) {
    seen += buckets[i + 1];
    if (seen >= rank) return valueOfBucket(buckets[i]);
  }
  return null;
}
