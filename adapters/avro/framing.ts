/**
 * How other systems say which schema an Avro body was written with. Ours is single-object encoding (event-codec.ts); these name
 * a registry's id instead, and mean nothing without it. Integers are big-endian.
 *
 *   Confluent         00, u32 schema id, body
 *   Confluent, GUID   01, 16 bytes of the schema's GUID, body. Newer clients put the first 17 bytes into the record header
 *                     `__value_schema_id` and leave the body alone: `framedValue` puts both together again
 *   AWS Glue          03, 00 (plain) or 05 (the body is zlib), 16 bytes of the schema version's UUID, body
 */
import { deflateSync, inflateSync } from "node:zlib";
import { RecordError } from "../../core/errors.ts";

/** Safe in keys and messages: `confluent-7`, `confluent-<guid>`, `glue-<uuid>`. */
export type SchemaId = string;

export interface Framed {
  readonly id: SchemaId;
  readonly bodyStart: number;
  readonly compressed: boolean;
}

const CONFLUENT = 0x00;
const CONFLUENT_GUID = 0x01;
const GLUE = 0x03;
const PLAIN = 0x00;
const ZLIB = 0x05;

const CONFLUENT_BYTES = 5;
const GUID_BYTES = 17;
const GLUE_BYTES = 18;

/** An inflated body is an event: what no event may be is not inflated to its end, so that a few bytes never cost megabytes. */
const MAX_BODY_BYTES = 1024 * 1024;
const MAX_RATIO = 32;
const ALWAYS_ALLOWED = 4 * 1024;

/** Null for bytes that are in none of these framings, or too short for one. */
export function framingOf(bytes: Uint8Array): Framed | null {
  switch (bytes[0]) {
    case CONFLUENT:
      return bytes.length < CONFLUENT_BYTES
        ? null
        : { id: `confluent-${view(bytes).readUInt32BE(1)}`, bodyStart: CONFLUENT_BYTES, compressed: false };
    case CONFLUENT_GUID:
      return bytes.length < GUID_BYTES
        ? null
        : { id: `confluent-${uuidAt(bytes, 1)}`, bodyStart: GUID_BYTES, compressed: false };
    case GLUE:
      return bytes.length < GLUE_BYTES || (bytes[1] !== PLAIN && bytes[1] !== ZLIB)
        ? null
        : { id: `glue-${uuidAt(bytes, 2)}`, bodyStart: GLUE_BYTES, compressed: bytes[1] === ZLIB };
    default:
      return null;
  }
}

/**
 * The Avro body of a framed record.
 * @param maxBytes of a body that is compressed. @default 1 MiB, or 32 times what came (4 KiB are always allowed)
 * @throws RecordError `record_too_large`, `framing_corrupt`
 */
export function bodyOf(bytes: Uint8Array, { bodyStart, compressed }: Framed, maxBytes?: number): Buffer {
  const body = view(bytes).subarray(bodyStart);
  if (!compressed) return body;
  const limit = maxBytes ?? Math.min(MAX_BODY_BYTES, ALWAYS_ALLOWED + MAX_RATIO * body.length);
  try {
    return inflateSync(body, { maxOutputLength: limit });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE") {
      throw new RecordError("record_too_large", `a compressed body of ${body.length} bytes holds more than ${limit}`, {
        repair: `send events of at most ${MAX_BODY_BYTES} bytes, and those that compress better than ${MAX_RATIO}:1 uncompressed`,
      });
    }
    throw new RecordError("framing_corrupt", "the body says that it is compressed, and is no whole zlib stream", {
      repair: "send it as the Glue serializer wrote it: zlib after compression byte 05",
    });
  }
}

const SCHEMA_HEADER = "__value_schema_id";

/**
 * A Kafka record's value as it stands alone: with what its header says of its schema before it, where it has such a header.
 * @param headers in their order; of several of one name the last one counts, as in Kafka's clients
 */
export function framedValue(value: Buffer, headers: Iterable<readonly [name: string, content: Uint8Array]>): Buffer {
  let header: Uint8Array | null = null;
  for (const [name, content] of headers) if (name === SCHEMA_HEADER) header = content;
  return header?.length === GUID_BYTES && header[0] === CONFLUENT_GUID ? Buffer.concat([header, value]) : value;
}

const SINGLE_OBJECT_BYTES = 10;

/**
 * An event in single-object encoding, in the framing that the id is of: the same body under another header.
 * @param id of the schema that wrote it: `confluent-7`, `confluent-<guid>` or `glue-<uuid>`
 * @param compress Glue's only
 */
export function reframe(singleObject: Uint8Array, id: SchemaId, compress = false): Buffer {
  const body = view(singleObject).subarray(SINGLE_OBJECT_BYTES);
  const [kind, rest] = [id.slice(0, id.indexOf("-")), id.slice(id.indexOf("-") + 1)];
  if (kind === "glue") {
    const header = Buffer.concat([Buffer.from([GLUE, compress ? ZLIB : PLAIN]), uuidBytes(rest)]);
    return Buffer.concat([header, compress ? deflateSync(body) : body]);
  }
  if (!/^\d+$/.test(rest)) return Buffer.concat([Buffer.from([CONFLUENT_GUID]), uuidBytes(rest), body]);
  const header = Buffer.alloc(CONFLUENT_BYTES);
  header.writeUInt32BE(Number(rest), 1);
  return Buffer.concat([header, body]);
}

function view(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function uuidAt(bytes: Uint8Array, at: number): string {
  const hex = view(bytes).toString("hex", at, at + 16);
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

const uuidBytes = (uuid: string): Buffer => Buffer.from(uuid.replaceAll("-", ""), "hex");
