/** Runs what an administrator asked for, with a record of it: for the router and for the operator's commands. */
import { type AuditLog, type AuditRecord, auditId } from "../../adapters/audit-log.ts";
import { FreshetError } from "../../core/errors.ts";
import { withoutKeys } from "./hidden-keys.ts";

export interface Audit {
  readonly log: AuditLog;
  /** Epoch milliseconds. */
  readonly clock: () => number;
  /** Gets each record that the table did not take, so that it is in the log of the process at least. */
  readonly onUnrecorded: (record: AuditRecord, error: unknown) => void;
}

/** Of a record's target, in characters: nobody fills the table with what they name. */
const MAX_TARGET = 512;

export type AuditEntry = Pick<AuditRecord, "tenant" | "who" | "action" | "target" | "requestId">;

/**
 * `change`: recorded as begun before, and not made without that record. `urgent`: the same, but made in any case, since what takes
 * rights away or brings the store back must work in an outage too. `read`: recorded after, and answered in any case.
 */
export type AuditKind = "read" | "change" | "urgent";

/**
 * The record is durable when this returns or throws; where the table does not take it, it went to `onUnrecorded`.
 * @param targetOf what was changed, where only the result knows it
 * @throws FreshetError `audit_unavailable` before a change is begun; else what `work` throws
 */
export async function audited<T>(
  { log, clock, onUnrecorded }: Audit,
  kind: AuditKind,
  entry: AuditEntry,
  work: () => T | Promise<T>,
  targetOf: (result: T) => string | undefined = () => undefined,
): Promise<T> {
  const atMs = clock();
  const boundedOf = (text: string): string => withoutKeys(text).slice(0, MAX_TARGET);
  const target = boundedOf(entry.target);
  const begun: AuditRecord = { ...entry, target, id: auditId(atMs), atMs, outcome: "begun" };
  const keep = (record: AuditRecord): Promise<void> =>
    log.write(record).catch((error: unknown) => onUnrecorded(record, error));
  if (kind === "change") {
    await log.write(begun).catch((cause: unknown) => {
      throw new FreshetError("audit_unavailable", "the audit log does not answer, so nothing was changed", {
        repair: "try again; a change is not made without a record of it",
        cause,
      });
    });
  } else if (kind === "urgent") {
    await keep(begun);
  }
  try {
    const result = await work();
    const changed = targetOf(result);
    await keep({ ...begun, target: changed === undefined ? target : boundedOf(changed), outcome: "done" });
    return result;
  } catch (error) {
    await keep({ ...begun, outcome: error instanceof FreshetError ? error.code : "internal" });
    throw error;
  }
}
