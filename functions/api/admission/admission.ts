/** What a request may cost its tenant: which limit counts, what a refusal says, and what every answer tells of what is left. */
import type { TokenBuckets } from "../../../adapters/online-store/token-buckets.ts";
import { within } from "../../../adapters/online-store/within.ts";
import { DAY_US, type Limit, leftToday, tokensLeft } from "../../../core/token-bucket.ts";
import type { Telemetry } from "../observability/telemetry.ts";
import { type Problem, turnedAway } from "../problems.ts";
import { createLimiter, type Decision } from "./limiter.ts";
import type { Limits, RouteClass, TenantStore } from "./tenants.ts";

export interface LimitPorts {
  /** Of the stage; a class that is left out has none. */
  readonly defaults: Limits;
  readonly tenants: Pick<TenantStore, "get">;
  /** Null for a host that cannot reach the store: its own buckets decide. */
  readonly store: TokenBuckets | null;
  /** How long a request waits for the store's word, in ms. @default 50 */
  readonly patienceMs?: number;
}

/** One request's account with its tenant. */
export interface Ticket {
  /** Before a body is read: refuses what is known to be refused, and takes nothing. @throws Problem as `charge` */
  check(): void;
  /**
   * Takes tokens: one for each row read or scored, or written. Asks in this turn of the event loop, so that the question
   * travels with what the request reads; what it returns has to be awaited before anything is changed, told or logged.
   * @returns nothing where it is decided already
   * @throws Problem `rate_limited`, `quota_exceeded` at once, or by the promise
   */
  charge(cost: number): Promise<void> | undefined;
  /** The decision; takes one token where the handler took none. Of no use once `charge` has thrown. */
  settled(): Promise<void> | undefined;
  /** For the answer; none while nothing is decided. */
  headers(): Readonly<Record<string, string>> | undefined;
}

/** Of hosts without limits, and of calls without a tenant. */
export const FREE_TICKET: Ticket = {
  check() {},
  charge: () => undefined,
  settled: () => undefined,
  headers: () => undefined,
};

export interface Admission {
  open(tenant: string, routeClass: RouteClass): Ticket;
}

/** A changed limit counts after this long, as a changed key does. */
const CACHE_MS = 30_000;
/** From this age on those of a tenant that calls are read again, behind its requests' backs. */
const REFRESH_MS = 20_000;
const CACHE_ENTRIES = 10_000;
/** No request waits longer for its tenant's limits, in ms: it goes by what was known, or by the stage's. */
const TABLE_PATIENCE_MS = 50;

interface Known {
  readonly limits: Limits;
  readonly readAtMs: number;
}

export function createAdmission(options: {
  ports: LimitPorts;
  clock: () => number;
  telemetry: Telemetry;
  onFault: (code: string, error: unknown) => void;
}): Admission {
  const { ports, clock, telemetry, onFault } = options;
  const limiter = createLimiter({
    store: ports.store,
    patienceMs: ports.patienceMs,
    clock,
    onFallback(active, cause) {
      telemetry.limiterFallback(active);
      if (active) onFault("limiter_fallback", cause);
    },
  });
  const known = new Map<string, Known>();
  const reading = new Map<string, Promise<Limits>>();

  async function read(tenant: string): Promise<Limits> {
    let limits = known.get(tenant)?.limits ?? ports.defaults;
    const askedAtMs = clock();
    try {
      const record = await ports.tenants.get(tenant);
      limits = { ...ports.defaults, ...record?.limits };
    } catch (error) {
      // What was known goes on; a tenant that is new here has the stage's.
      onFault("tenant_unreadable", error);
    }
    return keep(tenant, limits, askedAtMs);
  }

  function keep(tenant: string, limits: Limits, readAtMs: number): Limits {
    if (known.size >= CACHE_ENTRIES) known.delete(known.keys().next().value as string);
    known.set(tenant, { limits, readAtMs });
    return limits;
  }

  function readOnce(tenant: string): Promise<Limits> {
    let pending = reading.get(tenant);
    if (pending === undefined) {
      pending = read(tenant).finally(() => reading.delete(tenant));
      reading.set(tenant, pending);
    }
    return pending;
  }

  /** Waits for the table only when nothing is known of the tenant, or nothing new enough, and not for long. */
  function limitsOf(tenant: string): Limits | Promise<Limits> {
    const entry = known.get(tenant);
    const ageMs = entry === undefined ? CACHE_MS : clock() - entry.readAtMs;
    if (entry === undefined || ageMs >= CACHE_MS) {
      const last = entry?.limits ?? ports.defaults;
      return within(TABLE_PATIENCE_MS, readOnce(tenant)).catch(() => keep(tenant, last, clock()));
    }
    if (ageMs >= REFRESH_MS) void readOnce(tenant);
    return entry.limits;
  }

  return {
    open(tenant, routeClass) {
      let limit: Limit | undefined;
      let decision: Decision | undefined;
      let isCharged = false;
      let pending: Promise<void> | undefined;

      function settle(decided: Decision, cost: number): void {
        decision = decided;
        if (decided.shortage === null) return;
        telemetry.limited(routeClass, decided.shortage.of);
        throw refusalOf(routeClass, limit!, decided, cost);
      }

      function ask(limits: Limits, cost: number): Promise<void> | undefined {
        limit = limits[routeClass];
        if (limit === undefined) return undefined;
        const decided = limiter.admit(tenant, routeClass, limit, cost);
        if (decided instanceof Promise) return decided.then((found) => settle(found, cost));
        settle(decided, cost);
        return undefined;
      }

      function charge(cost: number): Promise<void> | undefined {
        isCharged = true;
        const limits = limitsOf(tenant);
        const asked = limits instanceof Promise ? limits.then((found) => ask(found, cost)) : ask(limits, cost);
        // Who fails before awaiting this has an error of its own; the router looks at both.
        asked?.catch(() => {});
        pending = pending === undefined || asked === undefined ? (asked ?? pending) : pending.then(() => asked);
        pending?.catch(() => {});
        return asked;
      }

      return {
        check() {
          limit = known.get(tenant)?.limits[routeClass];
          const refused = limit === undefined ? null : limiter.known(tenant, routeClass, limit);
          if (refused === null) return;
          isCharged = true;
          settle(refused, 1);
        },
        charge,
        settled: () => (isCharged ? pending : charge(1)),
        headers: () => (decision === undefined ? undefined : rateHeaders(routeClass, limit!, decision)),
      };
    },
  };
}

const seconds = (us: number): number => Math.max(1, Math.ceil(us / 1e6));

function refusalOf(routeClass: RouteClass, limit: Limit, decision: Decision, cost: number): Problem {
  const { of, waitUs } = decision.shortage!;
  const rates = rateHeaders(routeClass, limit, decision);
  if (of === "quota") return quotaRefusal(routeClass, limit, decision, cost, rates);
  const wait = seconds(waitUs);
  const headers = { "retry-after": String(wait), ...rates };
  return turnedAway(
    "rate_limited",
    `the tenant may use ${limit.perSecond} tokens a second for ${routeClass}, ${limit.burst} at once; a row or event is one`,
    {
      repair: `send it again after ${wait} s, with jitter; send fewer rows at once, or ask for a higher limit`,
      headers,
    },
  );
}

function quotaRefusal(
  routeClass: RouteClass,
  limit: Limit,
  { shortage, bucket, nowUs }: Decision,
  cost: number,
  rates: Readonly<Record<string, string>>,
): Problem {
  const perDay = limit.perDay as number;
  const left = leftToday(bucket, { ...limit, perDay }, nowUs);
  const higher = "ask for a higher quota: freshet tenants limits";
  // Waiting never helps.
  if (cost > perDay) {
    const message = `the call costs ${cost} tokens for ${routeClass}, and the tenant has ${perDay} a day, of which ${left} are left`;
    return turnedAway("quota_exceeded", message, {
      repair: `send fewer rows at once, ${perDay} at most, or ${higher}`,
      headers: rates,
    });
  }
  const wait = seconds(shortage!.waitUs);
  const until = `wait until midnight UTC (${wait} s), or ${higher}`;
  const headers = { "retry-after": String(wait), ...rates };
  if (left === 0) {
    const message = `the tenant's ${perDay} tokens of today for ${routeClass} are used up`;
    return turnedAway("quota_exceeded", message, { repair: until, headers });
  }
  const message = `the call costs ${cost} tokens for ${routeClass}, and ${left} of the tenant's ${perDay} of today are left`;
  return turnedAway("quota_exceeded", message, { repair: `send fewer rows, ${left} at most, ${until}`, headers });
}

/** Policies do not change with each request. */
const policies = new WeakMap<Limit, string>();

function policyOf(routeClass: RouteClass, limit: Limit): string {
  let policy = policies.get(limit);
  if (policy === undefined) {
    const { burst, perSecond, perDay } = limit;
    policy = `"${routeClass}";q=${burst};w=${Math.max(1, Math.ceil(burst / perSecond))}`;
    if (perDay !== null) policy += `, "${routeClass}-day";q=${perDay};w=86400`;
    policies.set(limit, policy);
  }
  return policy;
}

/** `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers, from revision 08 on. */
function rateHeaders(routeClass: RouteClass, limit: Limit, { bucket, nowUs }: Decision): Record<string, string> {
  const untilFull = Math.max(0, Math.ceil((bucket.fullAtUs - nowUs) / 1e6));
  let left = `"${routeClass}";r=${tokensLeft(bucket, limit, nowUs)};t=${untilFull}`;
  if (limit.perDay !== null) {
    const today = leftToday(bucket, { ...limit, perDay: limit.perDay }, nowUs);
    left += `, "${routeClass}-day";r=${today};t=${Math.ceil((DAY_US - (nowUs % DAY_US)) / 1e6)}`;
  }
  return { "ratelimit-policy": policyOf(routeClass, limit), ratelimit: left };
}
