/**
 * The bytes of a bucket's object in a bulk snapshot: every hash of the bucket as it was, identities included. Frozen: a change
 * is a new version beside the old one, and golden bytes hold it. Integers little-endian.
 *
 *   "FRSB", u8 version, u32 length of the header, header, u32 CRC-32 of the header; then frames; then u32 0, u32 number of
 *   records. The header is JSON: bucket, epoch, round, layout (hash of the plan's), taken_ms (the store's clock before the first read).
 *   A frame: u32 length as it lies here (never 0), u32 length of its records, u32 CRC-32 of its records, one zstd frame.
 *   A record, never in two frames: u32 length of what follows, u16 length of the key, key, f64 rev (µs; -1 for none),
 *   f64 expiry (epoch ms; -1 for a key that stays); then for each field u8 length of the name, name, u32 length of the value, value.
 */
import { constants, crc32, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { RecordError } from "../../core/errors.ts";
import type { WholeHash } from "../valkey/bucket-walk.ts";

const MAGIC = Buffer.from("FRSB");
const BULK_VERSION = 1;
const PREFIX = 9;
const FRAME = 12;
/** A frame is closed when it has this much: a reader holds one at a time. */
const FRAME_BYTES = 1024 * 1024;
/** More is no entity: a length that is wrong must not reserve the memory of the machine. */
const MAX_FRAME_BYTES = 1024 * 1024 * 1024;

export interface BulkHeader {
  readonly bucket: number;
  readonly epoch: number;
  readonly round: string;
  readonly layout: string;
  readonly taken_ms: number;
}

export interface BulkRecord {
  readonly key: string;
  readonly rev: number | null;
  readonly expiresMs: number | null;
  /** Names and values with their lengths, as they lie. */
  readonly fields: Buffer;
  /** All of it. */
  readonly bytes: Buffer;
}

export function encodeRecord({ key, rev, expiresMs, items }: WholeHash): Buffer {
  const name = Buffer.from(key);
  let size = 22 + name.length;
  for (let i = 0; i < items.length; i += 2) size += 5 + items[i].length + items[i + 1].length;
  const bytes = Buffer.allocUnsafe(size);
  let at = bytes.writeUInt32LE(size - 4, 0);
  at = bytes.writeUInt16LE(name.length, at);
  at += name.copy(bytes, at);
  at = bytes.writeDoubleLE(rev ?? -1, at);
  at = bytes.writeDoubleLE(expiresMs ?? -1, at);
  for (let i = 0; i < items.length; i += 2) {
    at = bytes.writeUInt8(items[i].length, at);
    at += items[i].copy(bytes, at);
    at = bytes.writeUInt32LE(items[i + 1].length, at);
    at += items[i + 1].copy(bytes, at);
  }
  return bytes;
}

/** An object that grows record by record; only its compressed frames are kept. */
export class BulkWriter {
  #parts: Buffer[] = [];
  #open: Buffer[] = [];
  #openBytes = 0;
  #records = 0;

  constructor(header: BulkHeader) {
    const text = Buffer.from(JSON.stringify(header));
    const prefix = Buffer.alloc(PREFIX);
    MAGIC.copy(prefix);
    prefix.writeUInt8(BULK_VERSION, 4);
    prefix.writeUInt32LE(text.length, 5);
    this.#parts.push(prefix, text, u32(crc32(text)));
  }

  get records(): number {
    return this.#records;
  }

  /** @param record by `encodeRecord`, or taken from another object as it lay there */
  add(record: Buffer): void {
    if (this.#openBytes > 0 && this.#openBytes + record.length > FRAME_BYTES) this.#close();
    this.#open.push(record);
    this.#openBytes += record.length;
    this.#records++;
  }

  finish(): Buffer {
    if (this.#openBytes > 0) this.#close();
    return Buffer.concat([...this.#parts, u32(0), u32(this.#records)]);
  }

  #close(): void {
    const plain = Buffer.concat(this.#open);
    const packed = zstdCompressSync(plain, { params: { [constants.ZSTD_c_compressionLevel]: 1 } });
    this.#parts.push(u32(packed.length), u32(plain.length), u32(crc32(plain)), packed);
    this.#open = [];
    this.#openBytes = 0;
  }
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

const truncated = (where: string): RecordError =>
  new RecordError("snapshot_truncated", `snapshot object ends inside ${where}`);
const corrupt = (what: string): RecordError => new RecordError("snapshot_corrupt", `snapshot object: ${what}`);

/** @throws RecordError `snapshot_truncated`, `snapshot_corrupt`, `snapshot_version` */
export function readBulkHeader(bytes: Buffer): { header: BulkHeader; end: number } {
  if (bytes.length < PREFIX) throw truncated("its header");
  if (!bytes.subarray(0, 4).equals(MAGIC)) throw corrupt("it does not begin as one");
  if (bytes[4] !== BULK_VERSION) {
    throw new RecordError(
      "snapshot_version",
      `snapshot object has version ${bytes[4]}, this release reads ${BULK_VERSION}`,
      {
        repair: "restore with the release that wrote it, or a newer one",
      },
    );
  }
  const end = PREFIX + bytes.readUInt32LE(5);
  if (bytes.length < end + 4) throw truncated("its header");
  const text = bytes.subarray(PREFIX, end);
  if (crc32(text) !== bytes.readUInt32LE(end)) throw corrupt("the header's checksum is another one");
  return { header: JSON.parse(text.toString()) as BulkHeader, end: end + 4 };
}

/**
 * Records of an object, a frame at a time. What has been yielded is right, but all of it is there only when the generator ends.
 * @throws RecordError `snapshot_truncated`, `snapshot_trailing`, `snapshot_corrupt`, `snapshot_version`
 */
export function* readBulk(bytes: Buffer): Generator<BulkRecord[]> {
  let at = readBulkHeader(bytes).end;
  let records = 0;
  for (;;) {
    if (bytes.length < at + 8) throw truncated("a frame");
    const length = bytes.readUInt32LE(at);
    if (length === 0) break;
    if (bytes.length < at + FRAME + length) throw truncated("a frame");
    const frame = recordsOf(inflate(bytes, at, length));
    records += frame.length;
    at += FRAME + length;
    yield frame;
  }
  if (bytes.readUInt32LE(at + 4) !== records)
    throw corrupt(`it has ${records} records and should have ${bytes.readUInt32LE(at + 4)}`);
  if (bytes.length > at + 8)
    throw new RecordError("snapshot_trailing", `snapshot object has ${bytes.length - at - 8} bytes after its end`);
}

function inflate(bytes: Buffer, at: number, length: number): Buffer {
  const size = bytes.readUInt32LE(at + 4);
  if (size > MAX_FRAME_BYTES) throw corrupt(`a frame of ${size} bytes`);
  let plain: Buffer;
  try {
    plain = zstdDecompressSync(bytes.subarray(at + FRAME, at + FRAME + length), { maxOutputLength: Math.max(1, size) });
  } catch {
    throw corrupt("a frame cannot be decompressed");
  }
  if (plain.length !== size || crc32(plain) !== bytes.readUInt32LE(at + 8))
    throw corrupt("a frame's checksum is another one");
  return plain;
}

function recordsOf(plain: Buffer): BulkRecord[] {
  const records: BulkRecord[] = [];
  for (let at = 0; at < plain.length; ) {
    const end = at + 4 + plain.readUInt32LE(at);
    const name = at + 6 + plain.readUInt16LE(at + 4);
    const rev = plain.readDoubleLE(name);
    const expires = plain.readDoubleLE(name + 8);
    records.push({
      key: plain.toString("utf8", at + 6, name),
      rev: rev < 0 ? null : rev,
      expiresMs: expires < 0 ? null : expires,
      fields: plain.subarray(name + 16, end),
      bytes: plain.subarray(at, end),
    });
    at = end;
  }
  return records;
}

/** Why an object of a bucket cannot be read; null when all of it can. */
export function bulkDamage(bytes: Buffer, bucket: number): string | null {
  try {
    const { header } = readBulkHeader(bytes);
    if (header.bucket !== bucket) return `it is of bucket ${header.bucket}`;
    for (const _ of readBulk(bytes));
    return null;
  } catch (error) {
    if (error instanceof RecordError) return error.message;
    throw error;
  }
}
