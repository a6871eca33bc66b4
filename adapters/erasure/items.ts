/** Items of DynamoDB tables that are an entity's own: all of a partition. */
import { DeleteItemCommand, type DynamoDBClient, QueryCommand } from "@aws-sdk/client-dynamodb";
import { durably } from "../aws/durable-call.ts";

export interface ItemsPort {
  readonly dynamodb: Pick<DynamoDBClient, "send">;
  readonly table: string;
}

/**
 * @param before only items with a lesser sort key. @default all
 * @returns how many items there were
 * @throws InfrastructureError `erasure_table_unavailable`
 */
export async function removePartition({ dynamodb, table }: ItemsPort, pk: string, before?: string): Promise<number> {
  return durably("erasure_table_unavailable", `removing items of table ${table}`, async () => {
    let removed = 0;
    for (;;) {
      // From the beginning each time: what was found is gone.
      const { Items = [] } = await dynamodb.send(
        new QueryCommand({
          TableName: table,
          KeyConditionExpression: before === undefined ? "pk = :pk" : "pk = :pk AND sk < :sk",
          ExpressionAttributeValues: { ":pk": { S: pk }, ...(before === undefined ? {} : { ":sk": { S: before } }) },
          ProjectionExpression: "pk, sk",
          ConsistentRead: true,
        }),
      );
      for (const { pk, sk } of Items) {
        await dynamodb.send(new DeleteItemCommand({ TableName: table, Key: { pk: pk!, sk: sk! } }));
      }
      removed += Items.length;
      if (Items.length === 0) return removed;
    }
  });
}

/** @throws InfrastructureError `erasure_table_unavailable` */
export const removeItem = ({ dynamodb, table }: ItemsPort, pk: string, sk: string): Promise<unknown> =>
  durably("erasure_table_unavailable", `removing an item of table ${table}`, () =>
    dynamodb.send(new DeleteItemCommand({ TableName: table, Key: { pk: { S: pk }, sk: { S: sk } } })),
  );
