import { createHash } from "node:crypto";
import avro from "avsc";

/** A schema as JSON, always a record in this project. */
export interface RecordSchema {
  readonly type: "record";
  readonly namespace?: string;
  readonly name: string;
  readonly doc?: string;
  readonly fields: readonly SchemaField[];
}
export interface SchemaField {
  readonly name: string;
  readonly type: unknown;
  readonly default?: unknown;
  readonly doc?: string;
}

/** `freshet.v1.Transaction`, whether a schema says it in one part or in two. */
export function fullNameOf({ namespace, name }: Pick<RecordSchema, "namespace" | "name">): string {
  return namespace && !name.includes(".") ? `${namespace}.${name}` : name;
}

/** Unions are read as bare values, and records carry no methods: fields are all there is. */
export function parseSchema(schema: RecordSchema): avro.Type {
  return avro.Type.forSchema(
    schema as unknown as avro.Schema,
    { wrapUnions: false, omitRecordMethods: true } as object,
  );
}

/**
 * CRC-64-AVRO of the Parsing Canonical Form, as 16 hex digits, most significant first (the wire carries it little-endian).
 * Documentation, defaults and logical types are no part of it. Source: Avro 1.12 specification, "Schema Fingerprints".
 */
export function fingerprintOf(schema: RecordSchema): string {
  return crc64(Buffer.from(JSON.stringify(parseSchema(schema).schema()), "utf8"));
}

const EMPTY = 0xc15d213aa4d7a795n;
let table: BigUint64Array | undefined;

function crc64(bytes: Uint8Array): string {
  table ??= BigUint64Array.from({ length: 256 }, (_, i) => {
    let crc = BigInt(i);
    for (let bit = 0; bit < 8; bit++) crc = (crc >> 1n) ^ (EMPTY & -(crc & 1n) & 0xffff_ffff_ffff_ffffn);
    return crc;
  });
  let crc = EMPTY;
  for (const byte of bytes) crc = (crc >> 8n) ^ table[Number((crc ^ BigInt(byte)) & 0xffn)];
  return crc.toString(16).padStart(16, "0");
}

/**
 * SHA-256 over everything that gives a schema its meaning: the whole document but its documentation, keys sorted. It
 * notices what the fingerprint does not, as a changed default.
 */
export function digestOf(schema: RecordSchema): string {
  return createHash("sha256")
    .update(JSON.stringify(withoutDoc(schema)))
    .digest("hex");
}

/** The schema without its documentation, object keys sorted. Defaults are data, so a `doc` inside one stays. */
export function withoutDoc(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(withoutDoc);
  if (schema === null || typeof schema !== "object") return schema;
  const entries = Object.entries(schema).filter(([key]) => key !== "doc");
  return Object.fromEntries(
    entries
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, value]) => [key, key === "default" ? value : withoutDoc(value)]),
  );
}
