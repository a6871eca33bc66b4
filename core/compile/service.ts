/** Which features, in which order, a service's model sees. */
import type { FeatureServiceDefinition } from "../definition.ts";
import { refuse } from "../errors.ts";
import { isList } from "../operators/operators.ts";
import type { BatchView, Entity, RegisteredInput, Service, View } from "../plan.ts";
import { compileRegistered } from "../registered-feature.ts";

/** @throws DefinitionError for a feature, view or default that is not there, or a feature that is taken twice */
export function compileService(
  service: FeatureServiceDefinition,
  known: readonly Entity[],
  views: readonly (View | BatchView)[],
): Service {
  const registered: RegisteredInput[] = [];
  const chosen = service.features.flatMap((item) => {
    if (item.kind === "registered") {
      const input = compileRegistered(service.name, item, known, views);
      registered.push(input);
      return input.name;
    }
    const name = item.kind === "selection" ? item.view.name : item.name;
    const view = views.find((candidate) => candidate.name === name);
    if (!view)
      return refuse(
        "view_unknown",
        `service ${service.name} uses view ${name}, which the definitions do not list`,
        "add it to views in features/index.ts",
      );
    const all = view.features.map((feature) => feature.name);
    if (item.kind !== "selection") return all;
    return item.features.map((feature) => {
      const full = `${name}:${feature}`;
      if (!all.includes(full)) {
        refuse("feature_unknown", `service ${service.name} uses ${full}`, `use one of ${all.join(", ")}`);
      }
      return full;
    });
  });
  for (const name of new Set(chosen)) {
    if (chosen.indexOf(name) !== chosen.lastIndexOf(name)) {
      refuse("feature_repeated", `service ${service.name} takes ${name} twice`, "leave one of them out");
    }
  }
  const windowed = views.filter((view): view is View => "stream" in view);
  for (const name of chosen) checkScalar(service.name, name, windowed);
  for (const name of Object.keys(service.defaults)) {
    if (!chosen.includes(name)) {
      refuse("default_unknown", `service ${service.name} has a default for ${name}`, "name one of its features");
    }
  }
  const entityOf = (name: string) =>
    (registered.find((input) => input.name === name) ?? views.find((view) => name.startsWith(`${view.name}:`))!).entity;
  const entities = [...new Set(chosen.map(entityOf))];
  return {
    name: service.name,
    features: chosen,
    onDemand: Object.keys(service.onDemand),
    request: service.request,
    defaults: service.defaults,
    entities,
    task: service.task,
    fallback: service.fallback?.version ?? null,
    ...(registered.length === 0 ? {} : { registered }),
    ...(service.rank === null ? {} : { candidate: candidateOf(service, entities) }),
  };
}

/** What a ranking's body says beside join keys and request fields. */
const OF_RANKINGS = ["candidates", "k", "variant", "explain"];

function candidateOf({ name, rank, request }: FeatureServiceDefinition, entities: readonly string[]): string {
  const candidate = rank!.candidate.name;
  const taken = Object.keys(request).find((field) => OF_RANKINGS.includes(field));
  if (taken !== undefined) {
    refuse(
      "request_field_reserved",
      `service ${name} has a request field ${taken}, which means something else in a ranking`,
      `give it another name than ${OF_RANKINGS.join(", ")}`,
    );
  }
  if (!entities.includes(candidate)) {
    refuse(
      "candidate_unknown",
      `service ${name} ranks ${candidate}, of which it takes no feature`,
      `take a view of ${candidate}, or rank one of ${entities.join(", ")}`,
    );
  }
  return candidate;
}

/** A model's input is one number or one category. */
function checkScalar(service: string, name: string, views: readonly View[]): void {
  const view = views.find((candidate) => name.startsWith(`${candidate.name}:`));
  // Values of batch views are scalars.
  if (view === undefined) return;
  const { operator } = view.features.find((feature) => feature.name === name)!;
  if (!isList(operator)) return;
  const others = view.features.filter((feature) => !isList(feature.operator));
  const names = others.map((feature) => JSON.stringify(feature.name.slice(view.name.length + 1)));
  refuse(
    "list_in_service",
    `service ${service} takes ${name}, a list of ${operator}, which no model has an input for`,
    names.length > 0 ? `take the others with .only(${names.join(", ")})` : `leave view ${view.name} out of the service`,
  );
}
