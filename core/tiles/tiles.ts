/**
 * The tile store as a model: one entity's state in memory, with the same rules that the server-side function follows
 * byte by byte. Tests hold both, and the naive oracle, against each other.
 */
import { accumulatorOf, type Contribution, type State } from "../operators/accumulators.ts";
import { ageInHops } from "../operators/decay.ts";
import { OPERATORS } from "../operators/operators.ts";
import type { Feature, FeatureValue, Group, View } from "../plan.ts";
import { cover, floorTo, frontier, pruneBound, windowInterval } from "./window.ts";

/** One event, as one entity of one group sees it. */
export interface Update {
  readonly identity: string;
  readonly timeMs: number;
  /** Aligned with the group's channels. */
  readonly contributions: readonly (Contribution | null)[];
}

export type Fate = "applied" | "duplicate" | "sealed";
type Tile = Map<number, State>;

/** States of an (entity, stream) by slot index; a slot that is missing is empty. */
export class EntityTiles {
  readonly group: Group;
  /** Everything below is folded to every level, and its ids are gone. */
  foldedMs: number;
  /** Newest event time of each of the newest base tiles, descending; enough of them to look past the future limit. */
  newest: number[] = [];
  readonly levels: Map<number, Tile>[];
  readonly ids = new Map<number, Map<string, number>>();
  absorbed: Tile = new Map();

  constructor(group: Group, sealMs: number) {
    this.group = group;
    this.foldedMs = sealMs;
    this.levels = group.levels.map(() => new Map());
  }

  /** Folds one event into its base tile, once. `nowMs` is the store's clock. Returns the fate and the visible time. */
  apply(update: Update, sealMs: number, nowMs: number): { fate: Fate; visibleMs: number | null } {
    const base = Math.floor(update.timeMs / this.group.baseMs);
    if (base * this.group.baseMs < sealMs) return { fate: "sealed", visibleMs: null };
    const ids = this.ids.get(base) ?? new Map<string, number>();
    const first = ids.get(update.identity);
    if (first !== undefined) return { fate: "duplicate", visibleMs: first };
    this.ids.set(base, ids.set(update.identity, nowMs));
    const tile = this.tile(0, base);
    this.group.slots.forEach((slot, index) => {
      const contribution = update.contributions[slot.channel];
      if (contribution === null) return;
      const { empty, lift, combine } = accumulatorOf(slot);
      tile.set(index, combine(tile.get(index) ?? empty, lift(contribution, update.timeMs, update.identity)));
    });
    this.newest = keepNewest(this.newest, update.timeMs, this.group.baseMs);
    return { fate: "applied", visibleMs: nowMs };
  }

  /** Folds what lies below the seal upwards, sweeps its ids and prunes what no window needs any more. */
  fold(sealMs: number): void {
    const { group, foldedMs } = this;
    if (sealMs <= foldedMs) return;
    group.levels.forEach((level, index) => {
      if (index === 0) return;
      for (let at = frontier(level, foldedMs); at < frontier(level, sealMs); at += level.sizeMs) {
        this.foldInto(index, at);
      }
    });
    const top = group.levels[group.absorbing];
    for (let at = frontier(top, foldedMs); at < frontier(top, sealMs); at += top.sizeMs) {
      const tile = this.levels[group.absorbing].get(at / top.sizeMs);
      if (tile) merge(group, this.absorbed, tile, (slot) => slot.lifetime);
    }
    this.foldedMs = sealMs;
    group.levels.forEach((level, index) => {
      const bound = pruneBound(group, index, sealMs) / level.sizeMs;
      for (const tile of this.levels[index].keys()) if (tile < bound) this.levels[index].delete(tile);
    });
    for (const base of this.ids.keys()) if (base * group.baseMs < sealMs) this.ids.delete(base);
  }

  /** The value of one feature at an instant (DESIGN §7). */
  read(view: View, feature: Feature, asOfMs: number): FeatureValue {
    const { group } = this;
    const eventTimeMs = newestVisible(this.newest, group.baseMs, asOfMs);
    const states = feature.slots.map((index) => {
      const slot = group.slots[index];
      const { empty, combine } = accumulatorOf(slot);
      const head = floorTo(asOfMs, group.baseMs) + group.baseMs;
      let state: State = empty;
      const byAge: State[] = [];
      let interval = { startMs: floorTo(this.foldedMs, group.levels[group.absorbing].sizeMs), endMs: head };
      if (feature.window.kind === "lifetime") state = this.absorbed.get(index) ?? empty;
      else interval = windowInterval(feature.window, group.baseMs, asOfMs);
      const ranges = cover(group, slot, feature.window, interval, this.foldedMs, Number.POSITIVE_INFINITY);
      for (const { level, from, to } of ranges) {
        for (let tile = from; tile < to; tile++) {
          const part = this.levels[level].get(tile)?.get(index) ?? empty;
          if (feature.window.kind === "lifetime" || !feature.window.byHop) state = combine(state, part);
          else {
            const age = ageInHops(feature.window, interval.endMs, tile * group.levels[level].sizeMs);
            byAge[age] = combine(byAge[age] ?? empty, part);
          }
        }
      }
      return feature.window.kind === "hopping" && feature.window.byHop ? { byAge } : state;
    });
    const value = OPERATORS[feature.operator].lower(states, { ...feature, asOfMs });
    return withStatus(view, value, eventTimeMs, asOfMs, true);
  }

  private tile(level: number, index: number): Tile {
    const tiles = this.levels[level];
    const tile = tiles.get(index) ?? new Map();
    tiles.set(index, tile);
    return tile;
  }

  private foldInto(index: number, startMs: number): void {
    const { group } = this;
    const level = group.levels[index];
    const parts = group.levels[level.parts];
    for (let at = startMs; at < startMs + level.sizeMs; at += parts.sizeMs) {
      const part = this.levels[level.parts].get(at / parts.sizeMs);
      if (part) merge(group, this.tile(index, startMs / level.sizeMs), part, (slot) => slot.levels.includes(index));
    }
  }
}

function merge(group: Group, into: Tile, from: Tile, kept: (slot: Group["slots"][number]) => boolean): void {
  for (const [index, state] of from) {
    const slot = group.slots[index];
    if (!kept(slot)) continue;
    const { empty, combine } = accumulatorOf(slot);
    into.set(index, combine(into.get(index) ?? empty, state));
  }
}

/** How many base tiles' newest times are kept: those that may lie ahead of a reader, and the one before them. */
export const newestKept = (baseMs: number): number => Math.ceil(60_000 / baseMs) + 2;

/** Adds an event time to the newest times, one for each of the newest base tiles, descending. */
function keepNewest(newest: readonly number[], timeMs: number, baseMs: number): number[] {
  const base = Math.floor(timeMs / baseMs);
  const others = newest.filter((time) => Math.floor(time / baseMs) !== base);
  const same = newest.find((time) => Math.floor(time / baseMs) === base) ?? timeMs;
  return [...others, Math.max(same, timeMs)].sort((a, b) => b - a).slice(0, newestKept(baseMs));
}

/** Newest event time in the base tile that holds `asOfMs` or an earlier one; null when there is none. */
export function newestVisible(newest: readonly number[], baseMs: number, asOfMs: number): number | null {
  const endMs = floorTo(asOfMs, baseMs) + baseMs;
  return newest.find((time) => time < endMs) ?? null;
}

/** Status rules of DESIGN §7, the same online and offline. */
export function withStatus(
  view: Pick<View, "ttlMs" | "reachMs">,
  value: FeatureValue["value"],
  eventTimeMs: number | null,
  asOfMs: number,
  ready: boolean,
): FeatureValue {
  if (!ready) return { value: null, status: "NOT_READY", eventTimeMs: null };
  if (eventTimeMs === null || (view.reachMs !== null && eventTimeMs <= asOfMs - view.reachMs)) {
    return { value: null, status: "NOT_FOUND", eventTimeMs: null };
  }
  if (asOfMs - eventTimeMs > view.ttlMs) return { value: null, status: "OUTSIDE_MAX_AGE", eventTimeMs };
  return { value, status: value === null ? "NULL_VALUE" : "PRESENT", eventTimeMs };
}
