import type avro from "avsc";
import { FreshetError, RecordError } from "../../core/errors.ts";
import type { Contract, Scalar } from "../../core/plan.ts";
import { contracts } from "../../schemas/contracts.ts";
import { shipped } from "../../schemas/shipped.ts";
import { BoundedTap } from "./bounded-tap.ts";
import { parseSchema, type RecordSchema } from "./fingerprint.ts";
import { JsonReader } from "./json-reader.ts";

export type FieldValue = Scalar | Readonly<Record<string, string>>;
/** The fields of one event by name; times are epoch milliseconds. */
export type EventFields = Record<string, FieldValue>;

export interface DecodedEvent {
  readonly fields: EventFields;
  /** CRC-64-AVRO of the schema it was written with, 16 hex digits. */
  readonly fingerprint: string;
}

/** What avsc's readers and resolvers have in common. Reading with our own tap is why this private method is named here. */
interface TapReader {
  _read(tap: BoundedTap): unknown;
}
interface Version {
  readonly fingerprint: string;
  /** The fingerprint as it lies on the wire, as two little-endian words. */
  readonly low: number;
  readonly high: number;
  readonly reader: TapReader;
}

/** Whatever reads events from bytes. */
export interface EventReader {
  /** To be awaited before `decode` of these records, where anything has to be fetched for it. @throws InfrastructureError */
  learn?(records: readonly Uint8Array[]): Promise<void>;
  /** @throws RecordError */
  decode(record: Uint8Array): DecodedEvent;
}

const MAGIC = 0x01c3; // C3 01, read little-endian
const HEADER_BYTES = 10;

/** One for all codecs: decoding is synchronous, and a shared table of strings is warm for every contract. */
const tap = new BoundedTap();
let scratch = Buffer.allocUnsafe(64 * 1024);
const codecs = new Map<string, EventCodec>();

/**
 * Events of one contract in Avro single-object encoding: `C3 01`, the writer schema's fingerprint (little-endian), body.
 * Writes the newest schema and reads every one ever shipped, resolved to the newest.
 */
export class EventCodec implements EventReader {
  readonly contract: Contract;
  /** The newest, which is written. */
  readonly schema: RecordSchema;
  /** Fingerprint of the schema that is written, 16 hex digits. */
  readonly fingerprint: string;
  readonly type: avro.Type;
  private readonly header: Buffer;
  private readonly newest: Version;
  private readonly older: readonly Version[];
  private readonly json: JsonReader;

  /** The codec of a contract, made once. @throws FreshetError `contract_unknown` */
  static for(contract: string): EventCodec {
    let codec = codecs.get(contract);
    if (codec === undefined) {
      codec = new EventCodec(contract);
      codecs.set(contract, codec);
    }
    return codec;
  }

  private constructor(name: string) {
    const versions = shipped[name];
    const last = versions?.at(-1);
    if (last === undefined) {
      throw new FreshetError(
        "contract_unknown",
        `no contract is named ${name}; there are ${Object.keys(shipped).join(", ")}`,
        {
          repair: `add schemas/${name}.avsc and run freshet schemas release`,
        },
      );
    }
    this.contract = contracts[name];
    this.fingerprint = last.fingerprint;
    this.schema = last.schema;
    this.type = parseSchema(last.schema);
    this.header = Buffer.concat([Buffer.from([0xc3, 0x01]), Buffer.from(last.fingerprint, "hex").reverse()]);
    this.newest = version(last.fingerprint, this.type as unknown as TapReader);
    this.older = versions.slice(0, -1).map((v) => version(v.fingerprint, resolver(this.type, v.schema)));
    this.json = new JsonReader(last.schema, this.contract);
  }

  /**
   * @param fields all fields but those with a default
   * @throws RecordError `wrong_type`, `field_missing`, `number_too_large` naming the field
   */
  encode(fields: EventFields): Buffer {
    this.header.copy(scratch);
    let end: number;
    try {
      end = this.type.encode(fields, scratch, HEADER_BYTES);
    } catch {
      throw this.json.explain(fields);
    }
    if (end < 0) {
      // avsc answers how many bytes were missing, negated.
      scratch = Buffer.allocUnsafe(2 * (scratch.length - end));
      return this.encode(fields);
    }
    return Buffer.from(scratch.subarray(0, end));
  }

  /**
   * Fields of the newest schema. What the values mean (finite, a time, a key) is for `checkEvent` in core.
   * @param bytes one single-object encoding and nothing else; heartbeats (`isHeartbeat`) are for the caller to set aside
   * @throws RecordError `not_single_object`, `schema_unknown`, `avro_truncated`, `avro_trailing`, `precision_loss`,
   *   `avro_invalid`
   */
  decode(record: Uint8Array): DecodedEvent {
    const bytes = asBuffer(record);
    if (bytes.length < HEADER_BYTES || bytes.readUInt16LE(0) !== MAGIC) throw notSingleObject(bytes);
    const { fingerprint, reader } = this.versionOf(bytes);
    return { fields: readBody(reader, tap, bytes, HEADER_BYTES), fingerprint };
  }

  /**
   * The fields of an event that came as JSON, strictly: no unknown field, no coercion, defaults filled in.
   * @throws RecordError naming the field, see `JsonReader`
   */
  fromJson(json: unknown): EventFields {
    return this.json.read(json);
  }

  private versionOf(bytes: Buffer): Version {
    const low = bytes.readUInt32LE(2);
    const high = bytes.readUInt32LE(6);
    if (low === this.newest.low && high === this.newest.high) return this.newest;
    for (const version of this.older) if (low === version.low && high === version.high) return version;
    const given = Buffer.from(bytes.subarray(2, HEADER_BYTES)).reverse().toString("hex");
    throw new RecordError("schema_unknown", `no shipped schema of ${this.contract.name} has fingerprint ${given}`, {
      repair:
        "deploy the version that knows the schema (freshet schemas release), then replay; or send to the stream it belongs to",
    });
  }
}

/**
 * The fields of an Avro body that ends where the bytes end.
 * @throws RecordError `avro_truncated`, `avro_trailing`, `precision_loss`, `avro_invalid`
 */
export function readBody(reader: TapReader, over: BoundedTap, bytes: Buffer, from: number): EventFields {
  over.reset(bytes, from);
  let fields: EventFields;
  try {
    fields = reader._read(over) as EventFields;
  } catch (cause) {
    throw decodeError(cause);
  }
  if (over.pos !== bytes.length) {
    throw new RecordError("avro_trailing", `${bytes.length - over.pos} bytes follow the end of the record`, {
      repair: "send one event in each record, or aggregate several in the KPL format",
    });
  }
  return fields;
}

/** The same bytes; Lambda and the SDK give one or the other. */
function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function version(fingerprint: string, reader: TapReader): Version {
  return {
    fingerprint,
    low: Number.parseInt(fingerprint.slice(8), 16),
    high: Number.parseInt(fingerprint.slice(0, 8), 16),
    reader,
  };
}

function resolver(reader: avro.Type, writer: RecordSchema): TapReader {
  return reader.createResolver(parseSchema(writer)) as unknown as TapReader;
}

function notSingleObject(bytes: Buffer): RecordError {
  const given = bytes.subarray(0, 2).toString("hex") || "nothing";
  return new RecordError(
    "not_single_object",
    `the record has ${bytes.length} bytes and starts with ${given}; an event starts with c301 and a schema fingerprint`,
    {
      repair:
        "use Avro single-object encoding: C3 01, the CRC-64-AVRO fingerprint little-endian, then the body; for a schema registry's framing, deploy with that registry",
    },
  );
}

function decodeError(cause: unknown): RecordError {
  if (cause instanceof RecordError) return cause;
  if (cause instanceof Error && cause.message === "potential precision loss") {
    return new RecordError("precision_loss", "an integer is beyond ±2^53 and would lose digits", {
      repair: "send numbers that large as strings, or in a smaller unit",
    });
  }
  // avsc's other complaints carry the value, which is payload: neither quoted nor kept as the cause.
  return new RecordError("avro_invalid", "the body does not match the schema whose fingerprint it carries", {
    repair: "encode the record with an Avro library, from the schema whose fingerprint it carries",
  });
}

/**
 * Fingerprint of the heartbeat record, which no schema has: the ASCII bytes `FRSHBEAT` as they lie on the wire. One is
 * sent to every shard each minute so that a silent stream's watermark moves; it is never applied nor archived.
 */
const HEARTBEAT = Buffer.concat([Buffer.from([0xc3, 0x01]), Buffer.from("FRSHBEAT", "ascii")]);
const HEARTBEAT_BYTES = HEARTBEAT.length + 8;

/** @param sentAtMs the sender's clock; kept for diagnosis, as the broker's arrival time decides */
export function encodeHeartbeat(sentAtMs: number): Buffer {
  const bytes = Buffer.alloc(HEARTBEAT_BYTES);
  HEARTBEAT.copy(bytes);
  bytes.writeBigInt64LE(BigInt(sentAtMs), HEARTBEAT.length);
  return bytes;
}

export function isHeartbeat(bytes: Uint8Array): boolean {
  return bytes.length === HEARTBEAT_BYTES && HEARTBEAT.compare(bytes, 0, HEARTBEAT.length) === 0;
}
