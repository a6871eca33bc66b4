/**
 * Whether a reader with one schema can read what another wrote, by the Avro specification's "Schema Resolution", narrowed to
 * what contracts use: records of scalars, maps of strings, and unions with null. Pure.
 */
import { fullNameOf, type RecordSchema, type SchemaField } from "./fingerprint.ts";

/** What a change of a contract must keep working; transitive modes compare with every shipped version, not just the last. */
export const COMPATIBILITY_MODES = [
  "none",
  "backward",
  "forward",
  "full",
  "backward-transitive",
  "forward-transitive",
  "full-transitive",
] as const;
export type CompatibilityMode = (typeof COMPATIBILITY_MODES)[number];

/** A rule that a change breaks: which field, why, and what to do instead. */
export interface Incompatibility {
  readonly code: "field_without_default" | "field_removed" | "type_changed" | "default_changed" | "record_renamed";
  readonly field?: string;
  readonly message: string;
  readonly repair: string;
}
export interface ShippedRevision {
  readonly revision: number;
  readonly schema: RecordSchema;
}

/**
 * What forbids `current` after the shipped versions, oldest first.
 * `backward`: today's reader reads yesterday's events (archive, replay). `forward`: yesterday's reader, still deployed
 * somewhere, reads today's events.
 */
export function incompatibilities(
  current: RecordSchema,
  shipped: readonly ShippedRevision[],
  mode: CompatibilityMode,
): Incompatibility[] {
  if (mode === "none") return [];
  const compared = mode.endsWith("-transitive") ? shipped : shipped.slice(-1);
  const found = compared.flatMap(({ revision, schema }) => [
    ...(mode.startsWith("forward") ? [] : unreadable(current, schema, (field) => backward(field, revision))),
    ...(mode.startsWith("backward") ? [] : unreadable(schema, current, (field) => forward(field, revision))),
    ...changedDefaults(current, schema, revision),
  ]);
  // One mistake is found against many versions, and in both directions: the first finding tells it.
  return found.filter(
    (one, i) => found.findIndex((other) => other.code === one.code && other.field === one.field) === i,
  );
}

interface Wording {
  /** The reader has the field and no default for it, the writer never sent it. */
  absent(): Incompatibility;
  changed(writer: string, reader: string): Incompatibility;
}

function backward(field: string, revision: number): Wording {
  return {
    absent: () => ({
      code: "field_without_default",
      field,
      message: `field ${field} has no default, so events of revision ${revision}, which lack it, could not be read`,
      repair: `give ${field} a default, as "type": ["null", …], "default": null`,
    }),
    changed: (writer, reader) => ({
      code: "type_changed",
      field,
      message: `field ${field} is ${reader}, which cannot read the ${writer} of revision ${revision}`,
      repair: `keep ${field} as it is and add a field of another name, or make a contract of the next major version`,
    }),
  };
}

function forward(field: string, revision: number): Wording {
  return {
    absent: () => ({
      code: "field_removed",
      field,
      message: `field ${field} is gone, and readers of revision ${revision} have no default for it`,
      repair: `keep ${field}; stop filling it only if it has a default`,
    }),
    changed: (writer, reader) => ({
      code: "type_changed",
      field,
      message: `field ${field} is ${writer}, which readers of revision ${revision} cannot read as ${reader}`,
      repair: `keep ${field} as it is and add a field of another name, or make a contract of the next major version`,
    }),
  };
}

/**
 * What keeps a contract from reading what another system's schema writes. A schema without logical types may mean anything by
 * its longs, also what the contract means; one that names another is believed.
 * @param writer of the contract's record
 */
export function unreadableBy(contract: RecordSchema, writer: RecordSchema, id: string): Incompatibility[] {
  const word = (field: string): Wording => ({
    absent: () => ({
      code: "field_without_default",
      field,
      message: `schema ${id} lacks field ${field}, for which the contract has no default`,
      repair: `write ${field}, as the contract has it`,
    }),
    changed: (written, read) => ({
      code: "type_changed",
      field,
      message: `schema ${id} writes field ${field} as ${written}, which cannot be read as ${read}`,
      repair: `write ${field} as ${read}`,
    }),
  });
  return unreadable(contract, writer, word, true);
}

function unreadable(
  reader: RecordSchema,
  writer: RecordSchema,
  word: (field: string) => Wording,
  unmarked = false,
): Incompatibility[] {
  const [a, b] = [fullNameOf(writer), fullNameOf(reader)];
  if (a !== b) {
    return [
      {
        code: "record_renamed",
        message: `the record was renamed between ${a} and ${b}, and Avro resolves records by name`,
        repair: "keep namespace and name; they are part of every fingerprint",
      },
    ];
  }
  return reader.fields.flatMap((field) => {
    const written = fieldNamed(writer, field.name);
    if (written === undefined) return field.default === undefined ? [word(field.name).absent()] : [];
    if (reads(field.type, written.type, unmarked)) return [];
    return [word(field.name).changed(describe(written.type), describe(field.type))];
  });
}

/** Not Avro's rule but replay's: with another default, events read yesterday would be other events today. */
function changedDefaults(current: RecordSchema, shipped: RecordSchema, revision: number): Incompatibility[] {
  return current.fields.flatMap((field) => {
    const before = fieldNamed(shipped, field.name);
    if (before?.default === undefined || field.default === undefined) return [];
    const [was, is] = [JSON.stringify(before.default), JSON.stringify(field.default)];
    if (was === is) return [];
    return [
      {
        code: "default_changed" as const,
        field: field.name,
        message: `the default of ${field.name} was ${was} in revision ${revision} and is ${is}, so a replay of older events would give other values`,
        repair: `keep the default ${was}; producers that mean ${is} send it`,
      },
    ];
  });
}

function fieldNamed(schema: RecordSchema, name: string): SchemaField | undefined {
  return schema.fields.find((field) => field.name === name);
}

const PROMOTIONS: Readonly<Record<string, readonly string[]>> = {
  int: ["long", "float", "double"],
  long: ["float", "double"],
  float: ["double"],
};

/**
 * Whether a reader's type takes everything that a writer's type can hold.
 * @param unmarked takes a writer's type without a logical one for the reader's
 */
function reads(reader: unknown, writer: unknown, unmarked: boolean): boolean {
  if (Array.isArray(writer)) return writer.every((branch) => reads(reader, branch, unmarked));
  if (Array.isArray(reader)) return reader.some((branch) => reads(branch, writer, unmarked));
  const [meant, written] = [logicalType(reader), logicalType(writer)];
  if (meant !== written && !(unmarked && written === undefined)) return false;
  const [r, w] = [baseType(reader), baseType(writer)];
  if (r === "map" && w === "map") return reads((reader as Mapped).values, (writer as Mapped).values, unmarked);
  return r === w || (PROMOTIONS[w]?.includes(r) ?? false);
}

interface Mapped {
  readonly values: unknown;
}

function logicalType(type: unknown): unknown {
  return typeof type === "object" && type !== null ? (type as { logicalType?: unknown }).logicalType : undefined;
}

function baseType(type: unknown): string {
  return typeof type === "object" && type !== null ? baseType((type as { type: unknown }).type) : String(type);
}

function describe(type: unknown): string {
  if (Array.isArray(type)) return type.map(describe).join(" or ");
  const logical = logicalType(type);
  if (logical !== undefined) return `${baseType(type)} (${logical})`;
  return baseType(type) === "map" ? `map of ${describe((type as Mapped).values)}` : baseType(type);
}
