/**
 * Every byte that is stored in Valkey, in one place. Frozen: a change is a new version beside the old one.
 *
 * Keys. `{b}` is one of 1,024 hash tags, so that a call and its control hash lie in one slot; the parts are length-prefixed.
 *   {b}ctl                                   control hash of a bucket
 *   {b}7:default4:card12:transactions6:card_1   one entity and stream of one tenant
 *   {b}7:default4:card6:card_1               what was pushed for an entity: a field for each view (packed.ts), `#`,
 *                                            u56 rev (µs), and `!` as `e` below
 *
 * Control hash. `c`: u32 epoch, u8 state, 8 bytes of the run id of the primary that took the last write.
 *   `p`, while it is there: values that were pushed before are not all back; u32 epoch, then an id of what took them.
 *   `r`: id of the restore that has filled the bucket last, if any.
 *   `g:<group>`: u32 seal (base index), then for each slot with a birth: u8 0 cell | 1 object, u8 slot id, u32 base index.
 *
 * Entity hash (integers in field names are big-endian, in values little-endian; an index counts tiles since 1970):
 *   m                         u8 version, u8 flags (1: some identities are in chunks, 2: the key was made to stay for ever, 4: has `e`),
 *                             f64 rev (µs), u32 folded (base index), f64 newest event time of each of the newest base
 *                             tiles, descending
 *   <level id> <u32 index>    tile: u8 n, n slot ids ascending, n cells. Slot id / 64 gives the cell: 0 count u40;
 *                             1 min or max f64; 2 sum i32 hi, u40 lo; 3 squares u56 hi (2^53: overflow), u40 lo
 *                             (value = hi * 2^40 + lo)
 *   s <slot> <level> <u32>    object of a tile. first, last: f64 event time, 8 bytes identity, value; distinct: `S` and
 *                             ascending u32 hashes, or `D` and 1,024 registers; lastN: newest first, for each f64 event
 *                             time, 8 bytes identity, u16 length of the value, value; buckets: ascending, for each u16 bucket, u40 count;
 *                             tally: ascending by the values' bytes, for each u16 length of the value, value, u40 count, or
 *                             one byte 255 for more than 64
 *   i <u32>                   identities in a base tile, 12 bytes each: 8 bytes identity, u32 apply time (ms mod 2^32);
 *                             or one byte k: they are in 2^k fields
 *   i <u32> <u8>              one such chunk, by the identity's first k bits
 *   A, A<slot>                lifetime: absorbed tile and objects     P, P<slot>  lifetime before the slots' births (bulk)
 *   g                         f64 generation of the newest put: the store's clock (µs) before its archive was listed
 *   R                         f64 clock (µs) of the newest repair, then what was repaired and may not be in the archive yet: 8
 *                             bytes identity, u32 fingerprint of the payload, f64 visible time (ms)
 *   e                         of an erased entity: f64 time before which nothing counts any more (ms), f64 clock (µs) from which on the
 *                             archive is rid of it, 0 until then, u8 1 when this stays for ever
 */
import type { Scalar } from "../../core/plan.ts";
import { hash64 } from "../hash.ts";

export const BUCKETS = 1024;

export function bucketOf(tenant: string, entity: string, id: string): number {
  return Number.parseInt(hash64(`${tenant}/${entity}/${id}`).slice(-3), 16) % BUCKETS;
}

const part = (text: string): string => `${Buffer.byteLength(text)}:${text}`;

export const entityKey = (bucket: number, tenant: string, entity: string, stream: string, id: string): string =>
  `{${bucket}}${part(tenant)}${part(entity)}${part(stream)}${part(id)}`;

/** Three parts, so that nobody takes it for a hash of tiles: it is neither folded nor dropped with them. */
export const pushedKey = (bucket: number, tenant: string, entity: string, id: string): string =>
  `{${bucket}}${part(tenant)}${part(entity)}${part(id)}`;

export const controlKey = (bucket: number): string => `{${bucket}}ctl`;
export const CONTROL_FIELD = "c";
export const PUSHED_MISSING_FIELD = "p";
export const RESTORE_FIELD = "r";
export const groupField = (group: string): string => `g:${group}`;
/** How the fields of a stream's groups end: a group is named `<entity>:<stream>`. */
export const groupsEnd = (stream: string): string => `:${stream}`;

export interface KeyParts {
  readonly tenant: string;
  readonly entity: string;
  readonly id: string;
}

/** Parts of an entity key, or null for another key. */
export function parseEntityKey(key: Buffer): (KeyParts & { readonly stream: string }) | null {
  const parts = partsOf(key);
  if (parts?.length !== 4) return null;
  const [tenant, entity, stream, id] = parts;
  return { tenant, entity, stream, id };
}

/** Parts of the key of what was pushed for an entity, or null for another key. */
export function parsePushedKey(key: Buffer): KeyParts | null {
  const parts = partsOf(key);
  if (parts?.length !== 3) return null;
  const [tenant, entity, id] = parts;
  return { tenant, entity, id };
}

function partsOf(key: Buffer): string[] | null {
  let at = key.indexOf(0x7d) + 1;
  if (at === 0 || key[0] !== 0x7b) return null;
  const parts: string[] = [];
  while (at < key.length) {
    const colon = key.indexOf(0x3a, at);
    const length = colon < 0 ? Number.NaN : Number(key.toString("latin1", at, colon));
    if (!Number.isInteger(length) || length < 0 || colon + 1 + length > key.length) return null;
    parts.push(key.toString("utf8", colon + 1, colon + 1 + length));
    at = colon + 1 + length;
  }
  return parts;
}

/** `loading`: a snapshot is written into the bucket, and nothing else may be; then it is `restoring`, open for replays. */
export type ControlState = "new" | "ok" | "restoring" | "failover" | "loading";
/** By the byte that stands for each. */
export const CONTROL_STATES: readonly ControlState[] = ["new", "ok", "restoring", "failover", "loading"];

export type ToldState = Exclude<ControlState, "loading">;
/** As callers are told: to them a bucket is being restored in both ways. */
export const toldState = (state: ControlState): ToldState => (state === "loading" ? "restoring" : state);

export function encodeControl(epoch: number, state: ControlState, runId: string): Buffer {
  const bytes = Buffer.alloc(13);
  bytes.writeUInt32LE(epoch, 0);
  bytes.writeUInt8(CONTROL_STATES.indexOf(state), 4);
  runBytes(runId).copy(bytes, 5);
  return bytes;
}

export const decodeControl = (bytes: Buffer): { epoch: number; state: ControlState; run: Buffer } => ({
  epoch: bytes.readUInt32LE(0),
  state: CONTROL_STATES[bytes.readUInt8(4)],
  run: bytes.subarray(5, 13),
});

/** First 8 bytes of Valkey's 40-digit run id. */
export const runBytes = (runId: string): Buffer => Buffer.from(runId.slice(0, 16).padEnd(16, "0"), "hex");

export interface Birth {
  readonly object: boolean;
  readonly slot: number;
  readonly baseIndex: number;
}

export function encodeGroupControl(sealIndex: number, births: readonly Birth[]): Buffer {
  const bytes = Buffer.alloc(4 + births.length * 6);
  bytes.writeUInt32LE(sealIndex, 0);
  births.forEach(({ object, slot, baseIndex }, i) => {
    bytes.writeUInt8(object ? 1 : 0, 4 + i * 6);
    bytes.writeUInt8(slot, 5 + i * 6);
    bytes.writeUInt32LE(baseIndex, 6 + i * 6);
  });
  return bytes;
}

export function decodeGroupControl(bytes: Buffer): { sealIndex: number; births: Birth[] } {
  const births: Birth[] = [];
  for (let at = 4; at < bytes.length; at += 6) {
    births.push({ object: bytes[at] === 1, slot: bytes[at + 1], baseIndex: bytes.readUInt32LE(at + 2) });
  }
  return { sealIndex: bytes.readUInt32LE(0), births };
}

export function tileField(levelId: number, index: number): Buffer {
  const bytes = Buffer.allocUnsafe(5);
  bytes[0] = levelId;
  bytes.writeUInt32BE(index, 1);
  return bytes;
}

export function objectField(slotId: number, levelId: number, index: number): Buffer {
  const bytes = Buffer.allocUnsafe(7);
  bytes[0] = 0x73;
  bytes[1] = slotId;
  bytes[2] = levelId;
  bytes.writeUInt32BE(index, 3);
  return bytes;
}

export const META_FIELD = Buffer.from("m");
/** Of what was pushed: no view has such a name. */
export const PUSHED_REV_FIELD = "#";
/** u56 µs, which a double holds exactly until the year 2255. */
export const decodePushedRev = (raw: Buffer): number => raw.readUIntLE(0, 6) + raw[6] * 2 ** 48;
export const GENERATION_FIELD = Buffer.from("g");
export const REPAIRS_FIELD = Buffer.from("R");
export const ABSORBED_FIELD = Buffer.from("A");
export const PRE_FIELD = Buffer.from("P");
export const absorbedObjectField = (slotId: number): Buffer => Buffer.from([0x41, slotId]);
export const preObjectField = (slotId: number): Buffer => Buffer.from([0x50, slotId]);

export interface Meta {
  readonly rev: number;
  /** Base index: everything below is folded to every level. */
  readonly folded: number;
  readonly newest: number[];
}

export function decodeMeta(bytes: Buffer): Meta {
  const newest: number[] = [];
  for (let at = 14; at + 8 <= bytes.length; at += 8) newest.push(bytes.readDoubleLE(at));
  return { rev: bytes.readDoubleLE(2), folded: bytes.readUInt32LE(10), newest };
}

/** Bytes of a cell by the upper two bits of its slot id. */
export const CELL_BYTES = [5, 8, 9, 12] as const;

const TAG = { null: 0, false: 1, true: 2, number: 3, string: 4 } as const;

/** A value of a first, last, lastN or tally: u8 tag, then nothing, f64 or UTF-8. */
export function encodeScalar(value: Scalar): Buffer {
  if (typeof value === "string") return Buffer.concat([Buffer.from([TAG.string]), Buffer.from(value)]);
  if (typeof value === "number") {
    const bytes = Buffer.alloc(9);
    bytes[0] = TAG.number;
    bytes.writeDoubleLE(value + 0, 1);
    return bytes;
  }
  return Buffer.from([value === null ? TAG.null : value ? TAG.true : TAG.false]);
}

export function decodeScalar(bytes: Buffer): Scalar {
  switch (bytes[0]) {
    case TAG.string:
      return bytes.toString("utf8", 1);
    case TAG.number:
      return bytes.readDoubleLE(1);
    case TAG.null:
      return null;
    default:
      return bytes[0] === TAG.true;
  }
}
