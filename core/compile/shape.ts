/**
 * Mistakes that TypeScript would have refused, met by those who run without it: an operator that was not called, a view
 * that is undefined, a definition of another kind. Looked for first, so that each has a message instead of a stack.
 */
import type { BatchFeatureViewDefinition } from "../batch-view.ts";
import type { Definitions, FeatureServiceDefinition, FeatureViewDefinition, StreamDefinition } from "../definition.ts";
import { refuse } from "../errors.ts";
import { OPERATORS } from "../operators/operators.ts";

type Kind = "entity" | "stream" | "featureView" | "batchFeatureView" | "featureService" | "selection" | "registered";

/**
 * @throws DefinitionError `definition_invalid`, `operator_uncalled`, `operator_unknown`, `field_missing`,
 *   `condition_invalid`
 */
export function checkShape(definitions: Definitions): void {
  checkList("entities", definitions.entities, "entity");
  checkList("streams", definitions.streams, "stream");
  checkList("views", definitions.views, "featureView");
  checkList("batchViews", definitions.batchViews ?? [], "batchFeatureView");
  checkList("services", definitions.services, "featureService");
  for (const stream of definitions.streams) checkEnrich(stream);
  for (const view of definitions.views) checkView(view);
  for (const view of definitions.batchViews ?? []) checkBatchView(view);
  for (const service of definitions.services) checkService(service);
}

function checkList(name: string, items: readonly unknown[], kind: Kind): void {
  if (!Array.isArray(items)) {
    refuse("definition_invalid", `${name} is a list, given ${whatIs(items)}`, `write ${name}: [ … ]`, name);
  }
  items.forEach((item, index) => {
    checkKind(`${name}[${index}]`, item, kind);
  });
}

function checkKind(where: string, item: unknown, ...kinds: readonly Kind[]): void {
  const given = kindOf(item);
  if (kinds.some((kind) => kind === given)) return;
  refuse(
    "definition_invalid",
    `${where} is ${article(kinds[0])} ${kinds[0]}, given ${whatIs(item)}`,
    item === undefined
      ? "check the name and its import; files that import each other may see each other unfinished"
      : `make it with ${kinds[0]}(…)`,
  );
}

function checkEnrich({ name, enrich }: StreamDefinition): void {
  for (const [field, given] of Object.entries(enrich ?? {})) {
    if (kindOf(given) === "lookup" && typeof given.feature === "string") continue;
    refuse(
      "definition_invalid",
      `enrich of stream ${name} gives field ${field} a lookup, given ${whatIs(given)}`,
      `write ${field}: lookup("view:feature")`,
      field,
    );
  }
}

function checkView(view: FeatureViewDefinition): void {
  checkKind(`entity of view ${view.name}`, view.entity, "entity");
  checkKind(`source of view ${view.name}`, view.source, "stream");
  if (typeof view.features !== "object" || view.features === null || Array.isArray(view.features)) {
    refuse(
      "definition_invalid",
      `features of view ${view.name} are an object, given ${whatIs(view.features)}`,
      'write features: { tx_count: count().over("1h") }',
    );
  }
  for (const [key, aggregation] of Object.entries(view.features)) {
    checkAggregation(`feature ${view.name}:${key}`, aggregation);
  }
}

function checkBatchView(view: BatchFeatureViewDefinition): void {
  checkKind(`entity of batch view ${view.name}`, view.entity, "entity");
  if (typeof view.features === "object" && view.features !== null && !Array.isArray(view.features)) return;
  refuse(
    "definition_invalid",
    `features of batch view ${view.name} are an object, given ${whatIs(view.features)}`,
    'write features: { chargeback_rate_30d: "double" }',
  );
}

function checkAggregation(where: string, given: unknown): void {
  if (typeof given === "function") {
    const name = given.name === "" ? "it" : given.name;
    const call = name === "count" || name === "timeSinceLast" ? `${name}()` : `${name}(…)`;
    refuse("operator_uncalled", `${where} is given the function ${name} itself`, `call it: ${call}`);
  }
  const { operator, field, where: condition } = (given ?? {}) as Record<string, unknown>;
  if (typeof operator !== "string") {
    refuse(
      "definition_invalid",
      `${where} is an aggregation, given ${whatIs(given)}`,
      'write count().over("1h"), or sum("amount", { scale: 2 }).over("1h")',
    );
  }
  if (!Object.hasOwn(OPERATORS, operator)) {
    refuse(
      "operator_unknown",
      `${where} uses operator ${operator}`,
      `use one of ${Object.keys(OPERATORS).join(", ")}`,
      "operator",
    );
  }
  if (field === undefined) {
    refuse("field_missing", `${operator} in ${where} needs a field`, `write ${operator}("amount", …)`, "field");
  }
  const isCondition = (condition as { where?: unknown } | null | undefined)?.where !== undefined;
  if (condition !== null && condition !== undefined && !isCondition) {
    refuse(
      "condition_invalid",
      `where of ${where} is a condition, given ${whatIs(condition)}`,
      'write eq("status", "declined"), or another of the conditions that core/definition.ts exports',
      "where",
    );
  }
}

function checkService(service: FeatureServiceDefinition): void {
  const where = `features of service ${service.name}`;
  if (!Array.isArray(service.features)) {
    refuse("definition_invalid", `${where} are a list, given ${whatIs(service.features)}`, "write features: [ … ]");
  }
  service.features.forEach((item, index) => {
    checkKind(`${where}, item ${index + 1},`, item, "featureView", "batchFeatureView", "selection", "registered");
  });
}

const kindOf = (item: unknown): unknown => (item as { kind?: unknown } | null | undefined)?.kind;

const article = (kind: string): string => (kind === "entity" ? "an" : "a");

/** For messages: its kind where it is a definition, else its type. */
function whatIs(item: unknown): string {
  if (item === undefined || item === null) return String(item);
  const kind = kindOf(item);
  if (typeof kind === "string") return `${article(kind)} ${kind}`;
  if (Array.isArray(item)) return "a list";
  if (typeof item === "function") return `the function ${item.name} itself`;
  return typeof item === "object" ? "an object" : `${typeof item} ${JSON.stringify(item)}`;
}
