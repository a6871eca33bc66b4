/** Calls that put what was built from the archive: bytes of tiles and objects, of an entity, of a call. */
import { accumulatorOf, isObject, type Pointed, type State } from "../../core/operators/accumulators.ts";
import type { Buckets } from "../../core/operators/buckets.ts";
import type { Distinct } from "../../core/operators/distinct.ts";
import type { Wide } from "../../core/operators/wide.ts";
import type { Group, Scalar, Slot } from "../../core/plan.ts";
import { CELL_BYTES, encodeScalar } from "./layout.ts";
import { type EncodedArguments, encodeArguments } from "./trip.ts";

/** What one entity of a group has below the seal. */
export interface EntityPut {
  readonly key: string;
  readonly blob: Buffer;
}
export interface PutCall {
  readonly bucket: number;
  readonly puts: readonly EntityPut[];
}

/**
 * `moved`: the bucket's seal is not the one that this was built for; build anew. `older`: what stands there was built from
 * as new a listing of the archive, or a newer one, or an event was repaired since this one's listing. `held`: the entity is not folded up to the seal, since a failover is not cleared, a newer plan's
 * slots are being born, a repair is not in the archive yet, or the seal stood so long that folding takes further calls; try again. `erased`:
 * the entity is being erased, and what was listed may hold it still; nothing was put, and nothing is missing.
 */
export type PutFate = "put" | "moved" | "older" | "held" | "erased";
const FATES: readonly PutFate[] = ["put", "moved", "older", "held", "erased"];

export interface PutHeader {
  readonly sealIndex: number;
  /** The store's clock (µs), taken before the archive was listed; greater where an earlier put's was ahead. */
  readonly generation: number;
  /** That clock as it was. @default generation */
  readonly listedUs?: number;
  /** True when the archive goes back to the stream's beginning: then what is absorbed is replaced too. */
  readonly whole: boolean;
  /** Tiles that start before this base index are left as they are. */
  readonly fromIndex: number;
  /** Null when the entity has no event below the seal. */
  readonly newestMs: number | null;
}

const HEADER_BYTES = 34;

/** @param fields names and values of every tile and object that any window still needs, in turn */
export function encodePut(group: Group, header: PutHeader, fields: readonly Buffer[]): Buffer {
  let size = HEADER_BYTES;
  for (let i = 0; i < fields.length; i += 2) size += 5 + fields[i].length + fields[i + 1].length;
  const bytes = Buffer.allocUnsafe(size);
  bytes[0] = group.id;
  bytes.writeUInt32LE(header.sealIndex, 1);
  bytes.writeDoubleLE(header.generation, 5);
  bytes[13] = header.whole ? 1 : 0;
  bytes.writeUInt32LE(header.fromIndex, 14);
  bytes.writeDoubleLE(header.newestMs ?? -1, 18);
  bytes.writeDoubleLE(header.listedUs ?? header.generation, 26);
  let at = HEADER_BYTES;
  for (let i = 0; i < fields.length; i += 2) {
    at = bytes.writeUInt8(fields[i].length, at);
    at += fields[i].copy(bytes, at);
    at = bytes.writeUInt32LE(fields[i + 1].length, at);
    at += fields[i + 1].copy(bytes, at);
  }
  return bytes;
}

export function encodePutCall({ puts }: PutCall, control: string, header: Buffer, last?: string): EncodedArguments {
  const keys = puts.map(({ key }) => key);
  const blobs = puts.map(({ blob }) => blob);
  const args = [puts.length + 1, control, ...keys, header, ...blobs];
  return encodeArguments(last === undefined ? args : [...args, last]);
}

/** @param outcomes of the keys, or null when all were put */
export const readPutFates = (outcomes: readonly Buffer[] | null, puts: number): PutFate[] =>
  Array.from({ length: puts }, (_, i) => FATES[outcomes?.[i]?.[0] ?? 0]);

/** Slots that have a cell in a group's tiles at a level (null: in its absorbed tile), as their cells lie. */
export const cellSlots = (group: Group, level: number | null): Slot[] =>
  group.slots
    .filter(({ kind, levels, lifetime }) => !isObject(kind) && (level === null ? lifetime : levels.includes(level)))
    .sort((a, b) => a.id - b.id);

/** A tile's bytes. @param slots as `cellSlots` gives them @param states of each; undefined is empty */
export function encodeTile(slots: readonly Slot[], states: readonly (State | undefined)[]): Buffer {
  const bytes = Buffer.allocUnsafe(1 + slots.reduce((sum, { id }) => sum + 1 + CELL_BYTES[id >> 6], 0));
  bytes[0] = slots.length;
  let at = 1 + slots.length;
  slots.forEach((slot, i) => {
    bytes[i + 1] = slot.id;
    at = writeCell(slot.kind, states[i] ?? accumulatorOf(slot).empty, bytes, at);
  });
  return bytes;
}

function writeCell(kind: Slot["kind"], state: State, into: Buffer, at: number): number {
  if (kind === "count") return writeLow(state as number, into, at);
  if (kind === "min" || kind === "max") return into.writeDoubleLE(state as number, at);
  const { hi, lo } = state as Wide;
  if (kind === "sum") return writeLow(lo, into, into.writeInt32LE(hi, at));
  into.writeUInt32LE(hi % 2 ** 32, at);
  into.writeUIntLE(Math.floor(hi / 2 ** 32), at + 4, 3);
  return writeLow(lo, into, at + 7);
}

function writeLow(value: number, into: Buffer, at: number): number {
  into.writeUInt32LE(value % 2 ** 32, at);
  return into.writeUInt8(Math.floor(value / 2 ** 32), at + 4);
}

/** An object's bytes; not for an empty one, which has no field. */
export function encodeObject(kind: Slot["kind"], state: State): Buffer {
  if (kind === "distinct") {
    const set = state as Distinct;
    if (set instanceof Uint8Array) return Buffer.concat([Buffer.from("D"), set]);
    const bytes = Buffer.alloc(1 + set.length * 4, "S");
    set.forEach((hash, i) => {
      bytes.writeUInt32BE(hash, 1 + i * 4);
    });
    return bytes;
  }
  if (kind === "tally") {
    if (state === "overflow") return Buffer.of(255);
    const entries = [...(state as ReadonlyMap<Scalar, number>)].map(([value, count]) => ({
      scalar: encodeScalar(value),
      count,
    }));
    entries.sort((a, b) => Buffer.compare(a.scalar, b.scalar));
    return Buffer.concat(
      entries.flatMap(({ scalar, count }) => {
        const [length, tail] = [Buffer.allocUnsafe(2), Buffer.allocUnsafe(5)];
        length.writeUInt16LE(scalar.length, 0);
        writeLow(count, tail, 0);
        return [length, scalar, tail];
      }),
    );
  }
  if (kind === "buckets") {
    const counts = state as Buckets;
    const bytes = Buffer.allocUnsafe((counts.length / 2) * 7);
    let at = 0;
    for (let i = 0; i < counts.length; i += 2) at = writeLow(counts[i + 1], bytes, bytes.writeUInt16LE(counts[i], at));
    return bytes;
  }
  if (kind === "lastN") {
    const entries = (state as readonly Pointed[]).map(({ timeMs, identity, value }) => {
      const scalar = encodeScalar(value);
      const head = Buffer.allocUnsafe(18);
      head.writeDoubleLE(timeMs, 0);
      head.write(identity, 8, "hex");
      head.writeUInt16LE(scalar.length, 16);
      return Buffer.concat([head, scalar]);
    });
    return Buffer.concat(entries);
  }
  const { timeMs, identity, value } = state as Pointed;
  const scalar = encodeScalar(value);
  const bytes = Buffer.allocUnsafe(16 + scalar.length);
  bytes.writeDoubleLE(timeMs, 0);
  bytes.write(identity, 8, "hex");
  scalar.copy(bytes, 16);
  return bytes;
}
