/** Everything that can be read, as the catalogue tells of it: features of the definitions, and those that the tenant has registered. */
import { formatDuration } from "../../../core/duration.ts";
import { wordsOf } from "../../../core/feature-words.ts";
import type { Feature, Plan, View } from "../../../core/plan.ts";
import { type Deprecation, fullName, type PushedFeature } from "../../../core/pushed-feature.ts";
import type { TenantFeatures } from "../registered/tenant-features.ts";

export type Kind = "windowed" | "batch" | "pushed";
export interface Entry {
  readonly name: string;
  readonly kind: Kind;
  readonly view: string;
  readonly entity: string;
  readonly dtype: string;
  readonly description: string;
  readonly unit: string;
  readonly owner: string;
  readonly tags: readonly string[];
  readonly ttlMs: number;
  /** Of a registered feature, what its name alone means; null for declared ones. */
  readonly version: number | null;
  readonly deprecated: Deprecation | null;
}

/** Of the definitions, by name. */
export function declaredEntries(plan: Plan): Map<string, Entry> {
  const entries = plan.views.flatMap((view) =>
    view.features.map((feature): Entry => ({ ...commonOf(view), ...windowedOf(plan, view, feature) })),
  );
  for (const view of plan.batchViews) {
    for (const { name, dtype, description, unit = "", deprecated = null } of view.features) {
      entries.push({
        ...commonOf(view),
        name,
        kind: "batch",
        dtype,
        description: description || view.description,
        unit,
        deprecated,
      });
    }
  }
  return new Map(entries.map((entry) => [entry.name, entry]));
}

const commonOf = ({
  name,
  entity,
  owner,
  tags,
  ttlMs,
}: Pick<View, "name" | "entity" | "owner" | "tags" | "ttlMs">) => ({
  ...{ view: name, entity, owner, tags, ttlMs, version: null, deprecated: null },
});

function windowedOf(plan: Plan, view: View, feature: Feature) {
  const { name, dtype, description, unit = feature.operator === "timeSinceLast" ? "seconds" : "" } = feature;
  const { deprecated = null } = feature;
  const kind: Kind = "windowed";
  const words = description || wordsOf(feature, plan.groups[view.group]);
  return { name, kind, dtype, description: words, unit, deprecated };
}

export function entryOf(feature: PushedFeature): Entry {
  const { view, entity, dtype, description, unit, owner, tags, ttlMs, version, deprecated } = feature;
  const name = fullName(feature);
  return { name, kind: "pushed", view, entity, dtype, description, unit, owner, tags, ttlMs, version, deprecated };
}

/** Of the registered features what each name alone means, unless it is declared. */
export function registeredEntries(own: TenantFeatures, declared: ReadonlyMap<string, Entry>): Entry[] {
  return own.all.filter((feature) => own.isCurrent(feature) && !declared.has(fullName(feature))).map(entryOf);
}

/** Names of the services of the definitions that take a feature: of a registered one, this version. */
export const servicesTaking = (
  { services }: Pick<Plan, "services">,
  { name, kind, version }: Pick<Entry, "name" | "kind" | "version">,
): string[] =>
  services
    .filter(({ features, registered = [] }) =>
      kind === "pushed"
        ? registered.some((input) => input.name === name && input.version === version)
        : features.includes(name),
    )
    .map((service) => service.name);

/** How a feature comes about. */
export function definitionJson(plan: Plan, name: string, own: TenantFeatures | null): Record<string, unknown> {
  for (const view of plan.views) {
    const feature = view.features.find((each) => each.name === name);
    if (feature === undefined) continue;
    const { input } = plan.groups[view.group].channels[plan.groups[view.group].slots[feature.slots[0]].channel];
    const { window } = feature;
    return {
      stream: view.stream,
      operator: feature.operator,
      field: input.field,
      where: input.where,
      window:
        window.kind === "lifetime"
          ? "lifetime"
          : { size: formatDuration(window.sizeMs), hop: formatDuration(window.hopMs), delay_ms: window.delayMs },
    };
  }
  for (const view of plan.batchViews) {
    if (!view.features.some((each) => each.name === name)) continue;
    return { sql: view.sql, streams: view.streams, every: formatDuration(view.everyMs) };
  }
  const versions = own?.all.filter((feature) => fullName(feature) === name) ?? [];
  return {
    versions: versions.map(({ version, entity, dtype, ttlMs, deprecated, registeredMs }) => ({
      ...{ version, entity, dtype, ttl_ms: ttlMs, deprecated, registered_at_ms: registeredMs },
    })),
  };
}
