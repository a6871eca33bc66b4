/**
 * Pushed values of one view and entity, packed into one hash field; the server-side function merges such fields
 * (`function/09-push.lua`).
 *
 *   u8 version, then runs in the order of ids: u48 event time (ms), u16 first id, u8 number of values, u8 tag, the values.
 *   Values of a run have consecutive ids, one event time and one tag. All integers are little-endian.
 *   Tags: 0 null (nothing), 1 boolean (u8), 2 int64, 3 double, 4 string (u16 length, UTF-8).
 */
import { hash } from "node:crypto";
import { FreshetError, RecordError } from "../../core/errors.ts";
import type { BatchFeature, Scalar } from "../../core/plan.ts";

const PACKED_VERSION = 1;
const RUN_HEADER = 10;
const MAX_RUN = 255;
export const MAX_TEXT_BYTES = 65_535;
const TAG = { null: 0, boolean: 1, int64: 2, double: 3, string: 4 } as const;

export interface PushedValue {
  readonly id: number;
  readonly dtype: BatchFeature["dtype"];
  readonly value: Scalar;
}
export interface UnpackedValue {
  readonly value: Scalar;
  readonly eventTimeMs: number;
}

/** @param eventTimeMs of all values. @throws RecordError `value_type`, `value_range`, `value_too_long` */
export function packValues(values: readonly PushedValue[], eventTimeMs: number): Buffer {
  const parts: Buffer[] = [Buffer.from([PACKED_VERSION])];
  const sorted = [...values].sort((a, b) => a.id - b.id).map((each) => ({ id: each.id, ...encodeValue(each) }));
  for (let at = 0; at < sorted.length; ) {
    const from = at;
    const { id, tag } = sorted[from];
    while (at < sorted.length && sorted[at].tag === tag && sorted[at].id === id + at - from && at - from < MAX_RUN)
      at++;
    const header = Buffer.allocUnsafe(RUN_HEADER);
    header.writeUIntLE(eventTimeMs, 0, 6);
    header.writeUInt16LE(id, 6);
    header[8] = at - from;
    header[9] = tag;
    parts.push(header, ...sorted.slice(from, at).map(({ bytes }) => bytes));
  }
  return Buffer.concat(parts);
}

/** @throws FreshetError `packed_version` for bytes of a newer release */
export function unpackValues(bytes: Buffer): Map<number, UnpackedValue> {
  if (bytes[0] !== PACKED_VERSION) {
    throw new FreshetError(
      "packed_version",
      `pushed values have version ${bytes[0]}, this reader knows ${PACKED_VERSION}`,
      {
        repair: "read them with the release that wrote them, or a newer one",
      },
    );
  }
  const values = new Map<number, UnpackedValue>();
  for (let at = 1; at < bytes.length; ) {
    const eventTimeMs = bytes.readUIntLE(at, 6);
    const first = bytes.readUInt16LE(at + 6);
    const count = bytes[at + 8];
    const tag = bytes[at + 9];
    at += RUN_HEADER;
    for (let i = 0; i < count; i++) {
      const size = tag === TAG.string ? 2 + bytes.readUInt16LE(at) : SIZES[tag];
      values.set(first + i, { value: decodeValue(tag, bytes, at, size), eventTimeMs });
      at += size;
    }
  }
  return values;
}

const SIZES = [0, 1, 8, 8] as const;

/**
 * Whether the first of two values of a feature takes the second one's place: the greater event time wins, then the greater first 64 bits
 * of SHA-256 over the tag and the little-endian value. The same in `function/09-push.lua`.
 */
export function isNewer(a: PushedValue & UnpackedValue, b: PushedValue & UnpackedValue): boolean {
  if (a.eventTimeMs !== b.eventTimeMs) return a.eventTimeMs > b.eventTimeMs;
  const [left, right] = [encodeValue(a), encodeValue(b)];
  if (left.tag === right.tag && left.bytes.equals(right.bytes)) return false;
  return rank(left) > rank(right);
}

const rank = ({ tag, bytes }: Encoded): string => {
  const value = tag === TAG.string ? bytes.subarray(2) : bytes;
  return hash("sha256", Buffer.concat([Buffer.from([tag]), value]), "hex").slice(0, 16);
};

interface Encoded {
  readonly tag: number;
  readonly bytes: Buffer;
}

function encodeValue({ dtype, value }: PushedValue): Encoded {
  if (value === null) return { tag: TAG.null, bytes: Buffer.alloc(0) };
  const wanted = dtype === "int64" || dtype === "double" ? "number" : dtype;
  const refuse = (code: string, message: string): never => {
    throw new RecordError(code, message, { repair: "give a value of the feature's type, or null" });
  };
  if (typeof value !== wanted)
    return refuse("value_type", `a value of type ${dtype} is a ${wanted}, given a ${typeof value}`);
  if (typeof value === "string") {
    const text = Buffer.from(value);
    if (text.length > MAX_TEXT_BYTES) {
      return refuse("value_too_long", `a text has at most ${MAX_TEXT_BYTES} bytes, given ${text.length}`);
    }
    const length = Buffer.alloc(2);
    length.writeUInt16LE(text.length);
    return { tag: TAG.string, bytes: Buffer.concat([length, text]) };
  }
  if (typeof value === "boolean") return { tag: TAG.boolean, bytes: Buffer.from([Number(value)]) };
  const bytes = Buffer.allocUnsafe(8);
  if (dtype === "int64") {
    if (!Number.isSafeInteger(value)) return refuse("value_range", "a whole number lies within 2^53 of zero");
    bytes.writeBigInt64LE(BigInt(value));
    return { tag: TAG.int64, bytes };
  }
  if (!Number.isFinite(value)) return refuse("value_range", "a number is finite");
  // −0 is 0.
  bytes.writeDoubleLE(value + 0);
  return { tag: TAG.double, bytes };
}

function decodeValue(tag: number, bytes: Buffer, at: number, size: number): Scalar {
  switch (tag) {
    case TAG.null:
      return null;
    case TAG.boolean:
      return bytes[at] === 1;
    case TAG.int64:
      return Number(bytes.readBigInt64LE(at));
    case TAG.double:
      return bytes.readDoubleLE(at);
    default:
      return bytes.toString("utf8", at + 2, at + size);
  }
}
