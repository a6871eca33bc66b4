/** `POST /v1/features/register`: a feature whose values are pushed. */
import type { FeatureRegistry } from "../../../adapters/pushed/feature-registry.ts";
import { parseDuration } from "../../../core/duration.ts";
import { FreshetError, typeName } from "../../../core/errors.ts";
import type { Plan } from "../../../core/plan.ts";
import {
  type Deprecation,
  dtypeOf,
  fullName,
  isDeprecation,
  type PushedFeature,
  parseFeatureName,
  type Registration,
  versionedName,
} from "../../../core/pushed-feature.ts";
import { declaredAs, isReserved } from "../../../core/registered-feature.ts";
import { checkFields, type JsonObject, readObject } from "../body.ts";
import { MAX_QUERY_BYTES } from "../limits.ts";
import { Problem, shorten, shown, suggest } from "../problems.ts";
import type { Answer, Call, Handle } from "../router.ts";
import type { RegisteredFeatures } from "./tenant-features.ts";

const DEFAULT_TTL = "1h";
/** Ten years: longer is for ever, which a value that nobody renews should not be. */
const MAX_TTL_MS = 3_650 * 86_400_000;
const MAX_VERSION = 1_000_000;
const MAX_TAGS = 16;
const MAX_TAG = 64;
const FIELDS = [
  "name",
  "version",
  "dtype",
  "entity",
  "ttl",
  "description",
  "unit",
  "owner",
  "tags",
  "deprecated",
  "replace",
  "current",
];

export function createRegisterHandler(deps: {
  readonly plan: Plan;
  readonly registry: Pick<FeatureRegistry, "register">;
  readonly registered: RegisteredFeatures;
  readonly clock: () => number;
}): Handle {
  const { plan, registry, registered, clock } = deps;
  return async ({ c, principal, requestId }: Call): Promise<Answer> => {
    const body = await readObject(c, MAX_QUERY_BYTES);
    const registration = readRegistration(plan, body);
    const options = { replace: flagOf(body, "replace"), current: flagOf(body, "current"), nowMs: clock() };
    const { feature, outcome, current } = await register(registry, principal.tenant, registration, options);
    // This host knows at once, others within seconds.
    await registered.reload(principal.tenant);
    const answer = { ...registeredJson(feature, current), outcome, request_id: requestId };
    const how = `${options.replace ? ", replace" : ""}${options.current ? ", current" : ""}`;
    const target = `feature ${versionedName(feature)}, ${outcome}${how}`;
    return { status: outcome === "created" ? 201 : 200, body: JSON.stringify(answer), target };
  };
}

async function register(registry: Pick<FeatureRegistry, "register">, ...args: Parameters<FeatureRegistry["register"]>) {
  try {
    return await registry.register(...args);
  } catch (error) {
    if (!(error instanceof FreshetError)) throw error;
    const again = {
      repair: "register it again: a registration that was made already stays as it is",
      headers: { "retry-after": "2" },
      cause: error,
    };
    if (error.code === "catalogue_busy") throw new Problem("catalogue_busy", error.message, again);
    if (error.code !== "catalogue_unavailable") throw error;
    throw new Problem("catalogue_unavailable", "the table of registered features does not answer", again);
  }
}

/** What answers tell of a registered feature. @param current version that the name alone means */
function registeredJson(feature: PushedFeature, current: number): Record<string, unknown> {
  return {
    name: fullName(feature),
    version: feature.version,
    versioned_name: versionedName(feature),
    current_version: current,
    entity: feature.entity,
    dtype: feature.dtype,
    ttl_ms: feature.ttlMs,
    description: feature.description,
    unit: feature.unit,
    owner: feature.owner,
    tags: feature.tags,
    deprecated: feature.deprecated,
    registered_at_ms: feature.registeredMs,
  };
}

function readRegistration(plan: Plan, body: JsonObject): Registration {
  checkFields(body, FIELDS, "a registration");
  const { view, key } = parseFeatureName(textOf(body, "name", 140, null));
  const declared = declaredAs(view, plan);
  if (declared !== null) {
    throw new Problem("feature_declared", `${declared} ${view} is declared in the definitions`, {
      field: "name",
      repair: "use another view's name",
    });
  }
  if (isReserved(key, plan.entities)) {
    throw new Problem("feature_name_invalid", `${key} names a column of ids or times beside features`, {
      field: "name",
      repair: "use another name for the feature",
    });
  }
  const entity = textOf(body, "entity", 63, null);
  const entities = plan.entities.map(({ name }) => name);
  if (!entities.includes(entity)) {
    throw new Problem("entity_unknown", `no entity is named "${shorten(entity)}"`, {
      field: "entity",
      repair: suggest(entity, entities),
    });
  }
  const word = textOf(body, "dtype", 32, null);
  const dtype = dtypeOf(word);
  if (dtype === null) {
    throw new Problem("dtype_unknown", `no type is named "${word}"`, {
      field: "dtype",
      repair: "use int64, double, string or boolean",
    });
  }
  const version = versionOf(body["version"]);
  checkTaken(plan, { view, key, version, entity, dtype });
  return {
    view,
    key,
    version,
    entity,
    dtype,
    ttlMs: ttlOf(body["ttl"] ?? DEFAULT_TTL),
    description: textOf(body, "description", 1_000, ""),
    unit: textOf(body, "unit", 32, ""),
    owner: textOf(body, "owner", 128, ""),
    tags: tagsOf(body["tags"]),
    deprecated: deprecationOf(body["deprecated"]),
  };
}

/** What a service takes under the name is said in its definition: of another entity or type, it would never be read. */
function checkTaken(plan: Plan, given: Pick<Registration, "view" | "key" | "version" | "entity" | "dtype">): void {
  for (const { name: service, registered = [] } of plan.services) {
    const input = registered.find(({ name, version }) => name === fullName(given) && version === given.version);
    const field = (["entity", "dtype"] as const).find((one) => input !== undefined && input[one] !== given[one]);
    if (input === undefined || field === undefined) continue;
    throw new Problem(
      "feature_conflict",
      `service ${service} takes ${versionedName(given)} with ${field} ${input[field]}, given ${given[field]}`,
      { field, repair: `register it with ${field} ${input[field]}, or under another name or version` },
    );
  }
}

/** @param otherwise what is meant when it is left out; null where it may not be */
function textOf(body: JsonObject, field: string, limit: number, otherwise: string | null): string {
  const value = body[field] ?? otherwise;
  if (value === null) {
    throw new Problem("field_missing", `${field} is required`, { field, repair: `send ${field} as a text` });
  }
  if (typeof value !== "string") {
    throw new Problem("wrong_type", `${field} is a string, given ${typeName(value)}`, {
      field,
      repair: "send it in quotes",
    });
  }
  if (value.length > limit) {
    throw new Problem("value_too_long", `${field} is at most ${limit} characters, given ${value.length}`, {
      field,
      repair: "send a shorter text",
    });
  }
  if (value.isWellFormed()) return value;
  throw new Problem("text_invalid", `${field} is not valid Unicode text`, { field, repair: "send UTF-8 text" });
}

function versionOf(given: unknown): number {
  if (given === undefined || given === null) return 1;
  // Some write versions as v2.
  const version = typeof given === "string" && /^v?\d{1,7}$/.test(given) ? Number(given.replace("v", "")) : given;
  if (typeof version === "number" && Number.isInteger(version) && version >= 1 && version <= MAX_VERSION)
    return version;
  throw new Problem(
    "feature_version_invalid",
    `a version is a whole number from 1 to ${MAX_VERSION}, given ${shown(given)}`,
    { field: "version", repair: "send 1, and the next number for another type or entity" },
  );
}

function ttlOf(given: unknown): number {
  const repair = 'send "30m", "24h", "30d", or a whole number of seconds, up to ten years';
  let ttlMs = Number.NaN;
  if (typeof given === "number") ttlMs = Number.isInteger(given) ? given * 1_000 : Number.NaN;
  else if (typeof given === "string") {
    try {
      ttlMs = parseDuration(given);
    } catch {
      // Told below.
    }
  }
  if (ttlMs >= 1_000 && ttlMs <= MAX_TTL_MS) return ttlMs;
  const rule =
    ttlMs > MAX_TTL_MS
      ? "at most ten years, 3650d"
      : ttlMs < 1_000
        ? "at least one second"
        : "a whole number of seconds, or one with s, m, h or d";
  throw new Problem("ttl_invalid", `ttl is ${rule}, given ${shown(given)}`, { field: "ttl", repair });
}

function tagsOf(given: unknown): readonly string[] {
  if (given === undefined || given === null) return [];
  const isTag = (tag: unknown) =>
    typeof tag === "string" && tag.length >= 1 && tag.length <= MAX_TAG && tag.isWellFormed();
  if (Array.isArray(given) && given.length <= MAX_TAGS && given.every(isTag)) return [...new Set(given)].sort();
  throw new Problem("wrong_type", `tags is an array of at most ${MAX_TAGS} texts of 1 to ${MAX_TAG} characters`, {
    field: "tags",
    repair: 'send "tags": ["fraud"]',
  });
}

function deprecationOf(given: unknown): Deprecation | null {
  if (given === undefined || given === null) return null;
  const repair = 'send {"date": "2027-01-31", "use": "profile:age_years"}, or null';
  if (typeof given !== "object" || Array.isArray(given)) {
    const message = `deprecated is an object with a date, given ${shown(given)}`;
    throw new Problem("deprecation_invalid", message, { field: "deprecated", repair });
  }
  checkFields(given as JsonObject, ["date", "use"], "deprecated", "deprecated.");
  const { date, use = null } = given as { date?: unknown; use?: unknown };
  if (isDeprecation({ date, use })) return { date, use } as Deprecation;
  const [field, rule, value] = isDeprecation({ date, use: null })
    ? ["deprecated.use", "the name of a feature, of at most 140 characters", use]
    : ["deprecated.date", "a day as 2027-01-31", date];
  throw new Problem("deprecation_invalid", `${field} is ${rule}, given ${shown(value)}`, { field, repair });
}

function flagOf(body: JsonObject, field: string): boolean {
  const value = body[field] ?? false;
  if (typeof value === "boolean") return value;
  throw new Problem("wrong_type", `${field} is true or false, given ${typeName(value)}`, {
    field,
    repair: `send "${field}": true`,
  });
}
