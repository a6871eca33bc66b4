/** Fields that HTTP ingest fills: checked against the stream's contract and the features that there are. */
import type { StreamDefinition } from "../definition.ts";
import { refuse } from "../errors.ts";
import type { Dtype, Entity, FieldType, ListDtype, Lookup, Stream } from "../plan.ts";
import type { Change } from "./plan-diff.ts";

interface Known {
  readonly entities: readonly Entity[];
  readonly features: readonly { readonly name: string; readonly dtype: Dtype | ListDtype; readonly entity: string }[];
}

/** A whole number is a double too, below 2^53 the same one. */
const HOLDS: Readonly<Record<FieldType, readonly string[]>> = {
  double: ["double", "int64"],
  long: ["int64"],
  string: ["string"],
  boolean: ["boolean"],
  map: [],
};

/**
 * The stream with its lookups; the same one where it declares none.
 * @throws DefinitionError `field_unknown`, `enrich_key`, `enrich_not_nullable`, `feature_unknown`, `enrich_join_key`, `enrich_type`
 */
export function compileEnrich({ enrich }: StreamDefinition, stream: Stream, known: Known): Stream {
  const lookups = Object.entries(enrich ?? {}).map(([field, { feature }]) =>
    compileLookup(stream, field, feature, known),
  );
  return lookups.length === 0 ? stream : { ...stream, enrich: lookups };
}

function compileLookup(stream: Stream, field: string, feature: string, { entities, features }: Known): Lookup {
  const where = `enrich of stream ${stream.name}`;
  const target = stream.fields[field];
  if (target === undefined) {
    const nullable = Object.keys(stream.fields).filter((name) => stream.fields[name].nullable);
    return refuse(
      "field_unknown",
      `${where} fills field ${field}, which contract ${stream.contract} lacks`,
      `add it as ["null", …] with default null, or fill one of ${nullable.join(", ")}`,
      field,
    );
  }
  // What an event is about decides where it goes and what is looked up for it.
  if (
    ["tenant", stream.eventId, stream.eventTime, stream.partitionKey].includes(field) ||
    entities.some(({ joinKey }) => joinKey === field)
  ) {
    refuse("enrich_key", `${where} fills ${field}, which is a key of the event`, "let the producer send it", field);
  }
  if (!target.nullable) {
    refuse(
      "enrich_not_nullable",
      `${where} fills field ${field}, which may not be null in contract ${stream.contract}`,
      'declare it as ["null", …] with default null, since a value may be missing',
      field,
    );
  }
  const found = features.find(({ name }) => name === feature);
  if (found === undefined) {
    const names = features.filter(({ dtype }) => HOLDS[target.type].includes(dtype)).map(({ name }) => name);
    return refuse(
      "feature_unknown",
      `${where} looks up ${feature} for ${field}`,
      names.length === 0 ? `no feature fits a field of type ${target.type}` : `use one of ${names.join(", ")}`,
      field,
    );
  }
  if (!HOLDS[target.type].includes(found.dtype)) {
    refuse(
      "enrich_type",
      `${where} looks up ${feature}, ${found.dtype}, for ${field}, a field of type ${target.type}`,
      `a ${target.type} holds ${HOLDS[target.type].join(" or ") || "no feature"}; look up another feature, or change the contract`,
      field,
    );
  }
  const { joinKey } = entities.find(({ name }) => name === found.entity)!;
  const key = stream.fields[joinKey];
  if (key === undefined || (key.type !== "string" && key.type !== "long")) {
    refuse(
      "enrich_join_key",
      `${where} looks up ${feature} of entity ${found.entity} by ${joinKey}, which is no key field of contract ${stream.contract}`,
      `look up a feature of an entity that the event names, or add ${joinKey} to the contract`,
      field,
    );
  }
  return { field, feature, entity: found.entity, joinKey };
}

/** What is recorded stays: a change is for events that come after it. */
export function diffEnrich(before: readonly Stream[], after: readonly Stream[]): Change[] {
  const list = (streams: readonly Stream[]) =>
    new Map(streams.flatMap((s) => (s.enrich ?? []).map((one) => [`${s.name}.${one.field}`, one.feature] as const)));
  const [old, now] = [list(before), list(after)];
  const changes: Change[] = [];
  for (const [what, feature] of now) {
    const was = old.get(what);
    if (was === feature) continue;
    const kind = was === undefined ? "add" : "change";
    const becomes = was === undefined ? `filled with ${feature}` : `was filled with ${was}, becomes ${feature}`;
    changes.push({ kind, what, effect: `${becomes} at HTTP ingest, in events from now on` });
  }
  for (const [what, feature] of old) {
    if (now.has(what)) continue;
    changes.push({ kind: "remove", what, effect: `no longer filled with ${feature}; what events hold stays` });
  }
  return changes;
}
