/** From stored bytes back to states: what the fields of an answer add up to, for one slot. */
import { accumulatorOf, type ByAge, type Pointed, type State } from "../../core/operators/accumulators.ts";
import { LOW, type Wide } from "../../core/operators/wide.ts";
import type { Scalar, Slot } from "../../core/plan.ts";
import { CELL_BYTES, decodeScalar } from "./layout.ts";

/** Where each slot's cell starts in a tile, by slot id; -1 for a slot that the tile lacks. */
type Offsets = Int16Array;

const OFFSETS = new Map<string, Offsets>();

function offsetsOf(tile: Buffer): Offsets {
  const header = tile.toString("latin1", 0, tile[0] + 1);
  let offsets = OFFSETS.get(header);
  if (!offsets) {
    if (OFFSETS.size > 10_000) OFFSETS.clear();
    offsets = new Int16Array(256).fill(-1);
    let at = tile[0] + 1;
    for (let i = 1; i <= tile[0]; i++) {
      offsets[tile[i]] = at;
      at += CELL_BYTES[tile[i] >> 6];
    }
    OFFSETS.set(header, offsets);
  }
  return offsets;
}

const low = (tile: Buffer, at: number): number => tile.readUInt32LE(at) + tile[at + 4] * 2 ** 32;

/** The fields of one answer. Tiles of an entity mostly have the same slots, so a header is looked up once for all of them. */
export class Answered {
  readonly values: readonly (Buffer | null)[];
  private readonly offsets: Offsets[] = [];
  /** By a plan's lists, which windows share: most of what they name is not there, and is passed over once for all slots. */
  private readonly found = new Map<Int32Array, readonly number[]>();
  private last: Buffer | null = null;
  private lastOffsets: Offsets | null = null;

  constructor(values: readonly (Buffer | null)[]) {
    this.values = values;
  }

  /** Those of `positions` that have a value. */
  present(positions: Int32Array): readonly number[] {
    let found = this.found.get(positions) as number[] | undefined;
    if (found === undefined) {
      found = [];
      for (let i = 0; i < positions.length; i++) if (this.values[positions[i]] !== null) found.push(positions[i]);
      this.found.set(positions, found);
    }
    return found;
  }

  /** Where a slot's cell starts in the tile at `position`, one that is present; -1 when the tile lacks the slot. */
  cellAt(position: number, slot: number): number {
    return (this.offsets[position] ??= this.offsetsAt(this.values[position]!))[slot];
  }

  private offsetsAt(tile: Buffer): Offsets {
    if (!this.sameHeader(tile)) {
      this.lastOffsets = offsetsOf(tile);
      this.last = tile;
    }
    return this.lastOffsets!;
  }

  private sameHeader(tile: Buffer): boolean {
    const { last } = this;
    if (last === null) return false;
    for (let i = 0; i <= tile[0]; i++) if (tile[i] !== last[i]) return false;
    return true;
  }
}

/** Combines what a slot has at `positions`. */
export function stateAt(slot: Slot, positions: Int32Array, answered: Answered): State {
  const { values } = answered;
  const present = answered.present(positions);
  switch (slot.kind) {
    case "count": {
      let total = 0;
      for (let i = 0; i < present.length; i++) {
        const at = answered.cellAt(present[i], slot.id);
        if (at >= 0) total += low(values[present[i]]!, at);
      }
      return total;
    }
    case "min":
    case "max": {
      let extreme = accumulatorOf(slot).empty as number;
      for (let i = 0; i < present.length; i++) {
        const at = answered.cellAt(present[i], slot.id);
        if (at < 0) continue;
        const value = values[present[i]]!.readDoubleLE(at);
        if (slot.kind === "min" ? value < extreme : value > extreme) extreme = value;
      }
      return extreme;
    }
    case "sum":
    case "squares":
      return wideAt(slot, present, answered);
    default: {
      const { empty, combine } = accumulatorOf(slot);
      let state: State = empty;
      for (let i = 0; i < present.length; i++) state = combine(state, decodeObject(slot, values[present[i]]!));
      return state;
    }
  }
}

/** The same for each hop of a window. @param ages in hops, of the tiles at `positions` */
export function stateByAge(slot: Slot, positions: Int32Array, ages: Int32Array, answered: Answered): ByAge {
  const places: number[][] = [];
  positions.forEach((position, i) => {
    const own = places[ages[i]];
    if (own === undefined) places[ages[i]] = [position];
    else own.push(position);
  });
  return { byAge: places.map((own) => stateAt(slot, Int32Array.from(own), answered)) };
}

function wideAt(slot: Slot, present: readonly number[], answered: Answered): Wide {
  let hi = 0;
  let lo = 0;
  for (let i = 0; i < present.length; i++) {
    const at = answered.cellAt(present[i], slot.id);
    if (at < 0) continue;
    const tile = answered.values[present[i]]!;
    if (slot.kind === "sum") {
      hi += tile.readInt32LE(at);
      lo += low(tile, at + 4);
    } else {
      hi += tile.readUIntLE(at, 6) + tile[at + 6] * 2 ** 48;
      lo += low(tile, at + 7);
    }
    // Carried in time: low parts of more than 8,192 tiles would pass 2^53.
    if (lo >= 2 ** 52) {
      hi += Math.floor(lo / LOW);
      lo %= LOW;
    }
  }
  const carry = Math.floor(lo / LOW);
  return { hi: hi + carry, lo: lo - carry * LOW };
}

function decodeObject(slot: Slot, bytes: Buffer): State {
  if (slot.kind === "distinct") {
    if (bytes[0] === 0x44) return new Uint8Array(bytes.subarray(1));
    const hashes: number[] = [];
    for (let at = 1; at < bytes.length; at += 4) hashes.push(bytes.readUInt32BE(at));
    return hashes;
  }
  if (slot.kind === "tally") {
    if (bytes.length === 1) return "overflow";
    const counts = new Map<Scalar, number>();
    for (let at = 0; at < bytes.length; ) {
      const end = at + 2 + bytes.readUInt16LE(at);
      counts.set(decodeScalar(bytes.subarray(at + 2, end)), low(bytes, end));
      at = end + 5;
    }
    return counts;
  }
  if (slot.kind === "buckets") {
    const counts: number[] = [];
    for (let at = 0; at < bytes.length; at += 7) counts.push(bytes.readUInt16LE(at), low(bytes, at + 2));
    return counts;
  }
  if (slot.kind === "lastN") {
    const values: Pointed[] = [];
    for (let at = 0; at < bytes.length; ) {
      const end = at + 18 + bytes.readUInt16LE(at + 16);
      values.push({
        timeMs: bytes.readDoubleLE(at),
        identity: bytes.toString("hex", at + 8, at + 16),
        value: decodeScalar(bytes.subarray(at + 18, end)),
      });
      at = end;
    }
    return values;
  }
  return {
    timeMs: bytes.readDoubleLE(0),
    identity: bytes.toString("hex", 8, 16),
    value: decodeScalar(bytes.subarray(16)),
  } satisfies Pointed;
}
