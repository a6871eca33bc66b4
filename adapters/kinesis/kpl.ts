/**
 * KPL aggregation: many user records in one Kinesis record. Magic F3 89 9A C2, an AggregatedRecord in protobuf, MD5 of it.
 * Source: awslabs/amazon-kinesis-producer, aggregation-format.md.
 */
import { createHash } from "node:crypto";
import { RecordError } from "../../core/errors.ts";

const MAGIC = Buffer.from([0xf3, 0x89, 0x9a, 0xc2]);
const DIGEST_BYTES = 16;

const broken = (what: string): RecordError =>
  new RecordError("kpl_corrupt", `a KPL-aggregated record ${what}`, {
    repair: "send it again as the library packed it",
  });

function varint(bytes: Buffer, start: number, end: number): [value: number, next: number] {
  let value = 0;
  for (let at = start, weight = 1; at < end && at < start + 7; at++, weight *= 128) {
    value += (bytes[at] & 0x7f) * weight;
    if (bytes[at] < 0x80) return [value, at + 1];
  }
  throw broken("ends inside a number");
}

/** Visits the fields of a message: number, and for length-delimited ones their start and end. */
function visit(
  bytes: Buffer,
  start: number,
  end: number,
  field: (number: number, from: number, to: number) => void,
): void {
  for (let at = start; at < end; ) {
    let tag: number;
    [tag, at] = varint(bytes, at, end);
    if ((tag & 7) === 0) {
      [, at] = varint(bytes, at, end);
      continue;
    }
    if ((tag & 7) === 1 || (tag & 7) === 5) {
      at += (tag & 7) === 1 ? 8 : 4;
      if (at > end) throw broken("ends inside a field");
      continue;
    }
    if ((tag & 7) !== 2) throw broken("has a field of an unknown kind");
    let length: number;
    [length, at] = varint(bytes, at, end);
    if (at + length > end) throw broken("ends inside a field");
    field(tag >>> 3, at, at + length);
    at += length;
  }
}

/**
 * The user records of an aggregated record, as views of its bytes; null for a record that is not aggregated.
 * @throws RecordError `kpl_corrupt`
 */
export function deaggregate(record: Uint8Array): Buffer[] | null {
  const bytes = Buffer.isBuffer(record) ? record : Buffer.from(record.buffer, record.byteOffset, record.byteLength);
  if (bytes.length < MAGIC.length || MAGIC.compare(bytes, 0, 4) !== 0) return null;
  const end = bytes.length - DIGEST_BYTES;
  if (end < MAGIC.length) throw broken("ends before its checksum");
  const digest = createHash("md5").update(bytes.subarray(4, end)).digest();
  if (digest.compare(bytes, end) !== 0) throw broken("has a wrong checksum");
  const out: Buffer[] = [];
  visit(bytes, 4, end, (number, from, to) => {
    if (number !== 3) return;
    let data: Buffer | null = null;
    visit(bytes, from, to, (inner, start, stop) => {
      if (inner === 3) data = bytes.subarray(start, stop);
    });
    if (data === null) throw broken("has a user record without data");
    out.push(data);
  });
  return out;
}

const DEFAULT_MAX_BYTES = 50 * 1024;
const MAX_VARINT = 5;

/**
 * Packs user records into one aggregated record until it is full. Write order is the order of `add`: a key is entered in the
 * partition key table right before the first record that uses it, which protobuf allows and which needs no second pass.
 */
export class KplPacker {
  readonly maxBytes: number;
  /** User records packed so far. */
  count = 0;
  private readonly bytes: Buffer;
  private end = MAGIC.length;
  private readonly keys = new Map<string, number>();

  /**
   * @param maxBytes of the whole aggregated record. A batch that Lambda bisects is retried by aggregate, so small ones
   *   repeat less; the KPL's own default is 50 KiB, and Kinesis takes 1 MiB.
   */
  constructor(maxBytes = DEFAULT_MAX_BYTES) {
    this.maxBytes = maxBytes;
    this.bytes = Buffer.allocUnsafe(maxBytes);
    MAGIC.copy(this.bytes);
  }

  /**
   * @returns false, having changed nothing, when the record does not fit any more
   * @throws RecordError `record_too_large` when it would not fit an empty one either
   */
  add(partitionKey: string, data: Uint8Array): boolean {
    const known = this.keys.get(partitionKey);
    const keyBytes = known === undefined ? Buffer.byteLength(partitionKey) + 1 + MAX_VARINT : 0;
    const needed = keyBytes + data.length + 3 + 3 * MAX_VARINT;
    if (this.end + needed + DIGEST_BYTES > this.maxBytes) {
      if (this.count > 0) return false;
      throw new RecordError("record_too_large", `${data.length} bytes do not fit a record of ${this.maxBytes}`, {
        repair: "send it singly, or pack with a larger limit",
      });
    }
    let index = known;
    if (index === undefined) {
      index = this.keys.size;
      this.keys.set(partitionKey, index);
      this.bytes[this.end++] = 0x0a; // AggregatedRecord.partition_key_table
      this.varint(Buffer.byteLength(partitionKey));
      this.end += this.bytes.write(partitionKey, this.end);
    }
    this.bytes[this.end++] = 0x1a; // AggregatedRecord.records
    this.varint(2 + varintBytes(index) + varintBytes(data.length) + data.length);
    this.bytes[this.end++] = 0x08; // Record.partition_key_index
    this.varint(index);
    this.bytes[this.end++] = 0x1a; // Record.data
    this.varint(data.length);
    this.bytes.set(data, this.end);
    this.end += data.length;
    this.count += 1;
    return true;
  }

  /** The aggregated record, in bytes of its own; the packer is empty afterwards. */
  take(): Buffer {
    const digest = createHash("md5").update(this.bytes.subarray(MAGIC.length, this.end)).digest();
    const record = Buffer.allocUnsafe(this.end + DIGEST_BYTES);
    this.bytes.copy(record, 0, 0, this.end);
    digest.copy(record, this.end);
    this.end = MAGIC.length;
    this.count = 0;
    this.keys.clear();
    return record;
  }

  private varint(value: number): void {
    let rest = value;
    while (rest > 0x7f) {
      this.bytes[this.end++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.bytes[this.end++] = rest;
  }
}

function varintBytes(value: number): number {
  let size = 1;
  for (let rest = value; rest > 0x7f; rest >>>= 7) size++;
  return size;
}
