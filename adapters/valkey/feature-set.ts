/** Features of one group that are read together: which fields they need at an instant, and their values from those. */
import { ACCUMULATORS, isObject, type Pointed, type State } from "../../core/accumulators.ts";
import { FreshetError } from "../../core/errors.ts";
import { OPERATORS } from "../../core/operators.ts";
import type { Feature, FeatureValue, Group, Plan, Slot, View } from "../../core/plan.ts";
import { withStatus } from "../../core/tiles.ts";
import { LOW, type Wide } from "../../core/wide.ts";
import { cover, floorTo, frontier, type TileRange, windowInterval } from "../../core/window.ts";
import {
  ABSORBED_FIELD,
  absorbedObjectField,
  CELL_BYTES,
  decodeGroupControl,
  decodeScalar,
  META_FIELD,
  objectField,
  PRE_FIELD,
  preObjectField,
  tileField,
} from "./layout.ts";

/** Fields to ask for, and for each feature and slot the positions in the answer that add up to its state. */
export class ReadPlan {
  /** The meta field first. */
  readonly fields: readonly Buffer[];
  readonly positions: readonly (readonly Int32Array[])[];
  private readonly index: ReadonlyMap<string, number>;

  constructor(
    fields: readonly Buffer[],
    positions: readonly (readonly Int32Array[])[],
    index: ReadonlyMap<string, number>,
  ) {
    this.fields = fields;
    this.positions = positions;
    this.index = index;
  }

  /** True when what this plan asks for includes all that `exact` needs. */
  holds(exact: ReadPlan): boolean {
    if (exact === this) return true;
    for (const name of exact.index.keys()) if (!this.index.has(name)) return false;
    return true;
  }

  /** `exact`'s positions in the answer to this plan. */
  narrowedTo(exact: ReadPlan): ReadPlan {
    const moved = new Int32Array(exact.fields.length);
    for (const [name, at] of exact.index) moved[at] = this.index.get(name)!;
    const positions = exact.positions.map((slots) => slots.map((list) => list.map((at) => moved[at])));
    return new ReadPlan(this.fields, positions, this.index);
  }
}

const PLANS_LIMIT = 64;
/** More fields than this are not named one by one: the hash is read whole, and what it holds is far less. */
const FIELDS_LIMIT = 4_000;

/** Which tiles or objects of a slot a feature wants. */
interface Wanted {
  readonly slot: Slot;
  readonly ranges: readonly TileRange[];
  readonly lifetime: boolean;
}

export class FeatureSet {
  readonly group: Group;
  private readonly features: readonly { feature: Feature; view: View }[];
  private readonly plans = new Map<string, ReadPlan>();
  private readiness: { raw: string; bornMs: readonly number[] } | null = null;

  private constructor(group: Group, features: readonly { feature: Feature; view: View }[]) {
    this.group = group;
    this.features = features;
  }

  /** @throws FreshetError `feature_unknown` */
  static split(plan: Plan, entity: string, names: readonly string[]): FeatureSet[] {
    const byGroup = new Map<number, { feature: Feature; view: View }[]>();
    for (const name of names) {
      const view = plan.views.find((candidate) => name.startsWith(`${candidate.name}:`));
      const feature = view?.features.find((candidate) => candidate.name === name);
      if (!view || !feature || view.entity !== entity) {
        throw new FreshetError("feature_unknown", `entity ${entity} has no feature ${name}`, {
          field: "features",
          repair: "GET /v1/features/{entity}/{id} lists what there is",
        });
      }
      const list = byGroup.get(view.group);
      if (list) list.push({ feature, view });
      else byGroup.set(view.group, [{ feature, view }]);
    }
    return [...byGroup].map(([index, features]) => new FeatureSet(plan.groups[index], features));
  }

  /**
   * Fields for a read at `asOfMs` of an entity that is folded up to `foldedMs`.
   * @param newestMs newest event time of the entity: no tile lies beyond it; null when it is not known yet
   * @returns null when too many fields would have to be named: read the hash whole, then `planForWhole`
   */
  planFor(asOfMs: number, foldedMs: number, newestMs: number | null): ReadPlan | null {
    const { group } = this;
    const head = Math.floor(asOfMs / group.baseMs);
    const stopMs = newestMs === null ? Number.POSITIVE_INFINITY : floorTo(newestMs, group.baseMs) + group.baseMs;
    const frontiers = group.levels.map((level) => frontier(level, foldedMs));
    // Beyond the head the stop changes nothing, and then all busy entities share one plan.
    const stop = stopMs > head * group.baseMs ? Number.POSITIVE_INFINITY : stopMs;
    const key = `${head} ${stop} ${frontiers.slice(1).join(" ")}`;
    let plan = this.plans.get(key);
    if (!plan) {
      if (this.plans.size >= PLANS_LIMIT) this.plans.delete(this.plans.keys().next().value!);
      const built = this.build(head * group.baseMs, foldedMs, stop);
      if (built === null) return null;
      plan = built;
      this.plans.set(key, plan);
    }
    return plan;
  }

  /** For each feature and slot, the tiles that add up to its state. */
  private wanted(headMs: number, foldedMs: number, stopMs: number): Wanted[][] {
    const { group } = this;
    return this.features.map(({ feature: { window, slots } }) =>
      slots.map((index) => {
        const slot = group.slots[index];
        const lifetime = window.kind === "lifetime";
        const interval = lifetime
          ? { startMs: frontier(group.levels[group.absorbing], foldedMs), endMs: headMs + group.baseMs }
          : windowInterval(window, group.baseMs, headMs);
        return { slot, ranges: cover(group, slot, window, interval, foldedMs, stopMs), lifetime };
      }),
    );
  }

  /** Null when there are too many fields to name. */
  private build(headMs: number, foldedMs: number, stopMs: number): ReadPlan | null {
    const { group } = this;
    const wanted = this.wanted(headMs, foldedMs, stopMs);
    const tiles = wanted.flat().flatMap(({ ranges }) => ranges.map(({ from, to }) => to - from));
    if (Math.max(0, ...tiles) > FIELDS_LIMIT) return null;
    const fields: Buffer[] = [META_FIELD];
    const index = new Map<string, number>([["m", 0]]);
    const position = (field: Buffer): number => {
      const name = field.toString("latin1");
      let at = index.get(name);
      if (at === undefined) {
        at = fields.push(field) - 1;
        index.set(name, at);
      }
      return at;
    };
    const positions = wanted.map((slots) =>
      slots.map(({ slot, ranges, lifetime }) => {
        const object = isObject(slot.kind);
        const at = lifetime ? lifetimeFields(slot).map(position) : [];
        for (const { level, from, to } of ranges) {
          const { id } = group.levels[level];
          for (let tile = from; tile < to; tile++) {
            at.push(position(object ? objectField(slot.id, id, tile) : tileField(id, tile)));
          }
        }
        return Int32Array.from(at);
      }),
    );
    return fields.length > FIELDS_LIMIT ? null : new ReadPlan(fields, positions, index);
  }

  /**
   * A plan over the fields that a hash really has, for an entity so far behind the seal that naming those it might have
   * would be too much.
   * @param fields all of the hash, the meta field first
   */
  planForWhole(fields: readonly Buffer[], asOfMs: number, foldedMs: number, newestMs: number): ReadPlan {
    const { group } = this;
    const stopMs = floorTo(newestMs, group.baseMs) + group.baseMs;
    const index = new Map(fields.map((field, at) => [field.toString("latin1"), at]));
    const tiles = fields.map((field) => tileOf(field));
    const positions = this.wanted(floorTo(asOfMs, group.baseMs), foldedMs, stopMs).map((slots) =>
      slots.map(({ slot, ranges, lifetime }) => {
        const object = isObject(slot.kind) ? slot.id : null;
        const at = lifetime ? lifetimeFields(slot).flatMap((field) => index.get(field.toString("latin1")) ?? []) : [];
        tiles.forEach((tile, position) => {
          if (tile === null || tile.slot !== object) return;
          const inside = ranges.some(
            ({ level, from, to }) => group.levels[level].id === tile.level && tile.index >= from && tile.index < to,
          );
          if (inside) at.push(position);
        });
        return Int32Array.from(at);
      }),
    );
    return new ReadPlan(fields, positions, index);
  }

  /** Computes all features of the set into `into`, by name. */
  evaluate(
    plan: ReadPlan,
    values: readonly (Buffer | null)[],
    eventTimeMs: number | null,
    asOfMs: number,
    control: Buffer | null,
    into: Map<string, FeatureValue>,
  ): void {
    const bornMs = this.bornMs(control);
    const { group } = this;
    this.features.forEach(({ feature, view }, f) => {
      const { window } = feature;
      const startMs = window.kind === "lifetime" ? 0 : windowInterval(window, group.baseMs, asOfMs).startMs;
      const ready = startMs >= bornMs[f];
      if (eventTimeMs === null || !ready) {
        into.set(feature.name, withStatus(view, null, eventTimeMs, asOfMs, ready));
        return;
      }
      const states = feature.slots.map((slot, s) => combineAt(group.slots[slot], plan.positions[f][s], values));
      const value = OPERATORS[feature.operator].lower(states, { ...feature, asOfMs });
      into.set(feature.name, withStatus(view, value, eventTimeMs, asOfMs, true));
    });
  }

  /** From when on each feature counts everything; 0 when its slots are as old as the stream. */
  private bornMs(control: Buffer | null): readonly number[] {
    const raw = control === null ? "" : control.toString("latin1", 4);
    if (this.readiness?.raw !== raw) {
      const births = control === null ? [] : decodeGroupControl(control).births;
      const bornMs = this.features.map(({ feature }) =>
        Math.max(
          ...feature.slots.map((index) => {
            const slot = this.group.slots[index];
            const birth = births.find((b) => b.slot === slot.id && b.object === isObject(slot.kind));
            return birth === undefined ? Number.POSITIVE_INFINITY : birth.baseIndex * this.group.baseMs;
          }),
        ),
      );
      this.readiness = { raw, bornMs };
    }
    return this.readiness.bornMs;
  }
}

const lifetimeFields = (slot: Slot): Buffer[] =>
  isObject(slot.kind) ? [absorbedObjectField(slot.id), preObjectField(slot.id)] : [ABSORBED_FIELD, PRE_FIELD];

/** Level, index and slot (null for cells) of a tile's or object's field; null for any other field. */
function tileOf(field: Buffer): { level: number; index: number; slot: number | null } | null {
  if (field.length === 5 && field[0] < 0x41) return { level: field[0], index: field.readUInt32BE(1), slot: null };
  if (field.length === 7 && field[0] === 0x73) return { level: field[2], index: field.readUInt32BE(3), slot: field[1] };
  return null;
}

const OFFSETS = new Map<string, Int16Array>();
/** Where each slot's cell starts in a tile, by slot id; -1 for a slot that the tile lacks. */
function offsetsOf(tile: Buffer): Int16Array {
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

function combineAt(slot: Slot, positions: Int32Array, values: readonly (Buffer | null)[]): State {
  switch (slot.kind) {
    case "count": {
      let total = 0;
      for (const position of positions) {
        const tile = values[position];
        if (tile === null) continue;
        const at = offsetsOf(tile)[slot.id];
        if (at >= 0) total += low(tile, at);
      }
      return total;
    }
    case "min":
    case "max": {
      let extreme = ACCUMULATORS[slot.kind].empty as number;
      for (const position of positions) {
        const tile = values[position];
        if (tile === null) continue;
        const at = offsetsOf(tile)[slot.id];
        if (at < 0) continue;
        const value = tile.readDoubleLE(at);
        extreme = slot.kind === "min" ? Math.min(extreme, value) : Math.max(extreme, value);
      }
      return extreme;
    }
    case "sum":
    case "squares": {
      let hi = 0;
      let lo = 0;
      for (const position of positions) {
        const tile = values[position];
        if (tile === null) continue;
        const at = offsetsOf(tile)[slot.id];
        if (at < 0) continue;
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
      return { hi: hi + carry, lo: lo - carry * LOW } satisfies Wide;
    }
    default: {
      const { empty, combine } = ACCUMULATORS[slot.kind];
      let state: State = empty;
      for (const position of positions) {
        const bytes = values[position];
        if (bytes !== null) state = combine(state, decodeObject(slot, bytes));
      }
      return state;
    }
  }
}

function decodeObject(slot: Slot, bytes: Buffer): State {
  if (slot.kind === "distinct") {
    if (bytes[0] === 0x44) return new Uint8Array(bytes.subarray(1));
    const hashes: number[] = [];
    for (let at = 1; at < bytes.length; at += 4) hashes.push(bytes.readUInt32BE(at));
    return hashes;
  }
  return {
    timeMs: bytes.readDoubleLE(0),
    identity: bytes.toString("hex", 8, 16),
    value: decodeScalar(bytes.subarray(16)),
  } satisfies Pointed;
}
