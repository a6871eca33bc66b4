/** Which fields of an entity's hash a read asks for, and which of the answered ones add up to each state. */
import { isObject } from "../../core/operators/accumulators.ts";
import { ageInHops } from "../../core/operators/decay.ts";
import type { Group, Slot, Window } from "../../core/plan.ts";
import { cover, floorTo, frontier, type TileRange, windowInterval } from "../../core/tiles/window.ts";
import {
  ABSORBED_FIELD,
  absorbedObjectField,
  META_FIELD,
  objectField,
  PRE_FIELD,
  preObjectField,
  tileField,
} from "./layout.ts";
import { type EncodedArguments, encodeArguments } from "./trip.ts";

/** A slot over a window. Features share them: a mean and a sum over 1h need the same two. */
export interface Need {
  readonly slot: Slot;
  readonly window: Window;
}

/** Up to where an entity's hash is folded and filled, as its meta field says, or as it is guessed before that is known. */
export interface Extent {
  readonly foldedMs: number;
  /** End of the base tile of its newest event: no tile lies beyond. Infinite when it is not known. */
  readonly stopMs: number;
}

interface Places {
  readonly positions: Int32Array;
  readonly ages: Int32Array | null;
}

/** More fields than this are not named one by one: the hash is read whole, and what it holds is far less. */
const FIELDS_LIMIT = 4_000;

export class ReadPlan {
  /** What is asked for, the meta field first. */
  readonly fields: readonly Buffer[];
  /** The same as arguments of a command. */
  readonly encoded: EncodedArguments;
  /** For each need, positions in the answer; the same array for needs that have the same ones. */
  readonly positions: readonly Int32Array[];
  /** For each need whose window is read by hop, the age in hops of what is at each of its positions; else null. */
  readonly ages: readonly (Int32Array | null)[];
  private readonly group: Group;
  private readonly extent: Extent;
  private readonly frontiers: readonly number[];
  private readonly index: ReadonlyMap<string, number>;
  /** The same for tiles by level and index: small integers cost less to find than text. */
  private readonly tiles: (Map<number, number> | undefined)[] = [];

  constructor(group: Group, extent: Extent, fields: Fields, places: readonly Places[]) {
    this.group = group;
    this.extent = extent;
    this.frontiers = group.levels.map((level) => frontier(level, extent.foldedMs));
    this.fields = fields.list;
    this.index = fields.index;
    this.positions = shared(places.map(({ positions }) => positions));
    this.ages = places.map(({ ages }) => ages);
    this.encoded = encodeArguments(fields.list);
    fields.list.forEach((field, at) => {
      if (!isTile(field)) return;
      this.tiles[field[0]] ??= new Map();
      this.tiles[field[0]]!.set(field.readUInt32BE(1), at);
    });
  }

  /**
   * True when the positions are right for an entity as it turned out to be: folded just as far at every level, or empty from
   * there on, where it makes no difference.
   */
  fits({ foldedMs, stopMs }: Extent): boolean {
    if (stopMs > this.extent.stopMs) return false;
    const { levels } = this.group;
    for (let i = 0; i < levels.length; i++) {
      const other = frontier(levels[i], foldedMs);
      if (other !== this.frontiers[i] && stopMs > Math.min(other, this.frontiers[i])) return false;
    }
    return true;
  }

  /**
   * The answer as if only this plan's fields had been asked for.
   * @param items fields and values in turn, all of the hash
   */
  pick(items: readonly Buffer[]): (Buffer | null)[] {
    const values: (Buffer | null)[] = new Array(this.fields.length);
    for (let i = 0; i < values.length; i++) values[i] = null;
    for (let i = 0; i < items.length; i += 2) {
      const field = items[i];
      if (field[0] === IDENTITIES) continue;
      const at = isTile(field)
        ? this.tiles[field[0]]?.get(field.readUInt32BE(1))
        : this.index.get(field.toString("latin1"));
      if (at !== undefined) values[at] = items[i + 1];
    }
    return values;
  }
}

/** Equal lists become one. */
function shared(lists: readonly Int32Array[]): Int32Array[] {
  const kept = new Map<string, Int32Array>();
  return lists.map((list) => {
    const name = list.join();
    const known = kept.get(name) ?? list;
    kept.set(name, known);
    return known;
  });
}

/** Fields of identities begin with it, and no plan has any. */
const IDENTITIES = 0x69;

/** A tile's field; identities have the same length and another first byte. */
const isTile = (field: Buffer): boolean => field.length === 5 && field[0] < 0x41;

/** Fields in the order of their first use. */
class Fields {
  readonly list: Buffer[] = [];
  readonly index = new Map<string, number>();

  constructor(fields: readonly Buffer[] = [META_FIELD]) {
    for (const field of fields) this.position(field);
  }

  position(field: Buffer): number {
    const name = field.toString("latin1");
    let at = this.index.get(name);
    if (at === undefined) {
      at = this.list.push(field) - 1;
      this.index.set(name, at);
    }
    return at;
  }
}

/**
 * Names the fields for a read at `asOfMs`.
 * @returns null when there would be too many: read the hash whole, then `planWhole`
 */
export function planRead(group: Group, needs: readonly Need[], asOfMs: number, extent: Extent): ReadPlan | null {
  const wanted = needs.map((need) => rangesOf(group, need, asOfMs, extent));
  if (wanted.some((ranges) => ranges.some(({ from, to }) => to - from > FIELDS_LIMIT))) return null;
  const fields = new Fields();
  const places = needs.map(({ slot, window }, n): Places => {
    const age = ageIn(group, window, asOfMs);
    const ages: number[] = [];
    const object = isObject(slot.kind);
    const at = window.kind === "lifetime" ? lifetimeFields(slot).map((field) => fields.position(field)) : [];
    for (const { level, from, to } of wanted[n]) {
      const { id, sizeMs } = group.levels[level];
      for (let tile = from; tile < to; tile++) {
        at.push(fields.position(object ? objectField(slot.id, id, tile) : tileField(id, tile)));
        if (age !== null) ages.push(age(tile * sizeMs));
      }
    }
    return { positions: Int32Array.from(at), ages: age === null ? null : Int32Array.from(ages) };
  });
  if (fields.list.length > FIELDS_LIMIT) return null;
  return new ReadPlan(group, extent, fields, places);
}

/**
 * A plan over the fields that a hash really has, for an entity so far behind the seal that naming those it might have would
 * be too much.
 * @param given all fields of the hash
 */
export function planWhole(
  group: Group,
  needs: readonly Need[],
  asOfMs: number,
  extent: Extent,
  given: readonly Buffer[],
): ReadPlan {
  const fields = new Fields(given);
  const tiles = given.map((field) => tileOf(field));
  const places = needs.map((need): Places => {
    const { slot, window } = need;
    const age = ageIn(group, window, asOfMs);
    const ages: number[] = [];
    const ranges = rangesOf(group, need, asOfMs, extent);
    const object = isObject(slot.kind) ? slot.id : null;
    const at =
      window.kind === "lifetime"
        ? lifetimeFields(slot).flatMap((field) => fields.index.get(field.toString("latin1")) ?? [])
        : [];
    tiles.forEach((tile, position) => {
      if (tile === null || tile.slot !== object) return;
      const inside = ranges.some(
        ({ level, from, to }) => group.levels[level].id === tile.level && tile.index >= from && tile.index < to,
      );
      if (!inside) return;
      at.push(position);
      const { sizeMs } = group.levels.find(({ id }) => id === tile.level)!;
      if (age !== null) ages.push(age(tile.index * sizeMs));
    });
    return { positions: Int32Array.from(at), ages: age === null ? null : Int32Array.from(ages) };
  });
  return new ReadPlan(group, extent, fields, places);
}

/** Age in hops of a tile by its start, for a window that is read by hop. */
function ageIn(group: Group, window: Window, asOfMs: number): ((startMs: number) => number) | null {
  if (window.kind === "lifetime" || !window.byHop) return null;
  const { endMs } = windowInterval(window, group.baseMs, asOfMs);
  return (startMs) => ageInHops(window, endMs, startMs);
}

/** Tiles that add up to a need. */
function rangesOf(group: Group, { slot, window }: Need, asOfMs: number, { foldedMs, stopMs }: Extent): TileRange[] {
  const headMs = floorTo(asOfMs, group.baseMs);
  const interval =
    window.kind === "lifetime"
      ? { startMs: frontier(group.levels[group.absorbing], foldedMs), endMs: headMs + group.baseMs }
      : windowInterval(window, group.baseMs, headMs);
  return cover(group, slot, window, interval, foldedMs, stopMs);
}

const lifetimeFields = (slot: Slot): Buffer[] =>
  isObject(slot.kind) ? [absorbedObjectField(slot.id), preObjectField(slot.id)] : [ABSORBED_FIELD, PRE_FIELD];

/** Level, index and slot (null for cells) of a tile's or object's field; null for any other field. */
function tileOf(field: Buffer): { level: number; index: number; slot: number | null } | null {
  if (isTile(field)) return { level: field[0], index: field.readUInt32BE(1), slot: null };
  if (field.length === 7 && field[0] === 0x73) return { level: field[2], index: field.readUInt32BE(3), slot: field[1] };
  return null;
}
