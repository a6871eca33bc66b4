/**
 * KPL aggregation: many user records in one Kinesis record. Magic F3 89 9A C2, an AggregatedRecord in protobuf, MD5 of it.
 * Source: awslabs/amazon-kinesis-producer, aggregation-format.md.
 */
import { createHash } from "node:crypto";
import { RecordError } from "../core/errors.ts";

const MAGIC = Buffer.from([0xf3, 0x89, 0x9a, 0xc2]);
const DIGEST_BYTES = 16;

const broken = (what: string): RecordError =>
  new RecordError("kpl_corrupt", `a KPL-aggregated record ${what}`, { repair: "send it again as the library packed it" });

function varint(bytes: Buffer, start: number, end: number): [value: number, next: number] {
  let value = 0;
  for (let at = start, weight = 1; at < end && at < start + 7; at++, weight *= 128) {
    value += (bytes[at] & 0x7f) * weight;
    if (bytes[at] < 0x80) return [value, at + 1];
  }
  throw broken("ends inside a number");
}

/** Visits the fields of a message: number, and for length-delimited ones their start and end. */
function visit(bytes: Buffer, start: number, end: number, field: (number: number, from: number, to: number) => void): void {
  for (let at = start; at < end; ) {
    let tag: number;
    [tag, at] = varint(bytes, at, end);
    if ((tag & 7) === 0) {
      [, at] = varint(bytes, at, end);
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
  if (bytes.length < MAGIC.length + DIGEST_BYTES || MAGIC.compare(bytes, 0, 4) !== 0) return null;
  const end = bytes.length - DIGEST_BYTES;
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
