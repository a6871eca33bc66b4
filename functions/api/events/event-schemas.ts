/** Shapes of events for the OpenAPI document: the contract's fields, held to what keys and windows ask of them. */
import { z } from "@hono/zod-openapi";
import { KEY_LIMIT, SCALED_LIMIT, VALUE_LIMIT } from "../../../core/event.ts";
import { keepsValues } from "../../../core/operators/accumulators.ts";
import type { FieldType, Plan, Stream } from "../../../core/plan.ts";
import { documentation } from "../../../schemas/documentation.ts";
import { shipped } from "../../../schemas/shipped.ts";
import { MAX_EVENTS, MIN_EVENT_TIME_MS } from "../limits.ts";

export const TYPES = { double: z.number(), long: z.number().int(), string: z.string(), boolean: z.boolean() };
export const EXAMPLES = { double: 12.5, long: 1, string: "…", boolean: true, map: {} };
/** 2026-01-31T12:00:00Z: the document is the same each time. */
const EXAMPLE_TIME_MS = 1_769_860_800_000;

export function eventsRequest(plan: Plan, stream: Stream) {
  const bounds = fieldBounds(plan, stream);
  const newest = shipped[stream.contract].at(-1)!.schema;
  const docs = documentation[stream.contract];
  const defaulted = new Set(newest.fields.filter((field) => field.default !== undefined).map(({ name }) => name));
  // What is filled in here is no producer's to send.
  const filled = ["tenant", ...(stream.enrich ?? []).map(({ field }) => field)];
  const fields = Object.entries(stream.fields).filter(([name]) => !filled.includes(name));
  const shape = fields.map(([name, { type, nullable }]) => {
    const isTime = name === stream.eventTime;
    const schema = fieldSchema(type, bounds.get(name) ?? {}, isTime);
    const given = nullable ? schema.nullable() : schema;
    const told = [docs?.fields[name] ?? "", isTime ? "Milliseconds since 1970, or ISO 8601." : ""].join(" ").trim();
    return [name, (defaulted.has(name) ? given.optional() : given).describe(told)];
  });
  const example = fields.map(([name, { type }]) => [
    name,
    name === stream.eventTime
      ? EXAMPLE_TIME_MS
      : type === "string"
        ? exampleText(name, docs?.fields[name])
        : EXAMPLES[type],
  ]);
  const event = z
    .strictObject(Object.fromEntries(shape))
    .describe(docs?.about ?? "")
    .openapi(`${pascal(stream.name)}Event`, { example: Object.fromEntries(example) });
  const many = z.array(event).min(1).max(MAX_EVENTS);
  return z.union([event, many, z.strictObject({ events: many })]);
}

interface Bounds {
  readonly least?: number;
  readonly longest?: number;
  /** Of a number's magnitude. */
  readonly limit?: number;
}

/** What windows and keys ask of a field beside its type; the narrowest counts. */
function fieldBounds(plan: Plan, stream: Stream): Map<string, Bounds> {
  const bounds = new Map<string, Bounds>();
  const narrow = (field: string, more: Bounds) => {
    const had = bounds.get(field) ?? {};
    bounds.set(field, {
      least: more.least ?? had.least,
      longest: Math.min(more.longest ?? Number.POSITIVE_INFINITY, had.longest ?? Number.POSITIVE_INFINITY),
      limit: Math.min(more.limit ?? Number.POSITIVE_INFINITY, had.limit ?? Number.POSITIVE_INFINITY),
    });
  };
  const groups = plan.groups.filter((group) => group.stream === stream.name);
  for (const { channels, slots, entity } of groups) {
    const joinKey = plan.entities.find(({ name }) => name === entity)?.joinKey;
    if (joinKey !== undefined) narrow(joinKey, { longest: KEY_LIMIT });
    channels.forEach(({ input: { field, scale, where } }, index) => {
      // What a condition leaves out may be anything.
      if (field === null || where !== null) return;
      if (scale !== null) narrow(field, { limit: (SCALED_LIMIT - 1) / 10 ** scale });
      if (slots.some(({ channel, kind }) => channel === index && keepsValues(kind))) {
        narrow(field, { longest: VALUE_LIMIT });
      }
    });
  }
  for (const field of [stream.eventId, stream.partitionKey]) narrow(field, { least: 1, longest: KEY_LIMIT });
  return bounds;
}

function fieldSchema(type: FieldType, { least = 0, longest, limit }: Bounds, isTime: boolean): z.ZodType {
  if (isTime) return z.union([z.number().int().min(MIN_EVENT_TIME_MS), z.iso.datetime({ offset: true })]);
  if (type === "map") return z.record(z.string(), z.string());
  if (type === "string") {
    const text = z.string().min(least);
    return longest !== undefined && Number.isFinite(longest) ? text.max(longest) : text;
  }
  if (type === "boolean" || limit === undefined || !Number.isFinite(limit)) return TYPES[type];
  return type === "long" ? TYPES.long.min(-limit).max(limit) : TYPES.double.min(-limit).max(limit);
}

/** The first value that a field's documentation quotes, else its name with a number: `EUR`, `card_1`. */
const exampleText = (field: string, doc = ""): string => /`([^`]+)`/.exec(doc)?.[1] ?? `${field.replace(/_id$/, "")}_1`;

export const pascal = (name: string) =>
  name
    .split("_")
    .map((part) => part[0].toUpperCase() + part.slice(1))
    .join("");
