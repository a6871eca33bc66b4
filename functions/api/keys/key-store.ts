/** Keys in a DynamoDB table whose partition key is `id`, with an index `tenant`; `expires_at` (seconds) is its TTL attribute. */
import { setTimeout } from "node:timers/promises";
import {
  DeleteItemCommand,
  type DynamoDBClient,
  GetItemCommand,
  PutItemCommand,
  QueryCommand,
  ScanCommand,
  TransactionCanceledException,
  TransactWriteItemsCommand,
} from "@aws-sdk/client-dynamodb";
import { backoffMs } from "../../../adapters/backoff.ts";
import type { KeyDescription, KeyRecord, KeyStore } from "./keys.ts";

/** Of a transaction that meets others: each of them ends within milliseconds. */
const MAX_ATTEMPTS = 5;
const PAUSE = { firstMs: 20, longestMs: 80 };

type Item = Record<string, any>;

export function createKeyStore(client: Pick<DynamoDBClient, "send">, table: string): KeyStore {
  async function all(page: (start: Item | undefined) => Promise<{ Items?: Item[]; LastEvaluatedKey?: Item }>) {
    const found: KeyDescription[] = [];
    let start: Item | undefined;
    do {
      const { Items = [], LastEvaluatedKey } = await page(start);
      // What is kept of tenants lies in the table, too.
      found.push(...Items.filter(isKey).map(toDescription));
      start = LastEvaluatedKey;
    } while (start !== undefined);
    return found.sort((a, b) => a.createdAtMs - b.createdAtMs);
  }

  return {
    async put(record) {
      await client.send(
        new PutItemCommand({
          TableName: table,
          ConditionExpression: "attribute_not_exists(id)",
          Item: toItem(record),
        }),
      );
    },

    async get(id) {
      // Consistent, since a key is used right after it was made.
      const Key = { id: { S: id } };
      const { Item } = await client.send(new GetItemCommand({ TableName: table, Key, ConsistentRead: true }));
      return Item === undefined || !isKey(Item) ? null : toRecord(Item);
    },

    listOf: (tenant) =>
      all((start) =>
        client.send(
          new QueryCommand({
            TableName: table,
            IndexName: "tenant",
            KeyConditionExpression: "tenant = :tenant",
            ExpressionAttributeValues: { ":tenant": { S: tenant } },
            ExclusiveStartKey: start,
          }),
        ),
      ),

    list: () => all((start) => client.send(new ScanCommand({ TableName: table, ExclusiveStartKey: start }))),

    async rotate(old, oldExpiresAtMs, next) {
      try {
        await client.send(
          new TransactWriteItemsCommand({
            TransactItems: [
              { Put: { TableName: table, ConditionExpression: "attribute_not_exists(id)", Item: toItem(next) } },
              {
                Update: {
                  TableName: table,
                  Key: { id: { S: old.id } },
                  ConditionExpression: "attribute_exists(id) AND attribute_not_exists(rotated_to)",
                  UpdateExpression: "SET rotated_to = :next, expires_at_ms = :ms, expires_at = :seconds",
                  ExpressionAttributeValues: {
                    ":next": { S: next.id },
                    ":ms": { N: String(oldExpiresAtMs) },
                    ":seconds": { N: String(Math.ceil(oldExpiresAtMs / 1000)) },
                  },
                },
              },
            ],
          }),
        );
        return true;
      } catch (error) {
        const reasons = error instanceof TransactionCanceledException ? (error.CancellationReasons ?? []) : [];
        if (reasons[1]?.Code === "ConditionalCheckFailed") return false;
        throw error;
      }
    },

    async remove(id) {
      const Key = { id: { S: id } };
      const { Attributes } = await client.send(
        new DeleteItemCommand({ TableName: table, Key, ReturnValues: "ALL_OLD" }),
      );
      return Attributes !== undefined;
    },

    async removeBeside(id, other, untilMs) {
      const standing = "attribute_exists(id) AND attribute_not_exists(rotated_to)";
      const live = "(attribute_not_exists(expires_at_ms) OR expires_at_ms > :until)";
      const TransactItems = [
        { Delete: { TableName: table, Key: { id: { S: id } }, ConditionExpression: "attribute_exists(id)" } },
        {
          ConditionCheck: {
            TableName: table,
            Key: { id: { S: other } },
            ConditionExpression: `${standing} AND ${live}`,
            ExpressionAttributeValues: { ":until": { N: String(untilMs) } },
          },
        },
      ];
      for (let attempt = 1; ; attempt++) {
        try {
          await client.send(new TransactWriteItemsCommand({ TransactItems }));
          return null;
        } catch (error) {
          const reasons = error instanceof TransactionCanceledException ? (error.CancellationReasons ?? []) : [];
          const failed = reasons.map(({ Code }) => Code === "ConditionalCheckFailed");
          if (failed[0]) return "gone";
          if (failed[1]) return "other_gone";
          // Another transaction had one of the two in its hands.
          const isConflict = reasons.some(({ Code }) => Code === "TransactionConflict");
          if (!isConflict || attempt === MAX_ATTEMPTS) throw error;
          await setTimeout(backoffMs(attempt, PAUSE));
        }
      }
    },
  };
}

const isKey = (item: Item): boolean => item["scopes"] !== undefined;

function toItem(record: KeyRecord): Item {
  const { expiresAtMs, rotatedFrom, rotatedTo } = record;
  return {
    id: { S: record.id },
    tenant: { S: record.tenant },
    name: { S: record.name },
    scopes: { SS: [...record.scopes] },
    salt: { B: record.salt },
    hash: { B: record.hash },
    created_at_ms: { N: String(record.createdAtMs) },
    ...(expiresAtMs !== null && {
      expires_at_ms: { N: String(expiresAtMs) },
      expires_at: { N: String(Math.ceil(expiresAtMs / 1000)) },
    }),
    ...(rotatedFrom !== null && { rotated_from: { S: rotatedFrom } }),
    ...(rotatedTo !== null && { rotated_to: { S: rotatedTo } }),
  };
}

const toDescription = (item: Item): KeyDescription => ({
  id: item["id"].S,
  tenant: item["tenant"].S,
  name: item["name"]?.S ?? "",
  scopes: item["scopes"].SS,
  createdAtMs: Number(item["created_at_ms"]?.N ?? 0),
  expiresAtMs: item["expires_at_ms"] === undefined ? null : Number(item["expires_at_ms"].N),
  rotatedFrom: item["rotated_from"]?.S ?? null,
  rotatedTo: item["rotated_to"]?.S ?? null,
});
const toRecord = (item: Item): KeyRecord => ({
  ...toDescription(item),
  salt: item["salt"].B,
  hash: item["hash"].B,
});
