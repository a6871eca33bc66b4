/** The word that takes a registered feature into a service. Exported by `definition.ts`. */
import type { EntityDefinition } from "./definition.ts";
import { refuse } from "./errors.ts";
import type { BatchView, Dtype, Entity, Plan, RegisteredInput, Service, View } from "./plan.ts";
import { fullName, type PushedFeature, parseFeatureName } from "./pushed-feature.ts";

export interface RegisteredFeatureDefinition {
  readonly kind: "registered";
  readonly name: string;
  readonly entity: EntityDefinition;
  readonly dtype: Dtype;
  readonly version: number;
}

/**
 * A feature that each tenant registers and pushes over HTTP, as a service takes it: `registered("profile:age", { entity: card, dtype: "int64" })`.
 * What a tenant has not registered, or not so, is a missing value, for which the service's default stands in.
 */
export function registered(
  name: string,
  options: {
    entity: EntityDefinition;
    /** A registration of another type is not read: a model would be fed something else. */
    dtype: Dtype;
    /** Whatever version the name alone means to a tenant. @default 1 */
    version?: number;
  },
): RegisteredFeatureDefinition {
  return { kind: "registered", version: 1, ...options, name };
}

const DTYPES: readonly Dtype[] = ["int64", "double", "string", "boolean"];

/** What has a view's name in the definitions, so that nobody registers into it: on-demand features are named after their service. */
export function declaredAs(
  view: string,
  { views, batchViews, services }: Pick<Plan, "views" | "batchViews" | "services">,
): "view" | "service" | null {
  if ([...views, ...batchViews].some(({ name }) => name === view)) return "view";
  return services.some(({ name }) => name === view) ? "service" : null;
}

/** Columns that tables of features have beside them: a feature of such a name would be taken for the id or the time, or these for it. */
export const isReserved = (key: string, entities: readonly Pick<Entity, "joinKey">[]): boolean =>
  key === "event_timestamp" || entities.some(({ joinKey }) => joinKey === key);

/** @throws DefinitionError when no tenant could register such a feature, FreshetError `feature_name_invalid` */
export function compileRegistered(
  service: string,
  definition: RegisteredFeatureDefinition,
  entities: readonly Entity[],
  views: readonly (View | BatchView)[],
): RegisteredInput {
  const { dtype, version } = definition;
  const parts = parseFeatureName(definition.name);
  const name = fullName(parts);
  const where = `service ${service} takes registered feature ${name}`;
  if (views.some((view) => view.name === parts.view)) {
    refuse(
      "feature_declared",
      `${where}, whose view the definitions declare, so that nobody can register it`,
      `take the view itself, or register the feature in another view than ${parts.view}`,
    );
  }
  const entity = entities.find((one) => one.name === definition.entity?.name);
  if (entity === undefined) {
    return refuse(
      "entity_unknown",
      `${where} of entity ${definition.entity?.name}, which the definitions do not list`,
      "add it to entities in features/index.ts",
    );
  }
  if (!DTYPES.includes(dtype)) {
    refuse("dtype_unknown", `${where} as ${dtype}`, `use one of ${DTYPES.join(", ")}`, "dtype");
  }
  if (!Number.isInteger(version) || version < 1) {
    refuse("feature_version_invalid", `${where} of version ${version}`, "give a whole number from 1 on", "version");
  }
  return { name, version, entity: entity.name, dtype };
}

/**
 * One name is one feature in all of an app's services, and one that can be registered.
 * @throws DefinitionError `registered_differs`, `feature_declared`, `feature_name_invalid`
 */
export function checkRegistered(services: readonly Service[], entities: readonly Entity[]): void {
  const known = new Map<string, { readonly service: string; readonly input: RegisteredInput }>();
  for (const { name: service, registered: inputs = [] } of services) {
    for (const input of inputs) {
      checkName(service, input.name, services, entities);
      const before = known.get(input.name) ?? { service, input };
      known.set(input.name, before);
      const field = (["version", "entity", "dtype"] as const).find((one) => before.input[one] !== input[one]);
      if (field === undefined) continue;
      refuse(
        "registered_differs",
        `services ${before.service} and ${service} take ${input.name} with ${field} ${before.input[field]} and ${input[field]}`,
        "take one of them under another name",
        field,
      );
    }
  }
}

function checkName(service: string, name: string, services: readonly Service[], entities: readonly Entity[]): void {
  const { view, key } = parseFeatureName(name);
  const where = `service ${service} takes registered feature ${name}`;
  if (services.some((one) => one.name === view)) {
    refuse(
      "feature_declared",
      `${where}, whose view is named as a service, so that nobody can register it`,
      `register the feature in another view than ${view}`,
    );
  }
  if (isReserved(key, entities)) {
    refuse("feature_name_invalid", `${where}, which is named as a column of ids or times`, "use another name for it");
  }
}

/** Whether a tenant's feature is what a service takes. */
export const isInput = (feature: PushedFeature, { name, version, entity, dtype }: RegisteredInput): boolean =>
  fullName(feature) === name && feature.version === version && feature.entity === entity && feature.dtype === dtype;

/** What a tenant has registered of a service's features, by their names in the service. */
export function inputsOf(
  { registered = [] }: Pick<Service, "registered">,
  features: readonly PushedFeature[],
): Map<string, PushedFeature> {
  const found = registered.map((input) => [input.name, features.find((feature) => isInput(feature, input))] as const);
  return new Map(found.flatMap(([name, feature]) => (feature === undefined ? [] : [[name, feature]])));
}
