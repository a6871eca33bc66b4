import type { ControlTable } from "../../adapters/control-table/control-table.ts";
import type { Lock } from "../../core/compile/compile.ts";
import { followLock } from "../../core/compile/lock-history.ts";

/**
 * The epoch that calls have to carry, once it is sure that what they write under this lock means what is stored.
 * @returns null before the control function has created the store
 * @throws DefinitionError `plan_lock_contradicts`, InfrastructureError `control_table_unavailable`
 */
export async function currentEpoch(table: ControlTable, lock: Lock): Promise<number | null> {
  const [store, known] = await Promise.all([table.getStore(), table.getLock()]);
  if (store?.state !== "ready") return null;
  if (known !== null) followLock(known, lock);
  return store.epoch;
}
