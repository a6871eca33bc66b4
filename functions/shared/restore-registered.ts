/** Values of registered features, pushed again from their archive into a store of another epoch, which may have lost them. */
import type { BatchRuns } from "../../adapters/batch-runs.ts";
import type { ControlTable } from "../../adapters/control-table.ts";
import { forEachLimited } from "../../adapters/durable-call.ts";
import type { ArchiveMirror } from "../../adapters/offline/mirror.ts";
import { StoreApplier } from "../../adapters/valkey/applier.ts";
import type { ValkeyConnection } from "../../adapters/valkey/connection.ts";
import { pushRows } from "../../adapters/valkey/push.ts";
import { type PackedRow, readValues, VALUES_PREFIX } from "../../adapters/values-format.ts";
import type { Lock } from "../../core/compile.ts";
import type { Plan } from "../../core/plan.ts";
import { storedView } from "../../core/pushed-feature.ts";
import { currentEpoch } from "./current-store.ts";

export interface RestorePorts {
  readonly plan: Plan;
  readonly lock: Lock;
  readonly connection: ValkeyConnection;
  readonly table: ControlTable;
  readonly runs: BatchRuns;
  readonly mirror: ArchiveMirror;
}

/** Under which it is kept for which epoch it was done last: no view's name. */
export const REGISTERED = storedView("registered");
const OF_REGISTERED = new RegExp(`/view=${storedView("")}`);

/** Fetched and pushed at once: reading one after the other is mostly waiting. */
const AT_ONCE = 8;
/** After so many objects it is kept how far the work has come. */
const STEP = 256;

/**
 * Pushing again changes nothing where nothing was lost, so a step that is cut off is repeated as a whole. Busy tenants leave more objects
 * than one run of a function can read, so the next one goes on where this one ended.
 * @param untilMs no step but the first is begun after it
 * @returns rows that were pushed; 0 when it was done for the epoch that stands
 * @throws InfrastructureError of table, archive and store; RecordError of an object that is damaged
 */
export async function restoreRegistered(ports: RestorePorts, untilMs = Number.POSITIVE_INFINITY): Promise<number> {
  const { plan, lock, connection, table, runs, mirror } = ports;
  const [epoch, record] = [await currentEpoch(table, lock), await runs.get(REGISTERED)];
  if (epoch === null || record?.epoch === epoch) return 0;
  const applier = new StoreApplier(connection, plan, epoch);
  const kept = await runs.place(REGISTERED);
  const before = kept?.epoch === epoch ? kept : null;
  const objects = (await mirror.list(VALUES_PREFIX, before?.after)).filter(({ key }) => OF_REGISTERED.test(key));
  let rows = 0;
  for (let from = 0; from < objects.length; from += STEP) {
    if (from > 0 && Date.now() >= untilMs) return rows;
    const step = objects.slice(from, from + STEP);
    await forEachLimited(step, AT_ONCE, async ({ key }) => {
      const pushes = await knownRows(mirror, key);
      await pushRows(applier, pushes);
      rows += pushes.length;
    });
    await runs.keepPlace(REGISTERED, { epoch, after: step[step.length - 1].key, rows: (before?.rows ?? 0) + rows });
  }
  const nowMs = Date.now();
  await runs.complete(REGISTERED, { toMs: nowMs, finishedMs: nowMs, rows: (before?.rows ?? 0) + rows, epoch });
  return rows;
}

/** Rows of an object that are not forgotten yet. */
async function knownRows(mirror: ArchiveMirror, key: string): Promise<PackedRow[]> {
  const bytes = await mirror.get(key);
  const nowMs = Date.now();
  return (bytes === null ? [] : readValues(bytes)).flatMap((row) =>
    "packed" in row && row.eventTimeMs > nowMs - row.reachMs ? [row] : [],
  );
}
