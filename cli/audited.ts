/** Records in the deployment's audit log what an operator does by a command. */
import { userInfo } from "node:os";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { createAuditLog } from "../adapters/audit-log.ts";
import { type AuditKind, audited } from "../functions/shared/audited.ts";
import type { OperatedDeployment } from "./deployment.ts";

/** Whose things: of all tenants. No tenant can be named so. */
export const ALL_TENANTS = "*";

/** Who is named in the registry's history and in the audit log. */
export const operator = (): string => `${userInfo().username} (freshet)`;

/**
 * Does the work with a record of it, by the rules of `audited`.
 * @param entry.target what the work is done to, where only its result knows it see `targetOf`
 * @throws FreshetError `audit_unavailable` before a change is begun; else what `work` throws
 */
export async function withRecord<T>(
  { clientConfig, auditTable, auditRetentionDays }: OperatedDeployment,
  kind: AuditKind,
  entry: { tenant: string; action: string; target: string },
  work: () => Promise<T>,
  targetOf?: (result: T) => string,
): Promise<T> {
  const dynamodb = new DynamoDBClient(clientConfig);
  try {
    const log = createAuditLog({ table: auditTable, dynamodb, retentionDays: auditRetentionDays });
    const onUnrecorded = ({ action, outcome }: { action: string; outcome: string }) =>
      process.stderr.write(`freshet: the audit log did not take ${action}, ${outcome}\n`);
    const whole = { ...entry, who: operator(), requestId: null };
    return await audited({ log, clock: Date.now, onUnrecorded }, kind, whole, work, targetOf);
  } finally {
    dynamodb.destroy();
  }
}
