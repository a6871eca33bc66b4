/**
 * What was pushed, by callers and by runs of batch views, pushed again from its archive into buckets that have lost it, or were brought back from
 * a snapshot that lacks the newest. Each bears a mark until all of it is back, and reads answer `NOT_READY` for what they do not find in it.
 */

import { forEachLimited } from "../../../adapters/aws/durable-call.ts";
import type { BatchRuns } from "../../../adapters/control-table/batch-runs.ts";
import type { ControlTable } from "../../../adapters/control-table/control-table.ts";
import type { ArchiveMirror } from "../../../adapters/offline/mirror.ts";
import { type PackedRow, readValues, VALUES_PREFIX, type ValuesRow } from "../../../adapters/pushed/values-format.ts";
import { StoreApplier } from "../../../adapters/valkey/applier.ts";
import type { ValkeyConnection } from "../../../adapters/valkey/connection.ts";
import { ControlHashes } from "../../../adapters/valkey/control.ts";
import { bucketOf } from "../../../adapters/valkey/layout.ts";
import { packValues } from "../../../adapters/valkey/packed.ts";
import { type PushRow, pushRows } from "../../../adapters/valkey/push.ts";
import type { Lock } from "../../../core/compile/compile.ts";
import { RecordError } from "../../../core/errors.ts";
import type { Plan } from "../../../core/plan.ts";
import { keyOf, storedView } from "../../../core/pushed-feature.ts";
import { currentEpoch } from "../current-store.ts";

export interface RestorePorts {
  readonly plan: Plan;
  readonly lock: Lock;
  readonly connection: ValkeyConnection;
  readonly table: ControlTable;
  readonly runs: BatchRuns;
  readonly mirror: Pick<ArchiveMirror, "list" | "get">;
}

export interface RestoreReport {
  /** Pushed in this run. */
  readonly rows: number;
  /** False while something is still to come. */
  readonly isWhole: boolean;
  /** Objects that cannot be read: what is in them alone stays away. */
  readonly damaged: readonly { readonly key: string; readonly error: RecordError }[];
}

/** Under which it is kept how far a walk has come: no view's name. */
export const PUSHED = storedView("pushed");

/** Fetched and pushed at once: reading one after the other is mostly waiting. */
const AT_ONCE = 8;
/** After so many objects it is kept how far the work has come. */
const STEP = 256;

/**
 * Pushing again changes nothing where nothing was lost, so a step that is cut off is repeated as a whole. Busy tenants leave more objects
 * than one run of a function can read, so the next one goes on where this one ended. A walk is for the buckets that were marked when it
 * began: one that a restore has emptied since bears another mark, and has the next walk.
 * @param untilMs no step but the first is begun after it
 * @throws InfrastructureError of table, archive and store
 */
export async function restorePushed(ports: RestorePorts, untilMs = Number.POSITIVE_INFINITY): Promise<RestoreReport> {
  const { plan, lock, connection, table, runs, mirror } = ports;
  const epoch = await currentEpoch(table, lock);
  const controls = new ControlHashes(connection, plan);
  const marks = epoch === null ? new Map<number, string>() : await controls.pushedMarks();
  const damaged: { key: string; error: RecordError }[] = [];
  let rows = 0;
  if (epoch === null || marks.size === 0) return { rows, isWhole: true, damaged };
  const standing = [...new Set(marks.values())];
  const kept = await runs.place(PUSHED);
  const before = kept?.epoch === epoch && kept.marks.some((mark) => standing.includes(mark)) ? kept : null;
  const covered = before?.marks ?? standing;
  const isWanted = ({ tenant, entity, id }: PushRow) =>
    covered.includes(marks.get(bucketOf(tenant, entity, id)) ?? "none");
  const applier = new StoreApplier(connection, plan, epoch);
  const objects = await mirror.list(VALUES_PREFIX, before?.after);
  for (let from = 0; from < objects.length; from += STEP) {
    if (from > 0 && Date.now() >= untilMs) return { rows, isWhole: false, damaged };
    const step = objects.slice(from, from + STEP);
    await forEachLimited(step, AT_ONCE, async ({ key }) => {
      const read = rowsOf(await mirror.get(key));
      if (read instanceof RecordError) damaged.push({ key, error: read });
      else {
        const pushes = read.flatMap((row) => pushOf(plan, row) ?? []).filter(isWanted);
        await pushRows(applier, pushes);
        rows += pushes.length;
      }
    });
    const after = step[step.length - 1].key;
    await runs.keepPlace(PUSHED, { epoch, after, rows: (before?.rows ?? 0) + rows, marks: covered });
  }
  await controls.pushedIsBack(covered);
  return { rows, isWhole: !(await controls.lacksPushed()), damaged };
}

/** After a failover, before the store is taken for whole: a replica may lack the newest pushes, and reads say so until all are pushed again. */
export async function repeatAfterFailover(controls: ControlHashes, runs: BatchRuns): Promise<void> {
  const heads = await controls.heads();
  // Some buckets may be being restored at the same time.
  const lacking = heads.find((head) => head?.state === "failover");
  if (!lacking) return;
  await controls.markPushedMissing(lacking.epoch);
  await repeatPushed(runs);
}

/** Has the next walk begin at the first object, whatever it is for. */
export async function repeatPushed(runs: BatchRuns): Promise<void> {
  await runs.keepPlace(PUSHED, { epoch: 0, after: "", rows: 0, marks: [] });
}

/** Rows of an object; none of one that is gone; the fault of one that is damaged. */
function rowsOf(bytes: Buffer | null): (ValuesRow | PackedRow)[] | RecordError {
  try {
    return bytes === null ? [] : readValues(bytes);
  } catch (error) {
    if (error instanceof RecordError) return error;
    throw error;
  }
}

/** @returns null for a row that is forgotten by now, or that the plan has no place for any more */
function pushOf(plan: Plan, row: ValuesRow | PackedRow): PushRow | null {
  if ("packed" in row) return row.eventTimeMs > Date.now() - row.reachMs ? row : null;
  const { tenant, entity, id, view: name, eventTimeMs, values } = row;
  const view = plan.batchViews.find((each) => each.name === name);
  if (view === undefined || view.entity !== entity || eventTimeMs <= Date.now() - view.reachMs) return null;
  const known = view.features.flatMap((feature) => {
    const value = values[`${keyOf(feature)}:${feature.dtype}`];
    return value === undefined ? [] : [{ id: feature.id, dtype: feature.dtype, value }];
  });
  if (known.length === 0) return null;
  return { tenant, entity, id, view: name, eventTimeMs, packed: packValues(known, eventTimeMs), reachMs: view.reachMs };
}
