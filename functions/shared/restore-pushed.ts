/**
 * What was pushed, by callers and by runs of batch views, pushed again from its archive into a store of another epoch, which has lost it.
 * Until all of it is back a mark in each bucket says so, and reads answer `NOT_READY` for what they do not find.
 */
import type { BatchRuns } from "../../adapters/batch-runs.ts";
import type { ControlTable } from "../../adapters/control-table.ts";
import { forEachLimited } from "../../adapters/durable-call.ts";
import { keyOf } from "../../adapters/offline/batch-query.ts";
import type { ArchiveMirror } from "../../adapters/offline/mirror.ts";
import { StoreApplier } from "../../adapters/valkey/applier.ts";
import type { ValkeyConnection } from "../../adapters/valkey/connection.ts";
import { ControlHashes } from "../../adapters/valkey/control.ts";
import { packValues } from "../../adapters/valkey/packed.ts";
import { type PushRow, pushRows } from "../../adapters/valkey/push.ts";
import { type PackedRow, readValues, VALUES_PREFIX, type ValuesRow } from "../../adapters/values-format.ts";
import type { Lock } from "../../core/compile.ts";
import { RecordError } from "../../core/errors.ts";
import type { Plan } from "../../core/plan.ts";
import { storedView } from "../../core/pushed-feature.ts";
import { currentEpoch } from "./current-store.ts";

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

/** Under which it is kept for which epoch it was done last: no view's name. */
export const PUSHED = storedView("pushed");

/** Fetched and pushed at once: reading one after the other is mostly waiting. */
const AT_ONCE = 8;
/** After so many objects it is kept how far the work has come. */
const STEP = 256;

/**
 * Pushing again changes nothing where nothing was lost, so a step that is cut off is repeated as a whole. Busy tenants leave more objects
 * than one run of a function can read, so the next one goes on where this one ended.
 * @param untilMs no step but the first is begun after it
 * @throws InfrastructureError of table, archive and store
 */
export async function restorePushed(ports: RestorePorts, untilMs = Number.POSITIVE_INFINITY): Promise<RestoreReport> {
  const { plan, lock, connection, table, runs, mirror } = ports;
  const [epoch, record] = [await currentEpoch(table, lock), await runs.get(PUSHED)];
  if (epoch === null) return { rows: 0, isWhole: true, damaged: [] };
  const damaged: { key: string; error: RecordError }[] = [];
  let rows = 0;
  if (record?.epoch !== epoch) {
    const applier = new StoreApplier(connection, plan, epoch);
    const kept = await runs.place(PUSHED);
    const before = kept?.epoch === epoch ? kept : null;
    const objects = await mirror.list(VALUES_PREFIX, before?.after);
    for (let from = 0; from < objects.length; from += STEP) {
      if (from > 0 && Date.now() >= untilMs) return { rows, isWhole: false, damaged };
      const step = objects.slice(from, from + STEP);
      await forEachLimited(step, AT_ONCE, async ({ key }) => {
        const read = rowsOf(await mirror.get(key));
        if (read instanceof RecordError) damaged.push({ key, error: read });
        else {
          const pushes = read.flatMap((row) => pushOf(plan, row) ?? []);
          await pushRows(applier, pushes);
          rows += pushes.length;
        }
      });
      await runs.keepPlace(PUSHED, { epoch, after: step[step.length - 1].key, rows: (before?.rows ?? 0) + rows });
    }
    const nowMs = Date.now();
    await runs.complete(PUSHED, { toMs: nowMs, finishedMs: nowMs, rows: (before?.rows ?? 0) + rows, epoch });
    // Who lets it be done once more begins at the first object.
    await runs.keepPlace(PUSHED, { epoch: 0, after: "", rows: 0 });
  }
  const controls = new ControlHashes(connection, plan);
  // Last, and looked at each time: a run that died in between has left the marks.
  if (await controls.lacksPushed()) await controls.pushedIsBack(epoch);
  return { rows, isWhole: true, damaged };
}

/** After a failover, before the store is taken for whole: a replica may lack the newest pushes, and reads say so until all are pushed again. */
export async function repeatAfterFailover(controls: ControlHashes, runs: BatchRuns): Promise<void> {
  const { state, epoch } = await controls.summary();
  if (state !== "failover" || epoch === null) return;
  await controls.markPushedMissing(epoch);
  await repeatPushed(runs);
}

/** Has the next run push all of it again: some of what was pushed may be missing from a store of the same epoch. */
export async function repeatPushed(runs: BatchRuns): Promise<void> {
  const nowMs = Date.now();
  await runs.keepPlace(PUSHED, { epoch: 0, after: "", rows: 0 });
  await runs.complete(PUSHED, { toMs: nowMs, finishedMs: nowMs, rows: 0, epoch: 0 });
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
