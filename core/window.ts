/** Which interval of event time a window covers at an instant, and which tiles add up to it. */
import type { Group, Level, Slot, Window } from "./plan.ts";

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

/** Up to which level a window reads a slot: the hop itself, and multiples of it that fit the window twice. */
export function levelsOfWindow(levels: readonly Level[], window: Window): number[] {
  return levels.flatMap((level, index) => {
    if (window.kind === "lifetime") return [index];
    const fits = level.sizeMs === window.hopMs || 2 * level.sizeMs <= window.sizeMs;
    return level.sizeMs % window.hopMs === 0 && fits ? [index] : [];
  });
}

/**
 * Tiles that cover an interval exactly: at each point the coarsest tile that is aligned, folded, and kept for the slot.
 * `startMs` is aligned to a level of the slot; `endMs` to the base. Above each level's frontier its parts stand in.
 * @param stopMs end of the newest base tile that can hold anything; nothing is asked for beyond it
 */
export function cover(group: Group, slot: Slot, interval: Interval, foldedMs: number, stopMs: number): TileRange[] {
  const ranges: { level: number; from: number; to: number }[] = [];
  let at = interval.startMs;
  while (at < interval.endMs && at < stopMs) {
    let chosen = 0;
    for (const index of slot.levels) {
      const level = group.levels[index];
      const end = at + level.sizeMs;
      if (at % level.sizeMs === 0 && end <= interval.endMs && end <= frontier(level, foldedMs)) chosen = index;
    }
    const size = group.levels[chosen].sizeMs;
    const tile = at / size;
    const previous = ranges[ranges.length - 1];
    if (previous?.level === chosen && previous.to === tile) previous.to++;
    else ranges.push({ level: chosen, from: tile, to: tile + 1 });
    at += size;
  }
  return ranges;
}

/** Below this instant tiles of a level are folded everywhere they are wanted and no window reaches them. */
export function pruneBound(group: Group, index: number, foldedMs: number): number {
  const level = group.levels[index];
  let bound = foldedMs - level.retainMs;
  group.levels.forEach((other) => {
    if (other.parts === index) bound = Math.min(bound, frontier(other, foldedMs));
  });
  if (index === group.absorbing) bound = Math.min(bound, frontier(level, foldedMs));
  return floorTo(bound, level.sizeMs);
}
