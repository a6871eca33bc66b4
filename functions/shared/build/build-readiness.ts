/** Whether a build can begin, and what it has made ready: both are read from the control hashes. */
import { type BuildRecord, pendingOf } from "../../../adapters/control-table/build-progress.ts";
import type { ControlHashes } from "../../../adapters/valkey/control.ts";
import { BUCKETS } from "../../../adapters/valkey/layout.ts";
import { isObject } from "../../../core/operators/accumulators.ts";
import type { Group, Plan, View } from "../../../core/plan.ts";

const at = (ms: number): string => new Date(ms).toISOString().slice(0, 16).replace("T", " ");

/**
 * The seal (ms) of each group that has buckets left, by name; or why a build has to wait. It needs one seal over all buckets, and every slot born
 * at or below it: what an older plan's code still writes above would be missing.
 */
export async function buildSeals(
  ports: { readonly controls: ControlHashes },
  groups: readonly Group[],
  record: Pick<BuildRecord, "done">,
): Promise<ReadonlyMap<string, number> | string> {
  const seals = new Map<string, number>();
  for (const group of groups) {
    const pending = pendingOf(record, group.name);
    if (pending.length === 0) continue;
    const all = await ports.controls.group(group);
    const controls = pending.map((bucket) => all[bucket]);
    const [first] = controls;
    if (first === null || controls.includes(null))
      return `the store does not know ${group.name} yet: control adds it within a minute`;
    if (controls.some((control) => control!.sealMs !== first.sealMs)) return `the seal of ${group.stream} is moving`;
    const born = group.slots.flatMap(({ id, kind }) =>
      controls.map((control) => control!.births.find((b) => b.slot === id && b.object === isObject(kind))?.baseIndex),
    );
    if (born.includes(undefined)) return `slots of ${group.name} have no birth yet: control gives it within a minute`;
    const youngestMs = Math.max(...(born as number[])) * group.baseMs;
    if (youngestMs > first.sealMs) {
      const minutes = Math.ceil((youngestMs - first.sealMs) / 60_000);
      return `the seal of ${group.stream} (${at(first.sealMs)}) has to pass the birth of new slots (${at(youngestMs)}), in about ${minutes} min`;
    }
    seals.set(group.name, first.sealMs);
  }
  return seals;
}

/** How far a view's features have their history. */
export interface ViewReadiness {
  readonly view: string;
  readonly stream: string;
  /** Buckets, of 1,024, in which every slot of the view counts from the beginning. */
  readonly bucketsReady: number;
  /** Where one does not: event time from which on the youngest slot counts. Null when all are ready. */
  readonly sinceMs: number | null;
}

export async function readinessOf(controls: ControlHashes, plan: Plan): Promise<ViewReadiness[]> {
  const answers: ViewReadiness[] = [];
  for (const group of plan.groups) {
    const all = await controls.group(group);
    for (const view of plan.views.filter((each) => plan.groups[each.group] === group)) {
      const since = all.map((control) => {
        const born = slotsOf(view, group).map(
          ({ id, kind }) =>
            control?.births.find((b) => b.slot === id && b.object === isObject(kind))?.baseIndex ??
            Number.POSITIVE_INFINITY,
        );
        return Math.max(0, ...born) * group.baseMs;
      });
      const bucketsReady = since.filter((ms) => ms === 0).length;
      const youngestMs = Math.max(...since);
      answers.push({
        view: view.name,
        stream: view.stream,
        bucketsReady,
        sinceMs: bucketsReady === BUCKETS || !Number.isFinite(youngestMs) ? null : youngestMs,
      });
    }
  }
  return answers;
}

/** Views that lack some of their history. */
export const isUnready = ({ bucketsReady }: ViewReadiness): boolean => bucketsReady < BUCKETS;

const slotsOf = (view: View, group: Group) =>
  [...new Set(view.features.flatMap(({ slots }) => slots))].map((slot) => group.slots[slot]);
