/** One declared aggregation: checked against its stream's contract, then what it needs stored and how it is served. */

import type { AggregationDefinition, FeatureViewDefinition } from "../definition.ts";
import { formatDuration, parseDuration } from "../duration.ts";
import { refuse } from "../errors.ts";
import { canonicalJson } from "../json.ts";
import { MAX_HOPS } from "../operators/decay.ts";
import { isList, OPERATORS } from "../operators/operators.ts";
import type { Channel, Contract, Feature, FieldType, HoppingWindow, Stream, Where, Window } from "../plan.ts";
import { type Deprecation, isDeprecation } from "../pushed-feature.ts";
import { literalsOf } from "../where.ts";
import type { Need } from "./group.ts";
import { hoppingWindow } from "./hop.ts";

export const NAME = /^[a-z][a-z0-9_]{0,62}$/;

export interface Draft extends Need {
  readonly view: FeatureViewDefinition;
  readonly name: string;
  readonly aggregation: AggregationDefinition;
  readonly parameter: number | null;
  readonly type: FieldType | null;
}

export function draftFeatures(
  view: FeatureViewDefinition,
  key: string,
  aggregation: AggregationDefinition,
  stream: Stream,
  channels: Channel[],
): Draft[] {
  const where = `feature ${view.name}:${key}`;
  if (!NAME.test(key))
    refuse("name_invalid", `a name is 1 to 63 of a-z, 0-9 and _, given "${key}"`, "rename the feature");
  const operator = OPERATORS[aggregation.operator];
  const condition = aggregation.where?.where ?? null;
  if (condition !== null) checkCondition(where, condition, stream.fields);
  const { scale } = aggregation;
  if (operator.scale === "required" && !(Number.isInteger(scale) && scale! >= 0 && scale! <= 9)) {
    refuse(
      "scale_required",
      `${aggregation.operator} of ${aggregation.field} in ${where} adds up exactly only in minor units, given scale ${scale ?? "none"}`,
      "write { scale: 2 } for amounts with two decimal places (0 to 9)",
      "scale",
    );
  }
  const parameter = parameterOf(where, aggregation);
  const field = aggregation.operator === "timeSinceLast" ? stream.eventTime : aggregation.field;
  const accepted: FieldType[] =
    aggregation.operator === "first" || aggregation.operator === "last" || aggregation.operator === "lastN"
      ? ["string", "double", "long", "boolean"]
      : aggregation.operator === "approxDistinct" || aggregation.operator === "topK"
        ? ["string", "long", "boolean"]
        : ["double", "long"];
  const type = field === null ? null : checkField(where, field, stream.fields, accepted);
  const channel: Channel = { input: { field, where: condition, scale }, type };
  const text = canonicalJson(channel.input);
  let index = channels.findIndex(({ input }) => canonicalJson(input) === text);
  if (index < 0) index = channels.push(channel) - 1;
  const slots = operator.slots.map((kind) => {
    if (kind !== "lastN") return { key: `${kind}${text}`, kind, channel: index };
    const keep = parameter as number;
    return { key: `${kind}${canonicalJson({ ...channel.input, keep })}`, kind, channel: index, keep };
  });
  const windows = aggregation.windows.length === 0 ? ["lifetime" as const] : aggregation.windows;
  return windows.map((size): Draft => {
    const suffix = aggregation.windows.length === 0 ? "" : `_${size}`;
    const window =
      size === "lifetime" ? ({ kind: "lifetime" } as const) : hoppingWindow(where, size, aggregation, stream.baseMs);
    if (size === "lifetime" && aggregation.delay !== null) {
      refuse("delay_invalid", `${where} delays a lifetime window`, "delay hopping windows only", "delay");
    }
    if (operator.byHop) {
      const byHop = windowByHop(where, window, parameter as number);
      return { view, name: `${key}${suffix}`, aggregation, parameter, window: byHop, slots, type };
    }
    return { view, name: `${key}${suffix}`, aggregation, parameter, window, slots, type };
  });
}

/** Durations in ms; null for an operator that is told nothing. */
function parameterOf(where: string, { operator, parameter }: AggregationDefinition): number | null {
  const rule = OPERATORS[operator].parameter;
  if (rule === undefined) return null;
  const { name, example, holds } = rule;
  const isDuration = name === "halfLife";
  const value = isDuration && typeof parameter === "string" ? parseDuration(parameter, name, where) : parameter;
  if (typeof value === "number" && isDuration === (typeof parameter === "string") && holds(value)) return value;
  return refuse(
    "parameter_invalid",
    `${operator} in ${where} needs ${name}, ${rule.rule}, given ${parameter ?? "none"}`,
    `write ${example}`,
    name,
  );
}

/** A condition compares a field with values of its own type, or TypeScript and SQL would answer differently. */
function checkCondition(where: string, condition: Where, fields: Contract["fields"]): void {
  for (const { field, values } of literalsOf(condition)) {
    const type = checkField(where, field, fields, ["string", "double", "long", "boolean"]);
    const wanted = type === "string" || type === "boolean" ? type : "number";
    for (const value of values) {
      if (typeof value === wanted && (wanted !== "number" || Number.isFinite(value))) continue;
      refuse(
        "where_type",
        `${where} compares field ${field}, a ${type}, with ${typeof value === "string" ? JSON.stringify(value) : value}`,
        value === null ? "use isNull" : `compare it with a ${wanted}`,
        field,
      );
    }
  }
}

export function toFeature(draft: Draft, slots: readonly number[]): Feature {
  const { aggregation, parameter, type } = draft;
  const { operator } = aggregation;
  const byType = { string: "string", boolean: "boolean", long: "int64", double: "double", map: "string" } as const;
  const keepsType = ["first", "last", "lastN", "topK", "min", "max"].includes(operator);
  const counts = operator === "count" || operator === "approxDistinct";
  const scalar = counts ? "int64" : keepsType && type !== null ? byType[type] : "double";
  return {
    name: `${draft.view.name}:${draft.name}`,
    view: draft.view.name,
    operator,
    window: draft.window,
    slots,
    scale: aggregation.scale,
    sample: aggregation.sample,
    dtype: isList(operator) ? `${scalar}[]` : scalar,
    ...(parameter === null ? {} : { parameter }),
    description: aggregation.description,
    ...(aggregation.unit === "" ? {} : { unit: aggregation.unit }),
    ...deprecatedOf(`feature ${draft.view.name}:${draft.name}`, aggregation.deprecation),
  };
}

/** @throws DefinitionError `deprecation_invalid` */
export function deprecatedOf(where: string, deprecated: Deprecation | null): { deprecated?: Deprecation } {
  if (deprecated === null) return {};
  if (isDeprecation(deprecated)) return { deprecated };
  return refuse(
    "deprecation_invalid",
    `${where} is deprecated from ${deprecated.date} on`,
    'give a day and, if there is one, what to use instead: "2027-01-31", "view:feature"',
    "deprecated",
  );
}

export function checkField(
  where: string,
  field: string,
  fields: Contract["fields"],
  types: readonly FieldType[],
): FieldType {
  const found = fields[field];
  if (!found) {
    return refuse(
      "field_unknown",
      `${where} uses field ${field}`,
      `use one of ${Object.keys(fields).join(", ")}`,
      field,
    );
  }
  if (!types.includes(found.type)) {
    refuse(
      "field_type",
      `${where} needs ${types.join(" or ")}, field ${field} is ${found.type}`,
      "use another field",
      field,
    );
  }
  return found.type;
}

/** For a sum that fades in steps of the window's hop. */
function windowByHop(where: string, window: Window, halfLifeMs: number): HoppingWindow {
  if (window.kind === "lifetime") {
    return refuse(
      "decay_lifetime",
      `decayedSum in ${where} needs a window, given lifetime: what has faded would be read for ever`,
      `write .over("${formatDuration(Math.ceil(halfLifeMs / 8_640_000) * 86_400_000)}"), about ten half-lives`,
      "over",
    );
  }
  const { sizeMs, hopMs } = window;
  if (halfLifeMs < hopMs) {
    refuse(
      "half_life_too_short",
      `half-life ${formatDuration(halfLifeMs)} of ${where} is shorter than the hop ${formatDuration(hopMs)}, within which all weighs the same`,
      `use a smaller .every(…), or a half-life of at least ${formatDuration(hopMs)}`,
      "halfLife",
    );
  }
  if (sizeMs / hopMs > MAX_HOPS) {
    refuse(
      "too_many_hops",
      `window ${formatDuration(sizeMs)} of ${where} has ${sizeMs / hopMs} hops of ${formatDuration(hopMs)}, each a tile to read; the limit is ${MAX_HOPS}`,
      "use a larger .every(…), or a shorter window",
      "every",
    );
  }
  return { ...window, byHop: true };
}
