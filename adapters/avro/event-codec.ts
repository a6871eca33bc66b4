/**
 * Events on the wire: Avro single-object encoding (C3 01, the writer schema's fingerprint little-endian, the body). Schemas
 * and resolvers are built once; a reader resolves every version that was ever shipped to the newest one.
 */
import type avro from "avsc";
import { RecordError } from "../../core/errors.ts";
import { contracts } from "../../schemas/contracts.ts";
import { shipped } from "../../schemas/shipped.ts";
import { parseSchema } from "./fingerprint.ts";
import { fieldsFromJson } from "./json-fields.ts";

const MAGIC = Buffer.from([0xc3, 0x01]);
const HEADER_BYTES = 10;
/** Fingerprint of heartbeats; no schema has it. Its body is the sender's clock, f64 ms. Heartbeats are never archived. */
const HEARTBEAT = Buffer.from("beefed0000000000", "hex");

export type EventFields = Record<string, unknown>;

export class EventCodec {
  readonly contract: string;
  private readonly writer: avro.Type;
  private readonly header: Buffer;
  /** By fingerprint as it lies on the wire, in latin1: no hex conversion for each record. */
  private readonly readers = new Map<string, { type: avro.Type; resolver: unknown; fingerprint: string }>();
  private static readonly codecs = new Map<string, EventCodec>();

  /** @throws RecordError `contract_unknown` */
  static for(contract: string): EventCodec {
    let codec = EventCodec.codecs.get(contract);
    if (!codec) {
      codec = new EventCodec(contract);
      EventCodec.codecs.set(contract, codec);
    }
    return codec;
  }

  private constructor(contract: string) {
    const versions = shipped[contract];
    if (!versions) {
      throw new RecordError("contract_unknown", `there is no contract ${contract}`, {
        repair: `use one of ${Object.keys(shipped).join(", ")}`,
      });
    }
    this.contract = contract;
    const newest = versions[versions.length - 1];
    this.writer = parseSchema(newest.schema);
    this.header = Buffer.concat([MAGIC, wireFingerprint(newest.fingerprint)]);
    for (const version of versions) {
      const type = version === newest ? this.writer : parseSchema(version.schema);
      this.readers.set(wireFingerprint(version.fingerprint).toString("latin1"), {
        type: this.writer,
        resolver: version === newest ? undefined : this.writer.createResolver(type),
        fingerprint: version.fingerprint,
      });
    }
  }

  /** @param fields valid for the contract, as `fromJson` gives them */
  encode(fields: EventFields): Buffer {
    return Buffer.concat([this.header, this.writer.toBuffer(fields)]);
  }

  /**
   * Fields by the contract's newest version, times as integer ms.
   * @throws RecordError `not_single_object`, `schema_unknown`, `avro_truncated`, `avro_trailing`, `precision_loss`
   */
  decode(bytes: Uint8Array): { fields: EventFields; fingerprint: string } {
    const buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (buffer.length < HEADER_BYTES || buffer[0] !== 0xc3 || buffer[1] !== 0x01) {
      throw new RecordError("not_single_object", "a record begins with C3 01 and a schema fingerprint of 8 bytes", {
        repair: "write Avro single-object encoding",
      });
    }
    const reader = this.readers.get(buffer.toString("latin1", 2, HEADER_BYTES));
    if (!reader) {
      const given = Buffer.from(buffer.subarray(2, HEADER_BYTES)).reverse().toString("hex");
      throw new RecordError("schema_unknown", `contract ${this.contract} has no version with fingerprint ${given}`, {
        repair: "write with a shipped version; `freshet schemas list` shows them",
      });
    }
    let decoded: { value: EventFields; offset: number };
    try {
      decoded = (reader.type as any).decode(buffer, HEADER_BYTES, reader.resolver);
    } catch (cause) {
      throw decodeError(this.contract, cause);
    }
    if (decoded.offset < 0) throw truncated(this.contract);
    if (decoded.offset < buffer.length) {
      throw new RecordError(
        "avro_trailing",
        `${buffer.length - decoded.offset} bytes follow a whole record of ${this.contract}`,
        { repair: "send one record at a time, or pack them in a KPL-aggregated record" },
      );
    }
    return { fields: decoded.value, fingerprint: reader.fingerprint };
  }

  /**
   * Fields from parsed JSON: strict, so that nothing is dropped or bent on the way.
   * @throws RecordError with the offending field
   */
  fromJson(json: unknown): EventFields {
    return fieldsFromJson(contracts[this.contract], this.writer, json);
  }
}

const truncated = (contract: string): RecordError =>
  new RecordError("avro_truncated", `the record ends before all fields of ${contract} are read`, {
    repair: "send the whole record",
  });

function decodeError(contract: string, cause: unknown): RecordError {
  const message = cause instanceof Error ? cause.message : String(cause);
  if (/precision loss/.test(message)) {
    return new RecordError("precision_loss", `a long of ${contract} has more than 53 bits`, {
      cause,
      repair: "send ids of this size as strings",
    });
  }
  return new RecordError("avro_truncated", `the record is no ${contract}: its bytes do not read as its fields`, {
    cause,
    repair: "encode with the schema that the fingerprint names",
  });
}

const wireFingerprint = (hex: string): Buffer => Buffer.from(hex, "hex").reverse();

/** A record that only says that its shard is alive. */
export function encodeHeartbeat(sentAtMs: number): Buffer {
  const body = Buffer.alloc(8);
  body.writeDoubleLE(sentAtMs);
  return Buffer.concat([MAGIC, HEARTBEAT, body]);
}

export const isHeartbeat = (bytes: Uint8Array): boolean =>
  bytes.length === HEADER_BYTES + 8 &&
  bytes[0] === 0xc3 &&
  bytes[2] === HEARTBEAT[0] &&
  HEARTBEAT.compare(bytes, 2, HEADER_BYTES) === 0;
