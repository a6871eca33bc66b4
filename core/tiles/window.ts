/** Which interval of event time a window covers at an instant, and which tiles add up to it. */
import type { Group, Level, Slot, Window } from "../plan.ts";

export const floorTo = (ms: number, step: number): number => Math.floor(ms / step) * step;

/** Half-open interval of event time. */
export interface Interval {
  readonly startMs: number;
  readonly endMs: number;
}

/**
 * DESIGN §7: from floor((t - W) / hop) * hop to the end of the base tile that holds t. A delayed window covers whole hops
 * only: [floor((t - D - W) / hop) * hop, floor((t - D) / hop) * hop).
 */
export function windowInterval(window: Window & { kind: "hopping" }, baseMs: number, asOfMs: number): Interval {
  const { sizeMs, hopMs, delayMs } = window;
  const startMs = floorTo(asOfMs - delayMs - sizeMs, hopMs);
  return delayMs > 0
    ? { startMs, endMs: floorTo(asOfMs - delayMs, hopMs) }
    : { startMs, endMs: floorTo(asOfMs, baseMs) + baseMs };
}

/** The end of what is folded to a level, when everything below `foldedMs` (a seal) has been folded. */
export const frontier = (level: Level, foldedMs: number): number => floorTo(foldedMs, level.sizeMs);

/** Tiles at one level: indices `from` to `to`, exclusive, counted in the level's size since the epoch. */
export interface TileRange {
  readonly level: number;
  readonly from: number;
  readonly to: number;
}

/**
 * Levels, of those that a slot is kept at, whose tiles a window reads wherever they are folded: its hop, and multiples of the
 * hop that fit the window twice, unless its hops count for themselves. They are kept for as long as the window reaches back; a lifetime window keeps none.
 */
export function levelsOfWindow(levels: readonly Level[], kept: readonly number[], window: Window): number[] {
  if (window.kind === "lifetime") return [];
  return kept.filter((index) => {
    const { sizeMs } = levels[index];
    return sizeMs === window.hopMs || (!window.byHop && sizeMs % window.hopMs === 0 && 2 * sizeMs <= window.sizeMs);
  });
}

/** How long after its start a tile that the window reads may be needed, in ms. */
export const retentionOf = ({ sizeMs, delayMs, hopMs }: Window & { kind: "hopping" }): number =>
  sizeMs + delayMs + hopMs;

/**
 * Tiles that cover a window's interval exactly. Below the frontier of the window's hop: at each point the coarsest aligned
 * tile that is kept for this window; not just any that the slot has, since another window's may be gone by then. Above it
 * the tiles that the hop's tile will be folded from stand in, down to the base: they stay until that fold.
 * @param interval starts at a multiple of the hop (lifetime: of the absorbing level), ends at one of the base
 * @param stopMs end of the newest base tile that can hold anything; nothing is asked for beyond it
 */
export function cover(
  group: Group,
  slot: Slot,
  window: Window,
  interval: Interval,
  foldedMs: number,
  stopMs: number,
): TileRange[] {
  const { levels } = group;
  const coarse = levelsOfWindow(levels, slot.levels, window);
  const hop = window.kind === "lifetime" ? group.absorbing : coarse[0];
  const ranges: { level: number; from: number; to: number }[] = [];
  let at = interval.startMs;
  while (at < interval.endMs && at < stopMs) {
    let chosen = hop;
    for (const index of coarse) {
      const level = levels[index];
      const end = at + level.sizeMs;
      if (at % level.sizeMs === 0 && end <= interval.endMs && end <= frontier(level, foldedMs)) chosen = index;
    }
    while (chosen > 0 && at >= frontier(levels[chosen], foldedMs)) chosen = levels[chosen].parts;
    const size = levels[chosen].sizeMs;
    const tile = at / size;
    const previous = ranges[ranges.length - 1];
    if (previous?.level === chosen && previous.to === tile) previous.to++;
    else ranges.push({ level: chosen, from: tile, to: tile + 1 });
    at += size;
  }
  return ranges;
}

/**
 * Below this instant tiles of a level are folded everywhere they are wanted and no window reaches them. The coarsest
 * level's own frontier needs no mention: the bound is a multiple of the size, and what is whole below it is absorbed.
 */
export function pruneBound(group: Group, index: number, foldedMs: number): number {
  const level = group.levels[index];
  let bound = foldedMs - level.retainMs;
  group.levels.forEach((other) => {
    if (other.parts === index) bound = Math.min(bound, frontier(other, foldedMs));
  });
  return floorTo(bound, level.sizeMs);
}
