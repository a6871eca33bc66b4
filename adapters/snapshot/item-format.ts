/**
 * The bytes of a snapshot item: an entity's hash as it was, but for what only applies and repairs need, with the control
 * that readers need. Frozen: a change is a new version beside the old one.
 *
 *   u8 version, u8 codec (0 plain, 1 deflate), u32 CRC-32 of the body, body. The body, integers little-endian:
 *   8 bytes fingerprint of the group's layout, u16 length of the group's control (seal and births, `valkey/layout.ts`),
 *   control; then for each field u8 length of the name, name, u32 length of the value, value.
 * What was pushed has a fingerprint of zeros and no control.
 */
import { crc32, deflateRawSync, inflateRawSync } from "node:zlib";
import { canonicalJson } from "../../core/json.ts";
import type { Group } from "../../core/plan.ts";
import { hash64 } from "../hash.ts";

const VERSION = 1;
const PLAIN = 0;
const DEFLATE = 1;
const HEADER = 6;
/** DynamoDB charges by started KB: below one there is nothing to win. */
const PLAIN_BELOW = 900;
/** Of an inflated body: more is no entity. */
const MAX_BODY_BYTES = 64 * 2 ** 20;
/** DynamoDB takes 400 KB with names and other attributes. */
export const MAX_DATA_BYTES = 390_000;

export interface SnapshotContent {
  /** Hex, of `layoutOf`; null for what was pushed. */
  readonly layout: string | null;
  /** Of the group, as its bucket's control hash had it; null for what was pushed. */
  readonly control: Buffer | null;
  /** Fields and values in turn. */
  readonly items: readonly Buffer[];
}

/**
 * What the bytes of a group's tiles mean: levels and slots. Tiles name their slots themselves, but not at which levels those
 * were kept, which a plan may extend.
 */
export function layoutOf({ baseMs, levels, slots }: Group): string {
  const kept = slots.map(({ id, kind, levels: at, lifetime, keep }) => ({
    id,
    kind,
    at,
    lifetime,
    keep: keep ?? null,
  }));
  return hash64(canonicalJson({ baseMs, levels, slots: kept }));
}

const NO_LAYOUT = "0".repeat(16);

export function encodeSnapshot({ layout, control, items }: SnapshotContent): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16LE(control?.length ?? 0);
  const parts: Buffer[] = [Buffer.from(layout ?? NO_LAYOUT, "hex"), length, ...(control === null ? [] : [control])];
  for (let i = 0; i < items.length; i += 2) {
    if (isForApplies(items[i])) continue;
    const name = Buffer.from([items[i].length]);
    const size = Buffer.alloc(4);
    size.writeUInt32LE(items[i + 1].length);
    parts.push(name, items[i], size, items[i + 1]);
  }
  const plain = Buffer.concat(parts);
  const packed = plain.length < PLAIN_BELOW ? plain : deflateRawSync(plain);
  const body = packed.length < plain.length ? packed : plain;
  const header = Buffer.alloc(HEADER);
  header[0] = VERSION;
  header[1] = body === plain ? PLAIN : DEFLATE;
  header.writeUInt32LE(crc32(plain), 2);
  return Buffer.concat([header, body]);
}

/** @returns null for bytes that are none of `encodeSnapshot`'s: cut off, altered, or of a newer release */
export function decodeSnapshot(bytes: Buffer): SnapshotContent | null {
  if (bytes.length < HEADER || bytes[0] !== VERSION) return null;
  try {
    const packed = bytes.subarray(HEADER);
    const body = bytes[1] === DEFLATE ? inflateRawSync(packed, { maxOutputLength: MAX_BODY_BYTES }) : packed;
    if (crc32(body) !== bytes.readUInt32LE(2)) return null;
    const layout = body.toString("hex", 0, 8);
    const start = 10 + body.readUInt16LE(8);
    const items: Buffer[] = [];
    for (let at = start; at < body.length; ) {
      const value = at + 1 + body[at];
      const end = value + 4 + body.readUInt32LE(value);
      items.push(body.subarray(at + 1, value), body.subarray(value + 4, end));
      at = end;
    }
    const isPushed = layout === NO_LAYOUT;
    return { layout: isPushed ? null : layout, control: isPushed ? null : body.subarray(10, start), items };
  } catch {
    return null;
  }
}

/** Identities, repaired identities and generations: no read needs them, and most bytes of a busy entity are identities. */
function isForApplies(field: Buffer): boolean {
  const [first] = field;
  if (field.length === 1) return first === GENERATION;
  return (
    (first === IDENTITIES && (field.length === 5 || field.length === 6)) || (first === REPAIRED && field.length === 5)
  );
}
const IDENTITIES = "i".charCodeAt(0);
const REPAIRED = "R".charCodeAt(0);
const GENERATION = "g".charCodeAt(0);
