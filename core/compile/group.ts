/** What is stored for an (entity, stream): which tile sizes, and which slots at which of them, under the lock's ids. */

import { formatDuration } from "../duration.ts";
import { refuse } from "../errors.ts";
import { isObject } from "../operators/accumulators.ts";
import type { Level, Slot, SlotKind, Window } from "../plan.ts";
import { levelsOfWindow, retentionOf } from "../tiles/window.ts";
import { type GroupLock, keptFor, type Lock, type SlotLock, windowText } from "./lock.ts";

/** What one feature needs to be stored. */
export interface Need {
  readonly window: Window;
  readonly slots: readonly {
    readonly key: string;
    readonly kind: SlotKind;
    readonly channel: number;
    readonly keep?: number;
  }[];
}

interface StoredLayout {
  readonly id: number;
  readonly levels: readonly Level[];
  readonly absorbing: number;
  readonly slots: readonly Slot[];
  /** For each need, the position in `slots` of each of its slots. */
  readonly positions: readonly (readonly number[])[];
}

/** First id of each kind's class: 64 each; tiles tell a cell's size from its class, even of a slot they don't know. */
const CELL_CLASSES = { count: 0, min: 64, max: 64, sum: 128, squares: 192 } as const;
const CLASS_SIZE = 64;
/** Group ids are one byte; level ids share the first byte of field names with letters. */
const MAX_GROUPS = 255;
const MAX_LEVELS = 64;
const DAY_MS = 86_400_000;
/** Sizes beside base and hops that shorten reads and folding. */
export const LADDER: readonly number[] = [300_000, 3_600_000, DAY_MS];

interface SlotDraft {
  readonly kind: SlotKind;
  readonly channel: number;
  readonly keep?: number;
  readonly windows: Window[];
  /** Sizes at which the slot may be kept: those it has always been kept at; null for a new slot. */
  readonly allowed: ReadonlySet<number> | null;
}

/**
 * Lays a group out and records it in the lock. What is stored already is never read otherwise than it was written: a
 * window that a slot was not kept for gets a new slot (with a birth of its own), an older slot gets no new tile sizes,
 * and a tile size is always folded from the same parts.
 */
export function layOut(name: string, baseMs: number, needs: readonly Need[], lock: Lock): StoredLayout {
  const locked = lockedGroup(name, baseMs, lock);
  const { drafts, keys } = chooseSlots(needs, locked.slots);
  const { levels, kept } = layOutLevels(name, baseMs, drafts, locked);
  const hasLifetime = needs.some(({ window }) => window.kind === "lifetime");
  const absorbing = hasLifetime ? absorbingOf(levels) : levels.length - 1;
  for (const [key, { windows }] of drafts) {
    for (const window of windows) {
      if (window.kind === "lifetime") continue;
      const retainMs = retentionOf(window);
      for (const index of levelsOfWindow(levels, kept.get(key)!, window)) {
        if (retainMs > levels[index].retainMs) levels[index] = { ...levels[index], retainMs };
      }
    }
  }
  const slots = [...drafts].map(([key, { kind, channel, keep, windows }]) => ({
    key,
    id: locked.slots[key]?.id ?? newSlotId(name, key, kind, locked.slots),
    kind,
    channel,
    levels: kept.get(key)!,
    lifetime: windows.some((window) => window.kind === "lifetime"),
    ...(keep === undefined ? {} : { keep }),
  }));
  slots.sort((a, b) => Number(isObject(a.kind)) - Number(isObject(b.kind)) || a.id - b.id);
  for (const key of Object.keys(locked.slots)) {
    const slot = slots.find((candidate) => candidate.key === key);
    const windows = drafts.get(key)?.windows.map(windowText) ?? [];
    locked.slots[key] = {
      id: locked.slots[key].id,
      levels: slot?.levels.map((index) => levels[index].sizeMs) ?? [],
      windows: [...new Set(windows)],
    };
  }
  return {
    id: locked.id,
    levels,
    absorbing,
    slots: slots.map(({ key: _, ...slot }) => slot),
    positions: keys.map((list) => list.map((key) => slots.findIndex((slot) => slot.key === key))),
  };
}

function lockedGroup(name: string, baseMs: number, lock: Lock): GroupLock {
  const taken = Object.keys(lock.groups).length;
  if (!lock.groups[name] && taken >= MAX_GROUPS) {
    refuse(
      "too_many_groups",
      `${name} would be pair ${taken + 1} of an entity and a stream, the limit is ${MAX_GROUPS} over the app's life`,
      "deploy the new entities as an app of their own",
    );
  }
  const locked = (lock.groups[name] ??= { id: taken + 1, baseMs, levels: {}, slots: {} });
  if (locked.baseMs !== baseMs) {
    refuse(
      "base_changed",
      `the base of ${name} is ${formatDuration(locked.baseMs)}, part of what is stored, given ${formatDuration(baseMs)}`,
      `use ${formatDuration(locked.baseMs)}, or declare a new stream with the new base`,
      "base",
    );
  }
  return locked;
}

/** For each need the lock's key of each of its slots: one that was kept for the window, or one new slot for all new windows. */
function chooseSlots(needs: readonly Need[], locked: Readonly<Record<string, SlotLock>>) {
  const drafts = new Map<string, SlotDraft>();
  const known = Object.keys(locked);
  const keys = needs.map(({ window, slots }) =>
    slots.map(({ key, kind, channel, keep }) => {
      const all = known.filter((other) => other === key || other.startsWith(`${key}#`));
      const kept = all.find((other) => locked[other].windows.some((text) => keptFor(text, window)));
      const chosen = kept ?? (all.length === 0 ? key : `${key}#${all.length + 1}`);
      const draft = drafts.get(chosen) ?? {
        kind,
        channel,
        keep,
        windows: [],
        allowed: kept === undefined ? null : new Set(locked[kept].levels),
      };
      draft.windows.push(window);
      drafts.set(chosen, draft);
      return chosen;
    }),
  );
  return { drafts, keys };
}

/** Sizes that a window wants: its hop, and those steps of the ladder that shorten reads or folding. */
function sizesOf(window: Window, baseMs: number): number[] {
  const ladder = LADDER.filter((step) => step % baseMs === 0);
  if (window.kind === "lifetime") return ladder;
  const { sizeMs, hopMs, byHop } = window;
  const useful = (step: number) => hopMs % step === 0 || (!byHop && step % hopMs === 0 && 2 * step <= sizeMs);
  return [hopMs, ...ladder.filter(useful)];
}

/** Always the same level, whatever others come and go: what is absorbed can't be taken apart again. */
const absorbingOf = (levels: readonly Level[]): number => levels.findIndex(({ sizeMs }) => sizeMs === DAY_MS);

/** The group's levels, and for each slot those at which it is kept. */
function layOutLevels(name: string, baseMs: number, drafts: ReadonlyMap<string, SlotDraft>, locked: GroupLock) {
  const candidates = candidateLevels(name, baseMs, [...drafts.values()], locked);
  const kept = new Map([...drafts].map(([key, draft]) => [key, keptLevels(draft, candidates)]));
  // A step of the ladder that no slot is kept at after all: another size is what the level above is folded from.
  const used = [...new Set([...kept.values()].flat())].sort((a, b) => a - b);
  return {
    levels: used.map((index) => ({ ...candidates[index], parts: used.indexOf(candidates[index].parts) })),
    kept: new Map([...kept].map(([key, indices]) => [key, indices.map((index) => used.indexOf(index))])),
  };
}

function candidateLevels(name: string, baseMs: number, drafts: readonly SlotDraft[], locked: GroupLock): Level[] {
  const sizes = new Set([baseMs]);
  for (const { windows, allowed } of drafts) {
    const wanted = windows.flatMap((window) => sizesOf(window, baseMs));
    for (const size of wanted) if (allowed === null || allowed.has(size)) sizes.add(size);
  }
  // Grows while it is walked: a size brings the one it has always been folded from.
  for (const size of sizes) {
    const parts = locked.levels[size]?.parts ?? 0;
    if (parts > 0) sizes.add(parts);
  }
  const ascending = [...sizes].sort((a, b) => a - b);
  for (const size of ascending) {
    const id = Object.keys(locked.levels).length;
    if (!locked.levels[size] && id >= MAX_LEVELS) {
      refuse(
        "too_many_levels",
        `${name} has used ${MAX_LEVELS} tile sizes over its life, hop ${formatDuration(size)} needs another`,
        "use a hop that another window of this entity and stream has",
        "every",
      );
    }
    const parts = ascending.reduce((best, other) => (other < size && size % other === 0 ? other : best), 0);
    locked.levels[size] ??= { id, parts };
  }
  return ascending.map((sizeMs) => ({
    id: locked.levels[sizeMs].id,
    sizeMs,
    parts: ascending.indexOf(locked.levels[sizeMs].parts),
    retainMs: 0,
  }));
}

/** A level is folded from its parts, so whatever is kept at a level is kept at its parts too. */
function keptLevels({ windows, allowed }: SlotDraft, levels: readonly Level[]): number[] {
  const usable = levels.flatMap(({ sizeMs }, index) => (allowed === null || allowed.has(sizeMs) ? [index] : []));
  const kept = new Set([0]);
  for (const window of windows) {
    if (window.kind === "lifetime") kept.add(absorbingOf(levels));
    for (const index of levelsOfWindow(levels, usable, window)) kept.add(index);
  }
  for (let index = levels.length - 1; index > 0; index--) if (kept.has(index)) kept.add(levels[index].parts);
  return [...kept].sort((a, b) => a - b);
}

/** Reserves the smallest free id of the kind's class. Ids are never free again. */
function newSlotId(group: string, key: string, kind: SlotKind, locked: Record<string, SlotLock>): number {
  const object = isObject(kind);
  const [start, size] = object ? [0, 256] : [CELL_CLASSES[kind as keyof typeof CELL_CLASSES], CLASS_SIZE];
  const taken = new Set(
    Object.entries(locked)
      .filter(([other]) => isObject(kindOf(other)) === object)
      .map(([, { id }]) => id),
  );
  for (let id = start; id < start + size; id++) {
    if (taken.has(id)) continue;
    locked[key] = { id, levels: [], windows: [] };
    return id;
  }
  return refuse(
    "too_many_slots",
    `${group} has used all ${size} slots for ${object ? "operators that keep more than a number" : kind} over its life`,
    "put the new features on a stream of their own",
  );
}
const kindOf = (key: string): SlotKind => key.slice(0, key.indexOf("{")) as SlotKind;
