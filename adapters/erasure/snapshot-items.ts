/**
 * Snapshots of an erased entity in DynamoDB. Rounds go on while an erasure is under way, and write what stands in the store by then: the tombstone, and what
 * has happened since to who came back. That is nothing of what is erased: it stays, and a look has not found anything.
 */
import {
  type AttributeValue,
  ConditionalCheckFailedException,
  DeleteItemCommand,
  QueryCommand,
} from "@aws-sdk/client-dynamodb";
import { durably } from "../aws/durable-call.ts";
import { joinKeyParts } from "../aws/key-parts.ts";
import { decodeSnapshot } from "../snapshot/item-format.ts";
import type { KeyParts } from "../valkey/layout.ts";
import { TOMBSTONES } from "./bulk-rounds.ts";
import type { ItemsPort } from "./items.ts";

/**
 * Removes those from before the entity's tombstone.
 * @param beforeMs what the tombstone refuses, by event time
 * @returns how many there were
 * @throws InfrastructureError `erasure_table_unavailable`
 */
export async function removeSnapshots(
  { dynamodb, table }: ItemsPort,
  { tenant, entity, id }: KeyParts,
  beforeMs: number,
): Promise<number> {
  let removed = 0;
  let from: Record<string, AttributeValue> | undefined;
  const what = `removing items of table ${table}`;
  do {
    const page = await durably("erasure_table_unavailable", what, () =>
      dynamodb.send(
        new QueryCommand({
          TableName: table,
          KeyConditionExpression: "pk = :pk",
          ExpressionAttributeValues: { ":pk": { S: joinKeyParts(tenant, entity, id) } },
          ExclusiveStartKey: from,
          ConsistentRead: true,
        }),
      ),
    );
    for (const item of page.Items ?? []) {
      if (!isFromBefore(item, beforeMs)) continue;
      await durably("erasure_table_unavailable", what, () => removeAsItIs({ dynamodb, table }, item));
      removed++;
    }
    from = page.LastEvaluatedKey;
  } while (from !== undefined);
  return removed;
}

/** One that a round has replaced meanwhile stays: without it reads would take the entity for one that never was. */
async function removeAsItIs({ dynamodb, table }: ItemsPort, item: Record<string, AttributeValue>): Promise<void> {
  try {
    await dynamodb.send(
      new DeleteItemCommand({
        TableName: table,
        Key: { pk: item["pk"]!, sk: item["sk"]! },
        ConditionExpression: "attribute_not_exists(pk) OR (epoch = :epoch AND rev = :rev)",
        ExpressionAttributeValues: { ":epoch": item["epoch"]!, ":rev": item["rev"]! },
      }),
    );
  } catch (error) {
    if (!(error instanceof ConditionalCheckFailedException)) throw error;
  }
}

function isFromBefore(item: Record<string, AttributeValue>, beforeMs: number): boolean {
  const data = item["data"]?.B;
  // Too large to be kept: of such a one only the time is known.
  if (data === undefined) return Number(item["taken_ms"]!.N) < beforeMs;
  const items = decodeSnapshot(Buffer.from(data))?.items ?? [];
  return !items.some(
    (field, i) => i % 2 === 0 && TOMBSTONES.has(field.toString("latin1")) && items[i + 1]!.readDoubleLE(0) >= beforeMs,
  );
}
