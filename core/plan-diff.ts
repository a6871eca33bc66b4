/** What going from one plan to another does to stored state: the words of `freshet plan`. */
import { formatDuration } from "./duration.ts";
import type { Feature, Group, Plan, Slot } from "./plan.ts";

export interface Change {
  readonly kind: "add" | "remove" | "change" | "store";
  readonly what: string;
  /** What it means for stored state and for readers. */
  readonly effect: string;
}

export const describeWindow = ({ window }: Feature): string =>
  window.kind === "lifetime"
    ? "for ever"
    : `${formatDuration(window.sizeMs)} by ${formatDuration(window.hopMs)}${
        window.delayMs > 0 ? `, delayed by ${formatDuration(window.delayMs)}` : ""
      }`;

const describeFeature = (feature: Feature): string => `${feature.operator} over ${describeWindow(feature)}`;

const describeSlot = (group: Group, slot: Slot): string => {
  const { field, where, scale } = group.channels[slot.channel].input;
  const filter = where === null ? "" : " where …";
  return `${slot.kind}(${field ?? "events"}${scale === null ? "" : ` × 10^${scale}`}${filter})`;
};

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
      const group = after.groups[view.group];
      const previous = before?.groups.find((candidate) => candidate.name === group.name);
      const fresh = f.slots.some((index) => !previous?.slots.some((slot) => sameSlot(slot, group.slots[index])));
      const since =
        previous === undefined
          ? "counts from the stream's beginning if the stream is new, else from its birth"
          : fresh
            ? "NOT_READY until its window starts after its birth, about two minutes after the deployment; history needs a backfill"
            : "ready at once: its slots are already filled";
      changes.push({ kind: "add", what: name, effect: `${describeFeature(f)}; ${since}` });
    } else if (describeFeature(known.f) !== describeFeature(f)) {
      changes.push({
        kind: "change",
        what: name,
        effect: `was ${describeFeature(known.f)}, becomes ${describeFeature(f)}; stored tiles are not reinterpreted`,
      });
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
    if (previous && previous.baseMs !== group.baseMs) {
      changes.push({
        kind: "store",
        what: group.name,
        effect: "the base changed: refused, it is part of the stored layout",
      });
    }
  }
  return changes;
}

const sameSlot = (a: Slot, b: Slot): boolean => a.id === b.id && a.kind === b.kind;
