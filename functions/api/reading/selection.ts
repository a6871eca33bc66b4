/** Which features a request reads, worked out once for each list of names and kept: requests repeat themselves. */
import type { EntityRequest, RegisteredRead } from "../../../adapters/online-store/online-store.ts";
import { typeName } from "../../../core/errors.ts";
import { KEY_LIMIT } from "../../../core/event.ts";
import type { Dtype, Entity, FeatureValue, ListDtype, Plan, RegisteredInput, Service } from "../../../core/plan.ts";
import {
  type Deprecation,
  fullName,
  type PushedFeature,
  reachOf,
  storedView,
  versionedName,
} from "../../../core/pushed-feature.ts";
import { MAX_FEATURES } from "../limits.ts";
import { Problem, shorten, suggest } from "../problems.ts";
import type { TenantFeatures } from "../registered/tenant-features.ts";
import { KeptLists } from "./kept-lists.ts";

/** The part of a selection that one entity answers. */
export interface SelectionPart {
  readonly entity: string;
  readonly joinKey: string;
  /** False where the events themselves may lack the key: then a request may lack it too. */
  readonly required: boolean;
  /** The same array for every request of a selection, so that a reader can keep what it derives from it. */
  readonly features: readonly string[];
  /** Position of each feature in the selection. */
  readonly positions: readonly number[];
  /** Those of `features` that the tenant has registered; null for none. */
  readonly registered: readonly RegisteredRead[] | null;
}
export interface Selection {
  readonly names: readonly string[];
  /** `"name":{"value":` of each name, after a comma but for the first: ready to be joined into an answer. */
  readonly jsonHeads: readonly string[];
  /** Under what each of `names` is counted: a registered feature by its version, whatever name it was read by. */
  readonly counted: readonly string[];
  /** Those of `names` that are registered, in their order; empty for most. */
  readonly pushed: readonly PushedFeature[];
  /** What an answer says of those that are on their way out; null where none is. */
  readonly deprecation: DeprecationNotice | null;
  readonly parts: readonly SelectionPart[];
}

const MISSING: FeatureValue = { value: null, status: "NOT_FOUND", eventTimeMs: null };
/** Names that an unknown one is compared with. */
const SUGGESTED = 200;

export interface Catalogue {
  readonly plan: Plan;
  /** @param own what the tenant has registered; without it, a service's registered features are none's @throws Problem `service_unknown` */
  service(name: string, own?: TenantFeatures): { service: Service; selection: Selection };
  /** Everything known of an entity. @param own what the tenant has registered @throws Problem `entity_unknown` */
  entity(name: string, own?: TenantFeatures): Selection;
  /** @returns null when one of the names is not declared @throws Problem `too_many_features` */
  declared(names: readonly string[], field: string): Selection | null;
  /** @throws Problem `feature_unknown` */
  features(names: readonly string[], field: string, own?: TenantFeatures): Selection;
  isJoinKey(name: string): boolean;
  readonly joinKeys: readonly string[];
  /** Names of all views. */
  readonly views: readonly string[];
  /** Of a stored feature, by its full name. */
  dtypeOf(name: string): Dtype | ListDtype | undefined;
}

export function createCatalogue(plan: Plan): Catalogue {
  const entities = new Map(plan.entities.map((entity) => [entity.name, entity]));
  const joinKeys = plan.entities.map(({ joinKey }) => joinKey);
  const entityOf = new Map<string, Entity>();
  const dtypes = new Map<string, Dtype | ListDtype>();
  const deprecations = new Map<string, Deprecation>();
  const views = [...plan.views, ...plan.batchViews];
  for (const { entity, features } of views) {
    for (const { name, dtype, deprecated } of features) {
      if (deprecated !== undefined) deprecations.set(name, deprecated);
      entityOf.set(name, entities.get(entity) as Entity);
      dtypes.set(name, dtype);
    }
  }
  function build(
    names: readonly string[],
    isRequired: (entity: Entity) => boolean,
    own: TenantFeatures | null = null,
    inputs: readonly RegisteredInput[] = [],
  ): Selection {
    const parts = new Map<Entity, { features: string[]; positions: number[]; registered: RegisteredRead[] | null }>();
    const pushed: PushedFeature[] = [];
    const counted = [...names];
    const warned = new Map<string, Deprecation>();
    names.forEach((name, position) => {
      const input = inputs.find((one) => one.name === name);
      const feature = entityOf.has(name) ? undefined : input === undefined ? own?.find(name) : own?.input(input);
      const entity = entityOf.get(name) ?? (entities.get((input ?? feature!).entity) as Entity);
      const part = parts.get(entity) ?? { features: [], positions: [], registered: null };
      parts.set(entity, part);
      // Not registered, or as something else: the row's place stays empty.
      if (input !== undefined && feature === undefined) return;
      if (feature !== undefined) {
        const { id, ttlMs } = feature;
        part.registered ??= [];
        const field = storedView(feature.view);
        part.registered.push({ position: part.features.length, field, id, ttlMs, reachMs: reachOf(feature) });
        pushed.push(feature);
        counted[position] = versionedName(feature);
      }
      const deprecated = feature?.deprecated ?? deprecations.get(name);
      if (deprecated !== undefined) warned.set(name, deprecated);
      part.features.push(name);
      part.positions.push(position);
    });
    return {
      names,
      counted: pushed.length === 0 ? names : counted,
      pushed,
      deprecation: noticeOf(warned),
      jsonHeads: names.map((name, i) => `${i === 0 ? "" : ","}${JSON.stringify(name)}:{"value":`),
      parts: [...parts].map(([entity, part]) => ({
        entity: entity.name,
        joinKey: entity.joinKey,
        required: isRequired(entity),
        ...part,
      })),
    };
  }

  const ofService = (service: Service, own: TenantFeatures | null) =>
    build(service.features, (entity) => isKeyRequired(plan, service, entity), own, service.registered);
  const services = new Map(
    plan.services.map((service) => [service.name, { service, selection: ofService(service, null) }]),
  );
  const wholeEntities = new Map(
    plan.entities.map(({ name }) => {
      const own = views.filter((view) => view.entity === name);
      return [
        name,
        build(
          own.flatMap(({ features }) => features.map((feature) => feature.name)),
          () => true,
        ),
      ];
    }),
  );
  const lists = new KeptLists<Selection>();

  return {
    plan,
    joinKeys,
    views: views.map(({ name }) => name),
    dtypeOf: (name) => dtypes.get(name),
    isJoinKey: (name) => joinKeys.includes(name),
    service(name, own) {
      const found = services.get(name);
      if (found !== undefined && (own === undefined || found.service.registered === undefined)) return found;
      if (found !== undefined && own !== undefined) {
        const selection = own.services.get(name) ?? ofService(found.service, own);
        own.services.set(name, selection);
        return { service: found.service, selection };
      }
      throw new Problem("service_unknown", `no feature service is named "${shorten(name)}"`, {
        field: "service",
        repair: suggest(name, [...services.keys()]),
      });
    },
    entity(name, own) {
      const found = wholeEntities.get(name);
      if (found && own === undefined) return found;
      if (found && own) {
        const pushed = own.all
          .filter((feature) => feature.entity === name && own.isCurrent(feature))
          .map(fullName)
          .filter((full) => !entityOf.has(full));
        const kept = own.entities.get(name) ?? build([...found.names, ...pushed], () => true, own);
        own.entities.set(name, kept);
        return kept;
      }
      throw new Problem("entity_unknown", `no entity is named "${shorten(name)}"`, {
        field: "entity",
        repair: suggest(name, [...wholeEntities.keys()]),
      });
    },
    declared(names, field) {
      if (names.length > MAX_FEATURES) {
        throw new Problem(
          "too_many_features",
          `a request names at most ${MAX_FEATURES} features, given ${names.length}`,
          { field, repair: "ask in several requests" },
        );
      }
      const kept = lists.get(names);
      if (kept !== undefined) return kept;
      if (!names.every((name) => entityOf.has(name))) return null;
      const selection = build([...new Set(names)], () => true);
      return lists.keep(names, selection);
    },
    features(names, field, own) {
      const kept = own?.lists.get(names);
      if (kept !== undefined) return kept;
      names.forEach((name, i) => {
        if (entityOf.has(name) || own?.find(name) !== undefined) return;
        // Of a tenant's own some: comparing with all that it may have takes longer than the rest of the answer.
        const others = own?.names.slice(0, SUGGESTED) ?? [];
        throw new Problem("feature_unknown", `no feature is named "${shorten(name)}"`, {
          field: `${field}[${i}]`,
          repair: suggest(name, [...entityOf.keys(), ...others]),
        });
      });
      // A name that is given twice is answered once: an object with two equal members is read differently by each parser.
      const selection = build([...new Set(names)], () => true, own);
      return own === undefined ? selection : own.lists.keep(names, selection);
    },
  };
}

/** For the answers of a selection. */
interface DeprecationNotice {
  /** RFC 9745. */
  readonly headers: Readonly<Record<string, string>>;
  /** `"warnings":[…]`. */
  readonly json: string;
}

function noticeOf(features: ReadonlyMap<string, Deprecation>): DeprecationNotice | null {
  const warnings = [...features].map(([feature, when]) => ({ code: "feature_deprecated", feature, ...when }));
  if (warnings.length === 0) return null;
  const firstMs = Math.min(...warnings.map(({ date }) => Date.parse(date)));
  return { headers: { deprecation: `@${firstMs / 1_000}` }, json: `"warnings":${JSON.stringify(warnings)}` };
}

/** Whether a score needs an entity's key: not where all events behind the service's features may lack it themselves. */
export function isKeyRequired(plan: Plan, service: Service, entity: Entity): boolean {
  const views = plan.views.filter(
    (view) => view.entity === entity.name && view.features.some(({ name }) => service.features.includes(name)),
  );
  // Known from batch views alone: no event tells whether the key may be absent.
  if (views.length === 0) return true;
  return !views.every((view) => {
    const stream = plan.streams.find(({ name }) => name === view.stream);
    return stream?.fields[entity.joinKey]?.nullable === true;
  });
}

/**
 * The reads of one row of join keys, and where their answers belong. An entity whose key is null is not read: its features
 * stay `NOT_FOUND`.
 * @param prefix path of `keys` in the request, for errors
 */
export function addReads(
  selection: Selection,
  tenant: string,
  keys: Readonly<Record<string, unknown>>,
  prefix: string,
  requests: EntityRequest[],
  targets: SelectionPart[],
): void {
  for (const part of selection.parts) {
    const id = joinKeyValue(keys, part, prefix);
    // Of a service's registered features alone, none of which the tenant has: the key was looked at all the same.
    if (id === null || part.features.length === 0) continue;
    requests.push({ tenant, entity: part.entity, id, features: part.features, registered: part.registered });
    targets.push(part);
  }
}

function joinKeyValue(keys: Readonly<Record<string, unknown>>, part: SelectionPart, prefix: string): string | null {
  const value = Object.hasOwn(keys, part.joinKey) ? keys[part.joinKey] : undefined;
  if (value !== undefined) return checkKeyOrNull(value, part.joinKey, prefix);
  if (!part.required) return null;
  throw new Problem("key_missing_in_body", `${part.joinKey} is required to read features of ${part.entity}`, {
    field: `${prefix}${part.joinKey}`,
    repair: `send ${part.joinKey} as a string, or null if there is none`,
  });
}

/** @throws Problem `wrong_type`, `key_invalid`, `key_too_long` */
export function checkKeyOrNull(value: unknown, name: string, prefix: string): string | null {
  if (value === null) return null;
  if (typeof value === "string") return checkKey(value, `${prefix}${name}`, ", or null");
  throw new Problem("wrong_type", `${name} is a string or null, given ${typeName(value)}`, {
    field: `${prefix}${name}`,
    repair: `send it in quotes, as "${name}": "c1"`,
  });
}

/** An id as events may carry it. @param otherwise what may be sent in its place, for the repair @throws Problem `key_invalid`, `key_too_long` */
export function checkKey(value: string, field: string, otherwise = ""): string {
  if (value.length === 0) {
    throw new Problem("key_invalid", `${field} is empty`, { field, repair: `send the entity's id${otherwise}` });
  }
  if (value.length > KEY_LIMIT) {
    throw new Problem("key_too_long", `${field} is at most ${KEY_LIMIT} characters, given ${value.length}`, {
      field,
      repair: "no event can carry a longer id: check where the id comes from",
    });
  }
  // A lone surrogate has no UTF-8 form: several such ids would become one.
  if (!value.isWellFormed()) {
    throw new Problem("key_invalid", `${field} is not valid Unicode text`, { field, repair: "send UTF-8 text" });
  }
  return value;
}

/** One row's values in the selection's order. */
export function emptyRow(selection: Selection): FeatureValue[] {
  return new Array(selection.names.length).fill(MISSING);
}

export function fillRow(row: FeatureValue[], part: SelectionPart, values: readonly FeatureValue[]): void {
  const { positions } = part;
  for (let i = 0; i < positions.length; i++) row[positions[i]] = values[i];
}
