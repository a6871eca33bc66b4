/**
 * Decides what a tenant may do now. The store holds one bucket for all hosts; each host keeps its own picture of it. While the
 * picture is fresh and shows plenty, or nothing at all, a request is decided here and now, and what was spent is told to the
 * store a little later; else the store is asked, in the turn of the request, beside what the request itself reads. So a tenant
 * far from its limit costs no call, one that floods costs one a second, and only near the limit is every request asked for.
 * Hosts can be wrong together by what they admit within `TELL_MS` out of the upper half of a bucket, which then shows; what a
 * host has not told when it ends is forgotten.
 */
import type { TokenBuckets } from "../../../adapters/online-store/token-buckets.ts";
import {
  type Bucket,
  charge,
  FULL,
  isPlenty,
  type Limit,
  type Shortage,
  settle,
  shortageOf,
} from "../../../core/token-bucket.ts";

/** A picture older than this decides nothing by itself. */
const FRESH_MS = 1_000;
/** What was spent is told to the store this much later. */
const TELL_MS = 100;
/** A store that fails is tried again this much later, behind the requests' backs. */
const RETRY_MS = 1_000;
/** No request waits longer for the store's word: a fifth of what a read may take, many times what it takes. */
const PATIENCE_MS = 50;
/** Pictures kept; each is of a tenant that had a valid key. */
const METERS = 20_000;

export interface Decision {
  /** Null when it is admitted. */
  readonly shortage: Shortage | null;
  readonly bucket: Bucket;
  /** The store's clock as far as it is known, µs since 1970. */
  readonly nowUs: number;
}

export interface Limiter {
  /** Decides at once where it can. Never fails: where the store does not answer, this host's picture decides. */
  admit(tenant: string, routeClass: string, limit: Limit, cost: number): Decision | Promise<Decision>;
  /** What is known already to keep even one token from being admitted. Asks nobody and takes nothing. */
  known(tenant: string, routeClass: string, limit: Limit): Decision | null;
}

export interface LimiterOptions {
  /** Null for a host that cannot reach one: its own buckets decide. */
  readonly store: TokenBuckets | null;
  /** Epoch milliseconds. */
  readonly clock: () => number;
  /** How long a request waits for the store's word, in ms. @default 50 */
  readonly patienceMs?: number;
  /** Told when the store stops answering, with why, and when it answers again. */
  readonly onFallback: (active: boolean, cause?: unknown) => void;
}

/** This host's picture of one bucket. */
interface Meter {
  readonly tenant: string;
  readonly routeClass: string;
  limit: Limit;
  bucket: Bucket;
  /** The store's clock ahead of this one's, µs. */
  aheadUs: number;
  /** When the store last answered; -Infinity for never. */
  seenMs: number;
  /** Tokens that the store has not been told of. */
  untold: number;
  timer: NodeJS.Timeout | null;
}

export function createLimiter(options: LimiterOptions): Limiter {
  const { store, clock, onFallback, patienceMs = PATIENCE_MS } = options;
  const meters = new Map<string, Meter>();
  let isDown = false;

  function meterOf(tenant: string, routeClass: string, limit: Limit): Meter {
    const name = `${routeClass} ${tenant}`;
    let meter = meters.get(name);
    if (meter === undefined) {
      if (meters.size >= METERS) meters.delete(meters.keys().next().value as string);
      const seenMs = Number.NEGATIVE_INFINITY;
      meter = { tenant, routeClass, limit, bucket: FULL, aheadUs: 0, seenMs, untold: 0, timer: null };
      meters.set(name, meter);
    }
    meter.limit = limit;
    return meter;
  }

  const nowOf = (meter: Meter): number => clock() * 1_000 + meter.aheadUs;

  function setDown(down: boolean, cause?: unknown): void {
    if (down === isDown) return;
    isDown = down;
    onFallback(down, cause);
  }

  /** Decides by the picture alone. */
  function decide(meter: Meter, cost: number): Decision {
    const nowUs = nowOf(meter);
    const shortage = shortageOf(meter.bucket, meter.limit, cost, nowUs);
    if (shortage === null) spend(meter, cost, nowUs);
    return { shortage, bucket: meter.bucket, nowUs };
  }

  function spend(meter: Meter, cost: number, nowUs: number): void {
    meter.bucket = charge(meter.bucket, meter.limit, cost, nowUs);
    if (store === null) return;
    meter.untold += cost;
    tellLater(meter, isDown ? RETRY_MS : TELL_MS);
  }

  function tellLater(meter: Meter, ms: number): void {
    if (meter.timer !== null) return;
    meter.timer = setTimeout(() => {
      meter.timer = null;
      if (meter.untold === 0) return;
      ask(meter, 0).catch((error: unknown) => {
        setDown(true, error);
        tellLater(meter, RETRY_MS);
      });
    }, ms);
    meter.timer.unref();
  }

  /** Asks the store and learns from its answer. @throws Error of the store; what was not told stays to be told */
  async function ask(meter: Meter, cost: number): Promise<boolean> {
    const { tenant, routeClass, limit, untold } = meter;
    meter.untold = 0;
    const askedMs = clock();
    try {
      const { admitted, bucket, nowUs } = await store!.charge({ tenant, routeClass, limit, spent: untold, cost });
      // What was spent here while the answer was on its way.
      meter.bucket = settle(bucket, meter.limit, meter.untold, nowUs);
      meter.seenMs = clock();
      meter.aheadUs = nowUs - meter.seenMs * 1_000;
      // An answer that came too late for its request is no reason to wait for the next one.
      if (meter.seenMs - askedMs <= patienceMs) setDown(false);
      return admitted;
    } catch (error) {
      meter.untold += untold;
      throw error;
    }
  }

  async function askInTime(meter: Meter, cost: number): Promise<Decision> {
    let timer: NodeJS.Timeout | undefined;
    try {
      const patience = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error(`the store did not answer within ${patienceMs} ms`)), patienceMs);
      });
      const asked = ask(meter, cost);
      const admitted = await Promise.race([asked, patience]);
      const nowUs = nowOf(meter);
      if (admitted) return { shortage: null, bucket: meter.bucket, nowUs };
      // What the store refused is not admitted by a picture that has just become a little better.
      const shortage = shortageOf(meter.bucket, meter.limit, cost, nowUs) ?? { of: "rate" as const, waitUs: 1 };
      return { shortage, bucket: meter.bucket, nowUs };
    } catch (error) {
      setDown(true, error);
      return decide(meter, cost);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Whether the picture may decide. A clock that was set back makes none fresh. */
  function isFresh(meter: Meter): boolean {
    const ageMs = clock() - meter.seenMs;
    return store === null || isDown || (ageMs >= 0 && ageMs < FRESH_MS);
  }

  /** Refused for one token is refused for any cost. */
  function refusal(meter: Meter): Decision | null {
    const nowUs = nowOf(meter);
    const shortage = shortageOf(meter.bucket, meter.limit, 1, nowUs);
    return shortage === null ? null : { shortage, bucket: meter.bucket, nowUs };
  }

  return {
    admit(tenant, routeClass, limit, cost) {
      const meter = meterOf(tenant, routeClass, limit);
      if (!isFresh(meter)) return askInTime(meter, cost);
      if (store === null || isDown) return decide(meter, cost);
      const refused = refusal(meter);
      if (refused !== null) return refused;
      return isPlenty(meter.bucket, limit, cost, nowOf(meter)) ? decide(meter, cost) : askInTime(meter, cost);
    },

    known(tenant, routeClass, limit) {
      const meter = meterOf(tenant, routeClass, limit);
      return isFresh(meter) ? refusal(meter) : null;
    },
  };
}
