/** Medians of rounds: on a machine that does other things too, a mean follows the worst round. */

/** @throws RangeError for no values */
export function median(values: readonly number[]): number {
  return percentile(
    [...values].sort((a, b) => a - b),
    50,
  );
}

/**
 * @param sorted ascending, at least one
 * @param p 0 to 100; linear between the two nearest ranks, as NumPy's default
 */
export function percentile(sorted: ArrayLike<number>, p: number): number {
  if (sorted.length === 0) throw new RangeError("a percentile needs at least one value");
  const rank = ((sorted.length - 1) * p) / 100;
  const below = Math.floor(rank);
  const above = Math.ceil(rank);
  return sorted[below] + (sorted[above] - sorted[below]) * (rank - below);
}
