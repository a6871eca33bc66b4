import { isUtf8 } from "node:buffer";
import { RecordError } from "../../core/errors.ts";

const INTERN_SLOTS = 8192;
const INTERN_BYTES = 24;

/**
 * The byte reader that avsc's generated readers are given instead of their own `Tap`, whose interface this is. It differs
 * in three ways: it throws at the end of the bytes, where avsc's reads on (a map that claims 2^50 entries would spin for
 * ever); it refuses text that is no UTF-8; and it keeps short ASCII strings in a direct-mapped table, because currencies,
 * countries and hot keys repeat: a third faster, and equal strings are one object.
 */
export class BoundedTap {
  buf: Buffer = Buffer.alloc(0);
  pos = 0;
  private readonly interned: string[] = new Array(INTERN_SLOTS).fill("");

  reset(bytes: Buffer, pos: number): void {
    this.buf = bytes;
    this.pos = pos;
  }

  /** Zigzag varint. 32-bit arithmetic while it fits, then floats; avsc's `LongType` refuses what is not a safe integer. */
  readLong(): number {
    const buf = this.buf;
    let n = 0;
    let shift = 0;
    let byte: number;
    do {
      byte = buf[this.pos++];
      n |= (byte & 0x7f) << shift;
      shift += 7;
    } while (byte & 0x80 && shift < 28);
    if (byte & 0x80) {
      let wide = n;
      let scale = 2 ** 28;
      // A long has ten bytes at most; a longer one gives a value that is refused as no safe integer.
      do {
        byte = buf[this.pos++];
        wide += (byte & 0x7f) * scale;
        scale *= 128;
      } while (byte & 0x80 && scale < 2 ** 70);
      this.mustBeInside();
      return (wide % 2 ? -(wide + 1) : wide) / 2;
    }
    this.mustBeInside();
    return (n >> 1) ^ -(n & 1);
  }

  readInt(): number {
    return this.readLong();
  }

  readDouble(): number {
    const at = this.pos;
    this.pos += 8;
    this.mustBeInside();
    return this.buf.readDoubleLE(at);
  }

  readFloat(): number {
    const at = this.pos;
    this.pos += 4;
    this.mustBeInside();
    return this.buf.readFloatLE(at);
  }

  readBoolean(): boolean {
    const byte = this.buf[this.pos++];
    this.mustBeInside();
    return byte !== 0;
  }

  readString(): string {
    const length = this.readLong();
    this.mustBeLength(length);
    const from = this.pos;
    const to = from + length;
    this.pos = to;
    this.mustBeInside();
    const buf = this.buf;
    if (length > INTERN_BYTES) return this.text(from, to);
    let hash = length;
    let bits = 0;
    for (let i = from; i < to; i++) {
      bits |= buf[i];
      hash = Math.imul(hash ^ buf[i], 0x01000193);
    }
    if (bits & 0x80) return this.text(from, to);
    const slot = (hash ^ (hash >>> 15)) & (INTERN_SLOTS - 1);
    const known = this.interned[slot];
    if (known.length === length) {
      let i = 0;
      while (i < length && known.charCodeAt(i) === buf[from + i]) i++;
      if (i === length) return known;
    }
    this.interned[slot] = buf.toString("latin1", from, to);
    return this.interned[slot];
  }

  readBytes(): Buffer {
    const length = this.readLong();
    this.mustBeLength(length);
    const from = this.pos;
    this.pos += length;
    this.mustBeInside();
    return this.buf.subarray(from, this.pos);
  }

  readFixed(length: number): Buffer {
    const from = this.pos;
    this.skipFixed(length);
    return this.buf.subarray(from, this.pos);
  }

  // A resolver skips what a reader has dropped.
  skipLong(): void {
    this.readLong();
  }
  skipInt(): void {
    this.readLong();
  }
  skipDouble(): void {
    this.pos += 8;
    this.mustBeInside();
  }
  skipFloat(): void {
    this.pos += 4;
    this.mustBeInside();
  }
  skipBoolean(): void {
    this.readBoolean();
  }
  skipFixed(length: number): void {
    this.pos += length;
    this.mustBeInside();
  }
  skipString(): void {
    this.readBytes();
  }
  skipBytes(): void {
    this.readBytes();
  }

  private text(from: number, to: number): string {
    const text = this.buf.toString("utf8", from, to);
    // Only a replacement character can hide bytes that are no UTF-8, so the check is off the fast path.
    if (text.includes("\ufffd") && !isUtf8(this.buf.subarray(from, to))) {
      throw new RecordError("avro_invalid", "a string is no valid UTF-8", { repair: REPAIR });
    }
    return text;
  }

  private mustBeLength(length: number): void {
    if (length < 0) throw new RecordError("avro_invalid", "a string has a negative length", { repair: REPAIR });
  }

  private mustBeInside(): void {
    if (this.pos > this.buf.length) {
      throw new RecordError(
        "avro_truncated",
        `the record ends after ${this.buf.length} bytes, in the middle of a field`,
        {
          repair: "send the whole single-object encoding; check what cuts the bytes between producer and stream",
        },
      );
    }
  }
}

const REPAIR = "encode the record with an Avro library, from the schema whose fingerprint it carries";

/**
 * A tap that only goes forward. Arrays and maps may be written in blocks that say how many bytes they take, and avsc skips such a
 * block by adding that to the position: a negative one would bring it back to where it was, for ever. Contracts have none to skip.
 */
export function forwardTap(): BoundedTap {
  const tap = new BoundedTap();
  let at = 0;
  Object.defineProperty(tap, "pos", {
    get: () => at,
    set(next: number) {
      if (!(next >= at)) throw new RecordError("avro_invalid", "a block has a negative length", { repair: REPAIR });
      at = next;
    },
  });
  tap.reset = (bytes, start) => {
    tap.buf = bytes;
    at = start;
  };
  return tap;
}
