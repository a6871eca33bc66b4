/** How long whoever was refused waits before it asks again. */

export interface Backoff {
  readonly firstMs: number;
  readonly longestMs: number;
}

/**
 * Full jitter: anywhere below a bound that doubles, so that callers who were refused together do not come back together.
 * @param attempt the how manyeth pause it is, from 1
 * @returns ms
 */
export const backoffMs = (attempt: number, { firstMs, longestMs }: Backoff, random = Math.random): number =>
  random() * Math.min(longestMs, firstMs * 2 ** (attempt - 1));
