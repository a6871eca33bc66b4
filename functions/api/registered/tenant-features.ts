/**
 * What tenants have registered, as this host knows it. A host keeps each tenant's registrations and looks for newer ones while they are
 * asked for: seldom enough that a flood of unknown names costs the table one small read in a while, and its own tenant alone any waiting.
 */
import { within } from "../../../adapters/online-store/within.ts";
import type { TenantRegistrations } from "../../../adapters/pushed/feature-registry.ts";
import type { Plan, RegisteredInput } from "../../../core/plan.ts";
import { DEFAULT_VIEW, fullName, type PushedFeature, versionedName } from "../../../core/pushed-feature.ts";
import { isInput } from "../../../core/registered-feature.ts";
import { Problem } from "../problems.ts";
import { KeptLists } from "../reading/kept-lists.ts";
import type { Selection } from "../reading/selection.ts";

/** What is this old is good, while newer is fetched behind the request's back. */
const FRESH_MS = 2_000;
/** What is older is not used without having looked, for a host that has slept; unless the table has failed as lately. */
const STALE_MS = 5_000;
/** A table that has just failed is not asked again. */
const PAUSE_MS = 2_000;
/** Who can go on with what is known waits no longer for what is newer. */
const PATIENCE_MS = 100;
/** Nor does anyone else: a table that hangs is one that fails. */
const LOOKUP_MS = 1_500;
const TENANTS = 1_000;

/** One state of a tenant's registrations. What is derived from it can be kept for as long as it. */
export class TenantFeatures {
  readonly revision: number;
  /** In the order of their names; of each feature all versions. */
  readonly all: readonly PushedFeature[];
  /** Selections of lists that name any of them. */
  readonly lists = new KeptLists<Selection>();
  /** Everything known of an entity, by its name. */
  readonly entities = new Map<string, Selection>();
  /** Of each service that takes any of them, by its name. */
  readonly services = new Map<string, Selection>();
  private readonly byName = new Map<string, PushedFeature>();
  private readonly current: ReadonlyMap<string, number>;

  /** @param entities those that the plan has: of others nothing can be read */
  constructor({ revision, features, current }: TenantRegistrations, entities: ReadonlySet<string>) {
    this.revision = revision;
    this.current = current;
    this.all = features.filter(({ entity }) => entities.has(entity)).sort(byNameAndVersion);
    for (const feature of this.all) {
      this.byName.set(versionedName(feature), feature);
      if (this.isCurrent(feature)) this.byName.set(fullName(feature), feature);
      if (feature.view !== DEFAULT_VIEW) continue;
      this.byName.set(`${feature.key}@${feature.version}`, feature);
      if (this.isCurrent(feature)) this.byName.set(feature.key, feature);
    }
  }

  /** By `view:feature`, by `view:feature@version`, and without the view where that is `pushed`. */
  find(name: string): PushedFeature | undefined {
    return this.byName.get(name);
  }

  /** What a service takes, where it is registered as that. */
  input(input: RegisteredInput): PushedFeature | undefined {
    const feature = this.byName.get(`${input.name}@${input.version}`);
    return feature !== undefined && isInput(feature, input) ? feature : undefined;
  }

  /** Whether the feature's name alone means this version. */
  isCurrent(feature: PushedFeature): boolean {
    return this.current.get(fullName(feature)) === feature.version;
  }

  get names(): string[] {
    return [...this.byName.keys()];
  }
}

function byNameAndVersion(a: PushedFeature, b: PushedFeature): number {
  const [left, right] = [fullName(a), fullName(b)];
  if (left === right) return a.version - b.version;
  return left < right ? -1 : 1;
}

interface Held {
  features: TenantFeatures | null;
  checkedAtMs: number;
  failedAtMs: number;
  loading: Promise<TenantFeatures> | null;
  /** When what is `loading` was asked for. */
  askedAtMs: number;
}

export interface RegisteredFeatures {
  /** The tenant's, at most some seconds old. @throws (or rejects with) Problem `catalogue_unavailable` */
  of(tenant: string): TenantFeatures | Promise<TenantFeatures>;
  /** The same, at most two seconds old: for a name that was not found. */
  newest(tenant: string): TenantFeatures | Promise<TenantFeatures>;
  /** What this host knew last, however old; null for nothing. */
  last(tenant: string): TenantFeatures | null;
  /** As they are now: after a change of this host's own. */
  reload(tenant: string): Promise<TenantFeatures>;
}

const unreadable = (cause: unknown) =>
  new Problem("catalogue_unavailable", "the table of registered features could not be read", {
    repair: "try again in a few seconds; declared features are served meanwhile",
    headers: { "retry-after": "2" },
    cause,
  });

export function createRegisteredFeatures(
  load: (tenant: string, known: number | null) => Promise<TenantRegistrations | null>,
  plan: Pick<Plan, "entities">,
  clock: () => number,
): RegisteredFeatures {
  const entities = new Set(plan.entities.map(({ name }) => name));
  const tenants = new Map<string, Held>();

  function heldOf(tenant: string): Held {
    const known = tenants.get(tenant);
    if (known !== undefined) return known;
    if (tenants.size >= TENANTS) tenants.delete(tenants.keys().next().value as string);
    const held: Held = {
      features: null,
      checkedAtMs: Number.NEGATIVE_INFINITY,
      failedAtMs: Number.NEGATIVE_INFINITY,
      loading: null,
      askedAtMs: Number.NEGATIVE_INFINITY,
    };
    tenants.set(tenant, held);
    return held;
  }

  function refresh(tenant: string, held: Held): Promise<TenantFeatures> {
    held.loading ??= fetchNewer(tenant, held).finally(() => {
      held.loading = null;
    });
    return held.loading;
  }

  async function fetchNewer(tenant: string, held: Held): Promise<TenantFeatures> {
    const askedAtMs = clock();
    held.askedAtMs = askedAtMs;
    try {
      const newer = await within(LOOKUP_MS, load(tenant, held.features?.revision ?? null));
      if (newer !== null) held.features = new TenantFeatures(newer, entities);
      held.checkedAtMs = askedAtMs;
      return held.features!;
    } catch (cause) {
      held.failedAtMs = clock();
      throw unreadable(cause);
    }
  }

  /** What is fresh, or will be. @throws Problem where the table has just failed */
  function newest(tenant: string): TenantFeatures | Promise<TenantFeatures> {
    const held = heldOf(tenant);
    if (held.features !== null && clock() - held.checkedAtMs < FRESH_MS) return held.features;
    if (clock() - held.failedAtMs < PAUSE_MS) throw unreadable(undefined);
    return refresh(tenant, held);
  }

  return {
    of(tenant) {
      const held = heldOf(tenant);
      const known = held.features;
      if (known === null) return newest(tenant);
      const ageMs = clock() - held.checkedAtMs;
      const sinceFailureMs = clock() - held.failedAtMs;
      if (ageMs < FRESH_MS || sinceFailureMs < PAUSE_MS) return known;
      // A table that does not answer is no reason to forget what is known.
      const newer = refresh(tenant, held).catch(() => known);
      if (Math.min(ageMs, sinceFailureMs) < STALE_MS || clock() - held.askedAtMs >= PATIENCE_MS) return known;
      return within(PATIENCE_MS, newer).catch(() => known);
    },
    newest,
    last: (tenant) => tenants.get(tenant)?.features ?? null,
    async reload(tenant) {
      const held = heldOf(tenant);
      // One that is under way may have looked before the change.
      if (held.loading !== null) await held.loading.catch(() => {});
      return refresh(tenant, held);
    },
  };
}
