/**
 * Ids that stored bytes carry, by what they mean, and what each has been filled with. Committed beside the definitions, so
 * that an id never means two things and a window is never read from tiles that were not kept for it.
 */
import { formatDuration, parseDuration } from "../duration.ts";
import type { HoppingWindow, Window } from "../plan.ts";

export interface Lock {
  readonly version: 1;
  readonly groups: Record<string, GroupLock>;
  /** Of each batch view what its ids stand for, by place: `feature:dtype`. Entries are only ever added. */
  readonly pushed?: Record<string, readonly string[]>;
}
export interface GroupLock {
  readonly id: number;
  /** The unit of all that is stored. */
  readonly baseMs: number;
  /** By size in ms; `parts` is the size of the tiles that are folded into it, 0 for the base. Entries never change. */
  readonly levels: Record<string, { readonly id: number; readonly parts: number }>;
  /**
   * By what is accumulated, then `#2`, `#3` … for later slots of the same. One without windows is retired, for ever: its
   * cells may still lie in old tiles.
   */
  readonly slots: Record<string, SlotLock>;
}
export interface SlotLock {
  readonly id: number;
  /** Sizes at which it has been kept all along, in ms. Only ever shrinks. */
  readonly levels: readonly number[];
  /** Windows that it has been kept for all along: size, hop and delay as `24h/1h` or `7d/1h/1d`, by hop as `hops:24h/1h`, or `lifetime`. */
  readonly windows: readonly string[];
}
export const EMPTY_LOCK: Lock = { version: 1, groups: {} };

/** Before windows that are read by hop: coarser tiles were not kept for them. */
const BY_HOP = "hops:";

export const windowText = (window: Window): string =>
  window.kind === "lifetime"
    ? "lifetime"
    : (window.byHop ? BY_HOP : "") +
      [window.sizeMs, window.hopMs, ...(window.delayMs > 0 ? [window.delayMs] : [])].map(formatDuration).join("/");

/** What `windowText` has written. */
export function windowOf(text: string): Window {
  if (text === "lifetime") return { kind: "lifetime" };
  const byHop = text.startsWith(BY_HOP);
  const parts = (byHop ? text.slice(BY_HOP.length) : text).split("/");
  const [sizeMs, hopMs, delayMs = 0] = parts.map((part) => parseDuration(part));
  return { kind: "hopping", sizeMs, hopMs, delayMs, ...(byHop ? { byHop } : {}) };
}

/** True when tiles that were kept for one window (as the lock has it) are all that another one reads. */
export function keptFor(text: string, window: Window): boolean {
  if (text === "lifetime" || window.kind === "lifetime") return text === windowText(window);
  const kept = windowOf(text) as HoppingWindow;
  const { sizeMs, hopMs, delayMs } = kept;
  if (kept.byHop && !window.byHop) return false;
  return hopMs === window.hopMs && sizeMs >= window.sizeMs && sizeMs + delayMs >= window.sizeMs + window.delayMs;
}

/** The same lock with every slot of a group retired: a group that no view needs is not filled any more. */
export function retireGroup(group: GroupLock): GroupLock {
  const slots = Object.entries(group.slots).map(([key, { id }]) => [key, { id, levels: [], windows: [] }] as const);
  return { ...group, slots: Object.fromEntries(slots) };
}
