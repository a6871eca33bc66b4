/**
 * Pushed values of one view and entity, packed into one hash field; the server-side function merges such fields
 * (`function/09-push.lua`).
 *
 *   u8 version, then runs in the order of ids: u48 event time (ms), u16 first id, u8 number of values, u8 tag, the values.
 *   Values of a run have consecutive ids, one event time and one tag. All integers are little-endian.
 *   Tags: 0 null (nothing), 1 boolean (u8), 2 int64, 3 double, 4 string (u16 length, UTF-8).
 */
import { hash } from "node:crypto";
import { FreshetError, RecordError, typeName } from "../../core/errors.ts";
import type { Dtype, Scalar } from "../../core/plan.ts";

const PACKED_VERSION = 1;
const RUN_HEADER = 10;
const MAX_RUN = 255;
export const MAX_TEXT_BYTES = 65_535;
const TAG = { null: 0, boolean: 1, int64: 2, double: 3, string: 4 } as const;

export interface PushedValue {
  readonly id: number;
  readonly dtype: Dtype;
  readonly value: Scalar;
}
export interface UnpackedValue {
  readonly value: Scalar;
  readonly eventTimeMs: number;
}

/** @param eventTimeMs of all values. @throws RecordError `value_type`, `value_range`, `value_too_long` */
export function packValues(values: readonly PushedValue[], eventTimeMs: number): Buffer {
  const writer = new PackedWriter(64);
  writer.begin(eventTimeMs);
  for (const { id, dtype, value } of [...values].sort((a, b) => a.id - b.id)) writer.add(id, dtype, value);
  return writer.end();
}

/** Packs values straight into one growing buffer: a push has thousands of them, and an object for each costs more than its bytes. */
export class PackedWriter {
  private bytes: Buffer;
  private at = 0;
  private start = 0;
  private eventTimeMs = 0;
  /** Where the open run's header lies; -1 for none. */
  private run = -1;
  private nextId = 0;

  /** @param size bytes to begin with */
  constructor(size: number) {
    this.bytes = Buffer.allocUnsafe(size);
  }

  /** Begins the values of one view and entity; what was begun and not ended is dropped. */
  begin(eventTimeMs: number): void {
    this.at = this.start;
    this.reserve(1);
    this.bytes[this.at++] = PACKED_VERSION;
    this.eventTimeMs = eventTimeMs;
    this.run = -1;
  }

  /** Ids ascend. @throws RecordError `value_type`, `value_range`, `value_too_long` */
  add(id: number, dtype: Dtype, value: Scalar): void {
    const tag = value === null ? TAG.null : TAG[dtype];
    if (value !== null) checkValue(dtype, value);
    this.reserve(RUN_HEADER + 8);
    this.place(id, tag);
    switch (tag) {
      case TAG.double:
        // −0 is 0.
        this.at = this.bytes.writeDoubleLE((value as number) + 0, this.at);
        return;
      case TAG.int64:
        this.bytes.writeInt32LE((value as number) | 0, this.at);
        this.at = this.bytes.writeInt32LE(Math.floor((value as number) / 2 ** 32), this.at + 4);
        return;
      case TAG.boolean:
        this.bytes[this.at++] = Number(value);
        return;
      case TAG.string: {
        const length = Buffer.byteLength(value as string);
        this.reserve(2 + length);
        this.at = this.bytes.writeUInt16LE(length, this.at);
        this.at += this.bytes.write(value as string, this.at, "utf8");
      }
    }
  }

  /** What was added since `begin`. Stays as it is when more is written. */
  end(): Buffer {
    const packed = this.bytes.subarray(this.start, this.at);
    this.start = this.at;
    return packed;
  }

  /** Counts a value into the open run, or opens one. */
  private place(id: number, tag: number): void {
    const { bytes, run } = this;
    if (run >= 0 && bytes[run + 9] === tag && this.nextId === id && bytes[run + 8] < MAX_RUN) bytes[run + 8]++;
    else {
      this.run = this.at;
      bytes.writeUIntLE(this.eventTimeMs, this.at, 6);
      bytes.writeUInt16LE(id, this.at + 6);
      bytes[this.at + 8] = 1;
      bytes[this.at + 9] = tag;
      this.at += RUN_HEADER;
    }
    this.nextId = id + 1;
  }

  private reserve(size: number): void {
    if (this.at + size <= this.bytes.length) return;
    // What was ended lies in the old buffer, whose bytes are not written again.
    const grown = Buffer.allocUnsafe(Math.max(2 * this.bytes.length, 2 * (this.at - this.start + size)));
    this.bytes.copy(grown, 0, this.start, this.at);
    if (this.run >= 0) this.run -= this.start;
    this.at -= this.start;
    this.start = 0;
    this.bytes = grown;
  }
}

/** @throws FreshetError `packed_version` for bytes of a newer release */
export function unpackValues(bytes: Buffer): Map<number, UnpackedValue> {
  const values = new Map<number, UnpackedValue>();
  const reader = new PackedReader(bytes);
  for (let id = reader.next(0); id !== null; id = reader.next(id + 1)) {
    values.set(id, { value: reader.value(), eventTimeMs: reader.eventTimeMs! });
  }
  return values;
}

/** Goes through packed values by their ids, upwards, and takes no others apart. */
export class PackedReader {
  /** Of the value that was found last. */
  eventTimeMs: number | null = null;
  private readonly bytes: Buffer;
  /** Of the open run: the id whose value lies at `at`, the id after the last, the tag. */
  private id = 0;
  private end = 0;
  private tag = 0;
  private at = 1;

  /** @throws FreshetError `packed_version` for bytes of a newer release */
  constructor(bytes: Buffer) {
    if (bytes[0] !== PACKED_VERSION) {
      throw new FreshetError(
        "packed_version",
        `pushed values have version ${bytes[0]}, this reader knows ${PACKED_VERSION}`,
        {
          repair: "read them with the release that wrote them, or a newer one",
        },
      );
    }
    this.bytes = bytes;
  }

  /** @param id not below the one before. @returns the first id from it on that has a value; null for none */
  next(id: number): number | null {
    while (id >= this.end) {
      this.skip(this.end - this.id);
      if (this.at >= this.bytes.length) return null;
      this.open();
    }
    if (id > this.id) this.skip(id - this.id);
    return this.id;
  }

  /** Of the id that was found last. */
  value(): Scalar {
    const { bytes, at } = this;
    switch (this.tag) {
      case TAG.null:
        return null;
      case TAG.boolean:
        return bytes[at] === 1;
      case TAG.int64:
        return Number(bytes.readBigInt64LE(at));
      case TAG.double:
        return bytes.readDoubleLE(at);
      default:
        return bytes.toString("utf8", at + 2, at + 2 + bytes.readUInt16LE(at));
    }
  }

  private open(): void {
    const { bytes, at } = this;
    this.eventTimeMs = bytes.readUIntLE(at, 6);
    this.id = bytes.readUInt16LE(at + 6);
    this.end = this.id + bytes[at + 8];
    this.tag = bytes[at + 9];
    this.at = at + RUN_HEADER;
  }

  private skip(values: number): void {
    this.id += values;
    if (this.tag !== TAG.string) this.at += values * SIZES[this.tag];
    else for (let i = 0; i < values; i++) this.at += 2 + this.bytes.readUInt16LE(this.at);
  }
}

/** By tag, but for texts. */
const SIZES = [0, 1, 8, 8] as const;

/**
 * Whether the first of two values of a feature takes the second one's place: the greater event time wins, then the greater first 52 bits
 * of SHA-1 over the tag and the little-endian value. The same in `function/09-push.lua`.
 */
export function isNewer(a: PushedValue & UnpackedValue, b: PushedValue & UnpackedValue): boolean {
  if (a.eventTimeMs !== b.eventTimeMs) return a.eventTimeMs > b.eventTimeMs;
  const [left, right] = [encodeValue(a), encodeValue(b)];
  if (left.tag === right.tag && left.bytes.equals(right.bytes)) return false;
  return rank(left) > rank(right);
}

const rank = ({ tag, bytes }: Encoded): number => {
  const value = tag === TAG.string ? bytes.subarray(2) : bytes;
  return Number.parseInt(hash("sha1", Buffer.concat([Buffer.from([tag]), value]), "hex").slice(0, 13), 16);
};

interface Encoded {
  readonly tag: number;
  readonly bytes: Buffer;
}

function encodeValue(value: PushedValue): Encoded {
  const packed = packValues([value], 0);
  return { tag: packed[RUN_HEADER], bytes: packed.subarray(1 + RUN_HEADER) };
}

function checkValue(dtype: Dtype, value: string | number | boolean): void {
  const wanted = dtype === "int64" || dtype === "double" ? "number" : dtype;
  if (typeof value !== wanted) {
    refuse("value_type", `a value of type ${dtype} is a ${wanted}, given ${typeName(value)}`);
  }
  if (typeof value === "number") {
    if (dtype === "double" && !Number.isFinite(value)) refuse("value_range", "a number is finite");
    if (dtype === "int64" && !Number.isSafeInteger(value)) {
      refuse("value_range", `a value of type int64 is a whole number within 2^53 of zero, given ${value}`);
    }
  } else if (typeof value === "string") {
    if (!value.isWellFormed()) refuse("text_invalid", "a text is valid Unicode");
    // A UTF-16 unit takes three bytes at most.
    if (value.length <= MAX_TEXT_BYTES / 3) return;
    const length = Buffer.byteLength(value);
    if (length > MAX_TEXT_BYTES) {
      refuse("value_too_long", `a text has at most ${MAX_TEXT_BYTES} bytes, given ${length}`);
    }
  }
}

function refuse(code: string, message: string): never {
  throw new RecordError(code, message, { repair: "give a value of the feature's type, or null" });
}
