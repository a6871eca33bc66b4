/** Values of registered features, pushed again from their archive into a store of another epoch, which may have lost them. */
import type { BatchRuns } from "../../adapters/batch-runs.ts";
import type { ControlTable } from "../../adapters/control-table.ts";
import type { ArchiveMirror } from "../../adapters/offline/mirror.ts";
import { StoreApplier } from "../../adapters/valkey/applier.ts";
import type { ValkeyConnection } from "../../adapters/valkey/connection.ts";
import { pushRows } from "../../adapters/valkey/push.ts";
import { readValues, VALUES_PREFIX } from "../../adapters/values-format.ts";
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

/**
 * Pushing again changes nothing where nothing was lost, so one that is cut off is repeated as a whole.
 * @returns rows that were pushed; 0 when it was done for the epoch that stands
 * @throws InfrastructureError of table, archive and store; RecordError of an object that is damaged
 */
export async function restoreRegistered(ports: RestorePorts): Promise<number> {
  const { plan, lock, connection, table, runs, mirror } = ports;
  const [epoch, record] = [await currentEpoch(table, lock), await runs.get(REGISTERED)];
  if (epoch === null || record?.epoch === epoch) return 0;
  const applier = new StoreApplier(connection, plan, epoch);
  let rows = 0;
  for (const { key } of await mirror.list(VALUES_PREFIX)) {
    if (!OF_REGISTERED.test(key)) continue;
    const bytes = await mirror.get(key);
    if (bytes === null) continue;
    const nowMs = Date.now();
    const pushes = readValues(bytes).flatMap((row) =>
      "packed" in row && row.eventTimeMs > nowMs - row.reachMs ? [row] : [],
    );
    await pushRows(applier, pushes);
    rows += pushes.length;
  }
  const nowMs = Date.now();
  await runs.complete(REGISTERED, { toMs: nowMs, finishedMs: nowMs, rows, epoch });
  return rows;
}
