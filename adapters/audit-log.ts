/**
 * Who changed what, and which administrator looked at what. DynamoDB keys: pk the tenant whose things they are, or
 * `*` for what an operator did to all of them (no tenant can be named so); sk the time, padded, and a random end. Items expire.
 */
import { randomBytes } from "node:crypto";
import { type AttributeValue, type DynamoDBClient, PutItemCommand, QueryCommand } from "@aws-sdk/client-dynamodb";
import { durably } from "./aws/durable-call.ts";

export interface AuditRecord {
  readonly tenant: string;
  /** Sorts by time. */
  readonly id: string;
  readonly atMs: number;
  /** `key <id>`, or the name of an operator. */
  readonly who: string;
  /** As `keys.create`. */
  readonly action: string;
  /** Path of the request, or what the command named. */
  readonly target: string;
  /** `begun` until the outcome is known: `done`, or the code of the error. */
  readonly outcome: string;
  /** Null for what an operator did by a command. */
  readonly requestId: string | null;
}

/** A record as people and programs are told of it. Whose it is they have asked for. */
export const auditJson = ({ id, atMs, who, action, target, outcome, requestId }: AuditRecord) => ({
  id,
  at_ms: atMs,
  who,
  action,
  target,
  outcome,
  request_id: requestId,
});

export interface AuditPage {
  /** Newest first. */
  readonly records: readonly AuditRecord[];
  /** Goes into `before` for the page after this one; null for none. */
  readonly next: string | null;
}

export interface AuditLog {
  /** Adds a record, or replaces the one with its id. @throws InfrastructureError `audit_unavailable`, as do all here */
  write(record: AuditRecord): Promise<void>;
  page(tenant: string, options: { before: string | null; limit: number }): Promise<AuditPage>;
}

/** @param atMs epoch milliseconds, of which 13 digits last until the year 2286 */
export const auditId = (atMs: number): string => `${String(atMs).padStart(13, "0")}-${randomBytes(6).toString("hex")}`;

const DAY_SECONDS = 86_400;

/** @param options.retentionDays after which DynamoDB may delete a record */
export function createAuditLog(options: {
  table: string;
  dynamodb: Pick<DynamoDBClient, "send">;
  retentionDays: number;
}): AuditLog {
  const { table, dynamodb, retentionDays } = options;
  const send = <T>(what: string, call: () => Promise<T>): Promise<T> => durably("audit_unavailable", what, call);
  return {
    async write(record) {
      const expires = Math.floor(record.atMs / 1000) + retentionDays * DAY_SECONDS;
      await send("writing an audit record", () =>
        dynamodb.send(
          new PutItemCommand({
            TableName: table,
            Item: {
              pk: { S: record.tenant },
              sk: { S: record.id },
              at_ms: { N: String(record.atMs) },
              who: { S: record.who },
              action: { S: record.action },
              target: { S: record.target },
              outcome: { S: record.outcome },
              expires_at: { N: String(expires) },
              ...(record.requestId === null ? {} : { request_id: { S: record.requestId } }),
            },
          }),
        ),
      );
    },

    async page(tenant, { before, limit }) {
      const { Items = [], LastEvaluatedKey } = await send("reading the audit log", () =>
        dynamodb.send(
          new QueryCommand({
            TableName: table,
            KeyConditionExpression: before === null ? "pk = :tenant" : "pk = :tenant AND sk < :before",
            ExpressionAttributeValues: {
              ":tenant": { S: tenant },
              ...(before === null ? {} : { ":before": { S: before } }),
            },
            ScanIndexForward: false,
            Limit: limit,
            // Who looks for what was just done finds it.
            ConsistentRead: true,
          }),
        ),
      );
      const records = Items.map(toRecord);
      return { records, next: LastEvaluatedKey === undefined ? null : (records.at(-1)?.id ?? null) };
    },
  };
}

const toRecord = (item: Record<string, AttributeValue>): AuditRecord => ({
  tenant: item["pk"]!.S!,
  id: item["sk"]!.S!,
  atMs: Number(item["at_ms"]!.N),
  who: item["who"]!.S!,
  action: item["action"]!.S!,
  target: item["target"]!.S!,
  outcome: item["outcome"]!.S!,
  requestId: item["request_id"]?.S ?? null,
});
