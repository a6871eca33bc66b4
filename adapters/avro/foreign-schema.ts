/**
 * Readers for bodies that were written with a schema from a registry, which anybody may have registered: it is checked before it
 * is believed. Resolution is Avro's own, by avsc, after our own check, which names the field.
 */
import type avro from "avsc";
import { RecordError } from "../../core/errors.ts";
import { type BoundedTap, forwardTap } from "./bounded-tap.ts";
import { unreadableBy } from "./compatibility.ts";
import { fingerprintOf, fullNameOf, parseSchema, type RecordSchema } from "./fingerprint.ts";

export interface ForeignReader {
  /** CRC-64-AVRO of the writer's schema. */
  readonly fingerprint: string;
  readonly reader: { _read(tap: BoundedTap): unknown };
  readonly tap: BoundedTap;
}

/** Of a schema's text. Parsing takes time and memory of a multiple of it. */
const MAX_SCHEMA_BYTES = 512 * 1024;

/**
 * @param contract schema that the fields are to be of, with its type
 * @param id as messages name it
 * @throws RecordError `schema_unreadable`, `schema_wrong_record`, `schema_incompatible` naming the field
 */
export function foreignReader(
  contract: { readonly schema: RecordSchema; readonly type: avro.Type },
  id: string,
  text: string,
): ForeignReader {
  const writer = parse(id, text);
  const [given, wanted] = [
    writer === null ? "no record" : fullNameOf(writer).slice(0, 200),
    fullNameOf(contract.schema),
  ];
  if (writer === null || given !== wanted) {
    throw new RecordError("schema_wrong_record", `schema ${id} is of ${given}, and this stream's is ${wanted}`, {
      repair:
        "send it to the stream that it belongs to; a contract's record keeps its namespace and name in every system",
    });
  }
  try {
    return readerOf(contract, id, writer);
  } catch (error) {
    if (error instanceof RecordError) throw error;
    // avsc's message quotes the schema; one that is nested too deeply overflows the stack.
    throw unreadable(id, "is no Avro schema that resolves to the contract's");
  }
}

function readerOf(contract: Parameters<typeof foreignReader>[0], id: string, writer: RecordSchema): ForeignReader {
  const [problem] = unreadableBy(contract.schema, writer, id);
  if (problem !== undefined) {
    throw new RecordError("schema_incompatible", problem.message, { field: problem.field, repair: problem.repair });
  }
  const type = parseSchema(writer);
  if (hasEmptyItems(type, new Set()))
    throw unreadable(id, "has an array whose items take no byte, which nothing bounds");
  const reader = contract.type.createResolver(type) as unknown as ForeignReader["reader"];
  return { fingerprint: fingerprintOf(writer), reader, tap: forwardTap() };
}

/** Null for a schema of anything but a record. */
function parse(id: string, text: string): RecordSchema | null {
  if (Buffer.byteLength(text) > MAX_SCHEMA_BYTES) throw unreadable(id, `is larger than ${MAX_SCHEMA_BYTES} bytes`);
  let schema: Partial<RecordSchema> | null;
  try {
    schema = JSON.parse(text);
  } catch {
    throw unreadable(id, "is no JSON");
  }
  const isRecord = schema?.type === "record" && typeof schema.name === "string" && Array.isArray(schema.fields);
  return isRecord ? (schema as RecordSchema) : null;
}

function unreadable(id: string, what: string): RecordError {
  return new RecordError("schema_unreadable", `schema ${id} ${what}`, {
    repair: "register an Avro record schema that readers of the contract can read, and write with its id",
  });
}

/** An array of nulls can claim 2^60 items in nine bytes. */
function hasEmptyItems(type: any, seen: Set<unknown>): boolean {
  if (seen.has(type)) return false;
  seen.add(type);
  if (type.typeName === "array" && leastBytes(type.itemsType, new Set()) === 0) return true;
  return partsOf(type).some((part) => hasEmptyItems(part, seen));
}

function partsOf(type: any): unknown[] {
  if (type.typeName === "array") return [type.itemsType];
  if (type.typeName === "map") return [type.valuesType];
  if (type.typeName.startsWith("union")) return type.types;
  return type.fields?.map((field: { type: unknown }) => field.type) ?? [];
}

function leastBytes(type: any, above: Set<unknown>): number {
  if (type.typeName === "null") return 0;
  if (type.typeName === "fixed") return type.size;
  if (type.fields === undefined) return 1;
  // A record that holds itself has no end: it cannot be written at all.
  if (above.has(type)) return 1;
  const inside = new Set(above).add(type);
  return type.fields.reduce((sum: number, field: any) => sum + leastBytes(field.type, inside), 0);
}
