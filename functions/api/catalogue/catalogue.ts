/** `GET /v1/features` and `GET /v1/features/{name}`: what can be read, and what is known of each feature. */
import type { ModelServing } from "../../../adapters/model/serving.ts";
import type { Plan } from "../../../core/plan.ts";
import { ALIASES } from "../../../core/scoring/aliases.ts";
import { Problem, shorten, suggest } from "../problems.ts";
import { limitOf } from "../query.ts";
import type { RegisteredFeatures, TenantFeatures } from "../registered/tenant-features.ts";
import type { Answer, Call, Handle } from "../router.ts";
import {
  declaredEntries,
  definitionJson,
  type Entry,
  entryOf,
  registeredEntries,
  servicesTaking,
} from "./catalogue-entries.ts";
import type { Observations } from "./observations.ts";

const DEFAULT_LIMIT = 50;
/** Each word is looked for in every feature that the tenant has. */
const MAX_SEARCH = 200;
export const CATALOGUE_PARAMETERS = ["q", "entity", "view", "owner", "tag", "kind", "deprecated", "limit", "cursor"];

export function createCatalogueHandlers(deps: {
  readonly plan: Plan;
  readonly registered: RegisteredFeatures | null;
  readonly serving: Pick<ModelServing, "served"> | null;
  readonly observations: Observations;
}): { list: Handle; one: Handle } {
  const { plan, registered, serving, observations } = deps;
  const declared = declaredEntries(plan);
  const ownOf = async (tenant: string): Promise<TenantFeatures | null> => (await registered?.of(tenant)) ?? null;

  /** A declared feature, or a registered one by any of its names. */
  async function find(tenant: string, name: string): Promise<{ entry: Entry; own: TenantFeatures | null }> {
    const known = declared.get(name);
    if (known !== undefined) return { entry: known, own: null };
    let own = await ownOf(tenant);
    let feature = own?.find(name);
    if (feature === undefined && registered !== null) {
      own = await registered.newest(tenant);
      feature = own.find(name);
    }
    if (feature !== undefined) return { entry: entryOf(feature), own };
    throw new Problem("feature_unknown", `no feature is named "${shorten(name)}"`, {
      field: "name",
      repair: suggest(name, [...declared.keys(), ...(own?.names.slice(0, 200) ?? [])]),
    });
  }

  /** The services of the definitions that take it, and which of the tenant's models score with it now. */
  function usedBy(tenant: string, entry: Entry) {
    const services = servicesTaking(plan, entry);
    const models = services.flatMap((service) => {
      const served = serving?.served(tenant, service);
      return ALIASES.flatMap((alias) => {
        const model = served?.[alias];
        return model ? [{ service, alias, model: model.name }] : [];
      });
    });
    return { services, models };
  }

  return {
    async list({ c, principal, requestId }: Call): Promise<Answer> {
      const query = c.req.query();
      checkQuery(query);
      const own = await ownOf(principal.tenant);
      const all = [...declared.values(), ...(own === null ? [] : registeredEntries(own, declared))];
      const { cursor = "" } = query;
      const found = all.filter((entry) => entry.name > cursor && matches(entry, query)).sort(byName);
      const limit = limitOf(query["limit"], DEFAULT_LIMIT);
      const page = found.slice(0, limit);
      const body = {
        features: page.map(entryJson),
        next: found.length > limit ? page[page.length - 1].name : null,
        request_id: requestId,
      };
      return { status: 200, body: JSON.stringify(body), headers: { "cache-control": "no-store" } };
    },

    async one({ c, principal, requestId }: Call): Promise<Answer> {
      const name = c.req.param("name") as string;
      const { entry, own } = await find(principal.tenant, name);
      const body = {
        ...entryJson(entry),
        definition: definitionJson(plan, entry.name, own),
        ...usedBy(principal.tenant, entry),
        served: observations.servedJson(principal.tenant, entry.kind === "pushed" ? versioned(entry) : entry.name),
        pushed: entry.kind === "pushed" ? observations.pushedJson(principal.tenant, versioned(entry)) : null,
        request_id: requestId,
      };
      return { status: 200, body: JSON.stringify(body), headers: { "cache-control": "no-store" } };
    },
  };
}

function entryJson(entry: Entry): Record<string, unknown> {
  const { ttlMs, ...rest } = entry;
  return { ...rest, ttl_ms: ttlMs };
}

const versioned = ({ name, version }: Entry): string => `${name}@${version}`;

const byName = (a: Entry, b: Entry) => (a.name < b.name ? -1 : 1);

function checkQuery(query: Readonly<Record<string, string>>): void {
  const { kind, deprecated, q = "" } = query;
  if (q.length > MAX_SEARCH) {
    throw new Problem("value_too_long", `q is at most ${MAX_SEARCH} characters, given ${q.length}`, {
      field: "q",
      repair: "search for fewer words",
    });
  }
  if (kind !== undefined && !["windowed", "batch", "pushed"].includes(kind)) {
    throw new Problem("wrong_type", `kind is windowed, batch or pushed, given "${shorten(kind)}"`, {
      field: "kind",
      repair: "leave it out for all",
    });
  }
  if (deprecated !== undefined && deprecated !== "true" && deprecated !== "false") {
    throw new Problem("wrong_type", `deprecated is true or false, given "${shorten(deprecated)}"`, {
      field: "deprecated",
      repair: "leave it out for all",
    });
  }
}

/** Each word of `q` is somewhere in the name, description, owner or tags; filters are exact. */
function matches(entry: Entry, query: Readonly<Record<string, string>>): boolean {
  for (const field of ["entity", "view", "owner", "kind"] as const) {
    if (query[field] !== undefined && entry[field] !== query[field]) return false;
  }
  if (query["tag"] !== undefined && !entry.tags.includes(query["tag"])) return false;
  if (query["deprecated"] !== undefined && (entry.deprecated !== null) !== (query["deprecated"] === "true"))
    return false;
  const { name, description, owner, tags } = entry;
  const text = `${name} ${description} ${owner} ${tags.join(" ")}`.toLowerCase();
  return (query["q"] ?? "")
    .toLowerCase()
    .split(/\s+/)
    .every((word) => text.includes(word));
}
