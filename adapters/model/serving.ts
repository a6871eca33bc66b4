/**
 * The models that score, as the registry's aliases say: polled, loaded in the background, checked and warm before they take a
 * request. A swap is one assignment. A model that is refused, or that cannot be had, changes nothing: the old one stays.
 */

import { FreshetError, InfrastructureError } from "../../core/errors.ts";
import type { Plan } from "../../core/plan.ts";
import type { Alias, Aliases } from "../../core/scoring/aliases.ts";
import type { ModelId, ModelRegistry } from "./model-registry.ts";
import { openServable, type ServableCheck, type ServedModel, servableCheck } from "./servable.ts";

/** Who scores for one tenant and service. */
export interface Served {
  readonly champion: ServedModel | null;
  readonly challenger: ServedModel | null;
  readonly shadow: ServedModel | null;
  readonly share: number | null;
  /** Why there is no champion although there should be one. */
  readonly fault: "models_unavailable" | "model_refused" | null;
}

export interface ServingState {
  /** Epoch milliseconds of the last successful look at the aliases; null before the first. */
  readonly polledMs: number | null;
  readonly loaded: number;
  /** Versions that an alias points to and that do not serve. Tenants are not named: anyone may read this. */
  readonly refused: readonly {
    readonly service: string;
    readonly alias: Alias;
    readonly model: string;
    readonly code: string;
  }[];
}

export interface ModelServing {
  served(tenant: string, service: string): Served;
  state(): ServingState;
  /** What would keep a version from serving here, found out beforehand. */
  readonly check: ServableCheck;
  /** Looks at the aliases as they are at the call, or later, and loads what is new. Never throws. One look at a time. */
  refresh(): Promise<void>;
  /** A look that may miss what changed a moment ago, unless the last attempt is younger than this. */
  refreshIfOlder(ageMs: number): Promise<void>;
  /** Ends polling and frees the models. */
  close(): Promise<void>;
}

export interface ModelServingOptions {
  readonly registry: Pick<ModelRegistry, "allAliases" | "get" | "files">;
  readonly plan: Plan;
  readonly clock: () => number;
  /** Looks each so many ms; null where the host asks by itself. @default 1,500 */
  readonly pollMs?: number | null;
  readonly onEvent: (event: ServingEvent) => void;
}
export interface ServingEvent {
  readonly kind: "serves" | "refused" | "unavailable";
  readonly tenant?: string;
  readonly service?: string;
  readonly model?: string;
  readonly error?: unknown;
}

/** A refused artefact is looked at again after this long: it may have been a machine's passing fault. */
const REFUSED_MS = 60_000;
/** A replaced model is freed when no request can be with it any more; also, a rollback finds it still warm. */
const RETIRED_MS = 30_000;

const NOBODY: Served = { champion: null, challenger: null, shadow: null, share: null, fault: null };
const UNKNOWN: Served = { ...NOBODY, fault: "models_unavailable" };
const PARTS = ["champion", "challenger", "shadow"] as const satisfies Alias[];

interface Loaded {
  readonly served: ServedModel;
  /** Since when nobody needs it; null while it serves. */
  idleSinceMs: number | null;
}
interface Refusal {
  readonly code: string;
  readonly atMs: number;
  /** Only out of reach: tried again at the next look. */
  readonly isPassing: boolean;
}

export function createModelServing(options: ModelServingOptions): ModelServing {
  const { registry, plan, clock, pollMs = 1_500, onEvent } = options;
  const loaded = new Map<string, Loaded>();
  const refusals = new Map<string, Refusal>();
  let current = new Map<string, Served>();
  let refused: ServingState["refused"] = [];
  let polledMs: number | null = null;
  let triedMs = Number.NEGATIVE_INFINITY;
  let refreshing: Promise<void> | null = null;
  /** A look that begins when the one under way has ended. */
  let following: Promise<void> | null = null;
  let closed = false;

  /** @returns null for a version that cannot serve now */
  async function have(id: ModelId, alias: Alias, version: number): Promise<ServedModel | null> {
    const key = `${id.tenant}/${id.service}/${version}`;
    const there = loaded.get(key);
    if (there !== undefined) return there.served;
    const refusal = refusals.get(key);
    if (refusal !== undefined && !refusal.isPassing && clock() - refusal.atMs < REFUSED_MS) return null;
    try {
      const served = await openServable(registry, plan, await registry.get(id, version));
      loaded.set(key, { served, idleSinceMs: null });
      refusals.delete(key);
      onEvent({ kind: "serves", ...id, model: served.name });
      return served;
    } catch (error) {
      const isPassing = error instanceof InfrastructureError;
      const code = error instanceof FreshetError ? error.code : "internal";
      refusals.set(key, { code, atMs: clock(), isPassing });
      const kind = isPassing ? "unavailable" : "refused";
      onEvent({ kind, ...id, model: `${alias} version ${version}`, error });
      return null;
    }
  }

  async function look(isConsistent: boolean): Promise<void> {
    const all = await registry.allAliases(isConsistent);
    const next = new Map<string, Served>();
    const now: (typeof refused)[number][] = [];
    for (const { tenant, service, aliases } of all) {
      if (!plan.services.some(({ name }) => name === service)) continue;
      const key = `${tenant}/${service}`;
      next.set(key, await serve({ tenant, service }, aliases, current.get(key) ?? NOBODY, now));
    }
    if (closed) return;
    current = next;
    refused = now;
    polledMs = clock();
    await freeIdle();
  }

  async function serve(
    id: ModelId,
    aliases: Aliases,
    before: Served,
    now: (typeof refused)[number][],
  ): Promise<Served> {
    const parts: Record<Alias, ServedModel | null> = { champion: null, challenger: null, shadow: null };
    let fault: Served["fault"] = null;
    for (const alias of PARTS) {
      const version = aliases[alias];
      if (version === null) continue;
      const got = await have(id, alias, version);
      parts[alias] = got ?? before[alias];
      if (got !== null) continue;
      const { code, isPassing } = refusals.get(`${id.tenant}/${id.service}/${version}`)!;
      now.push({ service: id.service, alias, model: `version ${version}`, code });
      if (alias === "champion" && parts.champion === null) fault = isPassing ? "models_unavailable" : "model_refused";
    }
    return { ...parts, share: aliases.share, fault };
  }

  async function freeIdle(): Promise<void> {
    const serving = new Set([...current.values()].flatMap((one) => PARTS.map((alias) => one[alias])));
    for (const [key, entry] of loaded) {
      if (serving.has(entry.served)) entry.idleSinceMs = null;
      else if (entry.idleSinceMs === null) entry.idleSinceMs = clock();
      else if (clock() - entry.idleSinceMs >= RETIRED_MS) {
        loaded.delete(key);
        await entry.served.model.close();
      }
    }
  }

  const begin = (isConsistent: boolean): Promise<void> => {
    if (closed) return Promise.resolve();
    triedMs = clock();
    refreshing = look(isConsistent)
      .catch((error) => onEvent({ kind: "unavailable", error }))
      .finally(() => {
        refreshing = null;
      });
    return refreshing;
  };
  const poll = (): Promise<void> => refreshing ?? begin(false);
  const refresh = (): Promise<void> => {
    if (refreshing === null) return begin(true);
    // That look may have begun before what the caller wants to see.
    following ??= refreshing.then(() => {
      following = null;
      return begin(true);
    });
    return following;
  };
  const timer = pollMs === null ? null : setInterval(() => void poll(), pollMs);
  timer?.unref();

  return {
    served: (tenant, service) => current.get(`${tenant}/${service}`) ?? (polledMs === null ? UNKNOWN : NOBODY),
    state: () => ({ polledMs, loaded: loaded.size, refused }),
    check: servableCheck(registry, plan),
    refresh,
    async refreshIfOlder(ageMs) {
      // A registry that does not answer is not asked more often than one that does.
      if (clock() - triedMs > ageMs || refreshing !== null) await poll();
    },
    async close() {
      closed = true;
      if (timer !== null) clearInterval(timer);
      await (following ?? refreshing);
      for (const { served } of loaded.values()) await served.model.close();
      loaded.clear();
    },
  };
}
