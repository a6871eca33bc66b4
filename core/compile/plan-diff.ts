/** What going from one plan to another does to stored state: the words of `freshet plan`. */

import { formatDuration } from "../duration.ts";
import { canonicalJson } from "../json.ts";
import type { Feature, Group, Plan, Slot, View } from "../plan.ts";
import { diffBatchViews } from "./batch-diff.ts";
import { diffEnrich } from "./enrich.ts";

export interface Change {
  readonly kind: "add" | "remove" | "change" | "store";
  readonly what: string;
  /** What it means for stored state and for readers. */
  readonly effect: string;
}

/** The operator with what it is told: `approxPercentile 0.95`. */
export const describeOperator = ({ operator, parameter }: Feature): string => {
  if (parameter === undefined) return operator;
  return `${operator} ${operator === "decayedSum" ? formatDuration(parameter) : parameter}`;
};

export const describeWindow = ({ window }: Feature): string =>
  window.kind === "lifetime"
    ? "for ever"
    : `${formatDuration(window.sizeMs)} by ${formatDuration(window.hopMs)}${
        window.delayMs > 0 ? `, delayed by ${formatDuration(window.delayMs)}` : ""
      }`;

const describeFeature = (feature: Feature): string => `${describeOperator(feature)} over ${describeWindow(feature)}`;

const describeSlot = (group: Group, slot: Slot): string => {
  const { field, where, scale } = group.channels[slot.channel].input;
  const filter = where === null ? "" : " where …";
  return `${slot.kind}(${field ?? "events"}${scale === null ? "" : ` × 10^${scale}`}${filter})`;
};

/** What a feature is computed from and over: when it changes, values before and after mean different things. */
const meaning = (plan: Plan, view: View, { operator, parameter, window, slots, sample }: Feature): string => {
  const group = plan.groups[view.group];
  return canonicalJson({
    operator,
    parameter: parameter ?? null,
    window,
    sample,
    input: group.channels[group.slots[slots[0]].channel].input,
  });
};

/** When a feature's values can be trusted, given what is stored already. */
function readiness(before: Plan | null, after: Plan, view: View, feature: Feature): string {
  const group = after.groups[view.group];
  const previous = before?.groups.find(({ name }) => name === group.name);
  const history = `\`freshet backfill --view ${view.name}\``;
  if (previous === undefined) {
    return `counts from the stream's beginning if the stream is new, else from its birth until ${history}`;
  }
  const filled = feature.slots.every((index) => previous.slots.some((slot) => sameSlot(slot, group.slots[index])));
  if (filled) return "ready at once: its slots are already filled";
  return feature.window.kind === "lifetime"
    ? `NOT_READY until ${history}`
    : `NOT_READY until ${history}, or until its window starts after its birth, about two minutes after the deployment`;
}

/** Changes from `before` (null: nothing is deployed) to `after`; empty when nothing changes. */
export function diffPlans(before: Plan | null, after: Plan): Change[] {
  const changes: Change[] = [];
  const old = new Map(
    (before?.views ?? []).flatMap((view) => view.features.map((f) => [f.name, { view, f }] as const)),
  );
  const now = new Map(after.views.flatMap((view) => view.features.map((f) => [f.name, { view, f }] as const)));
  for (const [name, { view, f }] of now) {
    const known = old.get(name);
    if (known === undefined) {
      changes.push({ kind: "add", what: name, effect: `${describeFeature(f)}; ${readiness(before, after, view, f)}` });
    } else if (meaning(before!, known.view, known.f) !== meaning(after, view, f)) {
      const [was, is] = [describeFeature(known.f), describeFeature(f)];
      const change = was === is ? `${is} of another field or condition` : `was ${was}, becomes ${is}`;
      changes.push({ kind: "change", what: name, effect: `${change}; ${readiness(before, after, view, f)}` });
    } else if (known.view.ttlMs !== view.ttlMs) {
      changes.push({
        kind: "change",
        what: name,
        effect: `ttl ${formatDuration(known.view.ttlMs)} becomes ${formatDuration(view.ttlMs)}; applies to the next read`,
      });
    }
  }
  for (const [name, { f }] of old) {
    if (!now.has(name))
      changes.push({ kind: "remove", what: name, effect: `${describeFeature(f)} is no longer served` });
  }
  for (const group of after.groups) {
    const previous = before?.groups.find(({ name }) => name === group.name);
    for (const slot of group.slots) {
      if (previous?.slots.some((other) => sameSlot(other, slot))) continue;
      changes.push({
        kind: "store",
        what: `${group.name} slot ${slot.id}`,
        effect: `${describeSlot(group, slot)} is filled from its birth on`,
      });
    }
    for (const slot of previous?.slots ?? []) {
      if (group.slots.some((other) => sameSlot(other, slot))) continue;
      changes.push({
        kind: "store",
        what: `${group.name} slot ${slot.id}`,
        effect: `${describeSlot(previous!, slot)} is no longer filled and goes as its tiles age; its id is never used again`,
      });
    }
  }
  for (const { name, fallback } of after.entities) {
    if ((before?.entities.find((entity) => entity.name === name)?.fallback ?? false) === (fallback ?? false)) continue;
    changes.push({
      kind: "change",
      what: `entity ${name}`,
      effect: fallback
        ? "snapshots of it are kept from the next round on, which writes all of them once"
        : "no snapshot of it is kept or read any more; those there are expire",
    });
  }
  changes.push(...diffBatchViews(before?.batchViews ?? [], after.batchViews));
  changes.push(...diffEnrich(before?.streams ?? [], after.streams));
  return changes;
}

/** Views of streams in use whose history has to be built for features to be ready at once: `freshet backfill`. */
export function viewsToBackfill(before: Plan | null, after: Plan): string[] {
  const wants = (view: View): boolean => {
    const group = after.groups[view.group];
    const previous = before?.groups.find(({ name }) => name === group.name);
    const inUse = before?.streams.some(({ name }) => name === view.stream) ?? false;
    const slots = view.features.flatMap((feature) => feature.slots.map((index) => group.slots[index]));
    return inUse && slots.some((slot) => !previous?.slots.some((other) => sameSlot(other, slot)));
  };
  return after.views.filter(wants).map(({ name }) => name);
}

const sameSlot = (a: Slot, b: Slot): boolean => a.id === b.id && a.kind === b.kind;
