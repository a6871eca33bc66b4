/**
 * Token buckets, kept as the instant at which the bucket will be full again (the theoretical arrival time of ATM Forum's generic
 * cell rate algorithm): one number, which forgets itself when it has passed. `adapters/valkey/bucket-script.ts` does the
 * same in the store.
 */

export interface Limit {
  /** Tokens that come back in a second; above 0. */
  readonly perSecond: number;
  /** Tokens of a full bucket; at least 1. */
  readonly burst: number;
  /** Tokens of a UTC day; null for no bound. */
  readonly perDay: number | null;
}

export interface Bucket {
  /** When it is full again, in µs since 1970; in the past for a full one. */
  readonly fullAtUs: number;
  /** The UTC day that `usedToday` is of, in days since 1970. */
  readonly day: number;
  readonly usedToday: number;
}

export interface Shortage {
  readonly of: "rate" | "quota";
  /** After that the same cost would be admitted, if nobody else takes it; in µs, above 0; infinite for more than a day's quota. */
  readonly waitUs: number;
}

export const FULL: Bucket = { fullAtUs: 0, day: 0, usedToday: 0 };

export const DAY_US = 86_400_000_000;

const perTokenUs = ({ perSecond }: Limit): number => 1e6 / perSecond;
const backlogUs = ({ fullAtUs }: Bucket, nowUs: number): number => Math.max(fullAtUs - nowUs, 0);
const usedOn = ({ day, usedToday }: Bucket, today: number): number => (day === today ? usedToday : 0);

/**
 * What keeps a cost from being admitted; null for nothing. A cost above the burst is admitted by a full bucket, which then
 * takes the longer to be full again: otherwise it never would be.
 */
export function shortageOf(bucket: Bucket, limit: Limit, cost: number, nowUs: number): Shortage | null {
  const today = Math.floor(nowUs / DAY_US);
  if (limit.perDay !== null && usedOn(bucket, today) + cost > limit.perDay) {
    return { of: "quota", waitUs: cost > limit.perDay ? Number.POSITIVE_INFINITY : (today + 1) * DAY_US - nowUs };
  }
  const overUs = backlogUs(bucket, nowUs) + (Math.min(cost, limit.burst) - limit.burst) * perTokenUs(limit);
  return overUs > 0 ? { of: "rate", waitUs: overUs } : null;
}

/** The bucket after a cost that was admitted. */
export function charge(bucket: Bucket, limit: Limit, cost: number, nowUs: number): Bucket {
  const today = Math.floor(nowUs / DAY_US);
  return {
    fullAtUs: Math.max(bucket.fullAtUs, nowUs) + cost * perTokenUs(limit),
    day: today,
    usedToday: usedOn(bucket, today) + cost,
  };
}

/** The bucket after what was spent elsewhere without asking: at worst it is empty, never in debt for it. */
export function settle(bucket: Bucket, limit: Limit, spent: number, nowUs: number): Bucket {
  if (spent === 0) return bucket;
  const after = charge(bucket, limit, spent, nowUs);
  const emptyUs = Math.max(bucket.fullAtUs, nowUs + limit.burst * perTokenUs(limit));
  return { ...after, fullAtUs: Math.min(after.fullAtUs, emptyUs) };
}

/** Tokens that are there; 0 for a bucket in debt. */
export function tokensLeft(bucket: Bucket, limit: Limit, nowUs: number): number {
  return Math.max(0, Math.floor(limit.burst - backlogUs(bucket, nowUs) / perTokenUs(limit)));
}

export function leftToday(bucket: Bucket, limit: Limit & { readonly perDay: number }, nowUs: number): number {
  return Math.max(0, limit.perDay - usedOn(bucket, Math.floor(nowUs / DAY_US)));
}

/** Whether a cost leaves so much that several hosts may go on without asking each other for a while: half of the bucket. */
export function isPlenty(bucket: Bucket, limit: Limit, cost: number, nowUs: number): boolean {
  const { burst, perDay } = limit;
  if (backlogUs(bucket, nowUs) + cost * perTokenUs(limit) > (burst / 2) * perTokenUs(limit)) return false;
  return perDay === null || usedOn(bucket, Math.floor(nowUs / DAY_US)) + cost + burst <= perDay;
}
