/** In which steps a window moves: by default, or as declared, if tiles of that size add up to the window. */
import type { AggregationDefinition } from "../definition.ts";
import { formatDuration, parseDuration } from "../duration.ts";
import { refuse } from "../errors.ts";
import type { Window } from "../plan.ts";

/** Tiles are counted from 1970: a window must not reach behind it. */
const MAX_REACH_MS = 3_650 * 86_400_000;

/** DESIGN §5: W <= 10m 1m; < 12h 5m; < 12d 1h; else 1d; never finer than the base. */
function defaultHop(sizeMs: number, baseMs: number): number {
  const hop =
    sizeMs <= 600_000 ? 60_000 : sizeMs < 43_200_000 ? 300_000 : sizeMs < 1_036_800_000 ? 3_600_000 : 86_400_000;
  return Math.max(hop, baseMs);
}

/** @throws DefinitionError where the window cannot be made of whole tiles */
export function hoppingWindow(
  where: string,
  size: string,
  { hop, delay }: AggregationDefinition,
  baseMs: number,
): Window {
  const sizeMs = parseDuration(size, "over", where);
  const hopMs = hop === null ? defaultHop(sizeMs, baseMs) : parseDuration(hop, "every", where);
  const delayMs = delay === null ? 0 : parseDuration(delay, "delayedBy", where);
  if (hopMs % baseMs !== 0) {
    const near = Math.max(1, Math.round(hopMs / baseMs)) * baseMs;
    refuse(
      "hop_not_multiple_of_base",
      `hop ${formatDuration(hopMs)} of ${where} is no multiple of the stream's base ${formatDuration(baseMs)}`,
      `use ${formatDuration(near)}`,
      "every",
    );
  }
  if (sizeMs % hopMs !== 0) {
    refuse(
      "hop_does_not_divide",
      `hop ${formatDuration(hopMs)} of ${where} does not divide window ${formatDuration(sizeMs)}`,
      `use ${suggestHops(sizeMs, hopMs, baseMs)}`,
      "every",
    );
  }
  if (delayMs % hopMs !== 0) {
    refuse(
      "delay_not_multiple_of_hop",
      `delay ${formatDuration(delayMs)} of ${where} is no multiple of hop ${formatDuration(hopMs)}`,
      `use ${formatDuration(Math.ceil(delayMs / hopMs) * hopMs)}`,
      "delayedBy",
    );
  }
  if (sizeMs + delayMs > MAX_REACH_MS) {
    refuse(
      "window_too_long",
      `window ${size} of ${where} reaches back ${formatDuration(sizeMs + delayMs)}, the limit is ${formatDuration(MAX_REACH_MS)}`,
      'use a shorter window, or "lifetime"',
      "over",
    );
  }
  return { kind: "hopping", sizeMs, hopMs, delayMs };
}

/** The two next smaller and the next larger hop that divide the window: `5m, 6m or 10m`. */
function suggestHops(sizeMs: number, hopMs: number, baseMs: number): string {
  const divides = (ms: number) => sizeMs % ms === 0 && ms % baseMs === 0;
  const smaller: number[] = [];
  for (let ms = Math.floor(hopMs / baseMs) * baseMs; ms >= baseMs && smaller.length < 2; ms -= baseMs) {
    if (divides(ms)) smaller.unshift(ms);
  }
  const larger: number[] = [];
  for (let ms = (Math.floor(hopMs / baseMs) + 1) * baseMs; ms <= sizeMs && larger.length < 1; ms += baseMs) {
    if (divides(ms)) larger.push(ms);
  }
  const all = [...smaller, ...larger].map(formatDuration);
  if (all.length === 0) return `a window that is a multiple of the base ${formatDuration(baseMs)}`;
  return all.length === 1 ? all[0] : `${all.slice(0, -1).join(", ")} or ${all[all.length - 1]}`;
}
