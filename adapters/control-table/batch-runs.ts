/** How far each batch view has been materialized: in the control table, under (`view`, name). */
import {
  ConditionalCheckFailedException,
  type DynamoDBClient,
  GetItemCommand,
  PutItemCommand,
} from "@aws-sdk/client-dynamodb";
import { durably } from "../aws/durable-call.ts";

export interface BatchRunRecord {
  /** End of the newest complete run. */
  readonly toMs: number;
  readonly finishedMs: number;
  readonly rows: number;
  /** Of the store that holds its values. */
  readonly epoch: number;
}

/** How far work has come that is too long for one run of a function. */
export interface BatchPlace {
  /** Of the store that it is done for: for another one it begins again. */
  readonly epoch: number;
  /** Key of the last object that is done. */
  readonly after: string;
  /** What is done of, where it is not all: see `ControlHashes.pushedMarks`. */
  readonly marks: readonly string[];
  readonly rows: number;
}

const placeOf = (view: string) => ({ pk: { S: "view" }, sk: { S: `${view}/place` } });
const keyOf = (view: string) => ({ pk: { S: "view" }, sk: { S: view } });

export class BatchRuns {
  readonly #table: string;
  readonly #dynamodb: Pick<DynamoDBClient, "send">;

  constructor(options: { table: string; dynamodb: Pick<DynamoDBClient, "send"> }) {
    this.#table = options.table;
    this.#dynamodb = options.dynamodb;
  }

  /** @returns null before the first run. @throws InfrastructureError `control_table_unavailable` */
  async get(view: string): Promise<BatchRunRecord | null> {
    const { Item: item } = await durably("control_table_unavailable", `reading control table ${this.#table}`, () =>
      this.#dynamodb.send(new GetItemCommand({ TableName: this.#table, Key: keyOf(view), ConsistentRead: true })),
    );
    if (item === undefined) return null;
    const number = (name: string) => Number(item[name]!.N);
    return { toMs: number("to_ms"), finishedMs: number("finished_ms"), rows: number("rows"), epoch: number("epoch") };
  }

  /** @returns null before the first one was kept. @throws InfrastructureError `control_table_unavailable` */
  async place(view: string): Promise<BatchPlace | null> {
    const { Item: item } = await durably("control_table_unavailable", `reading control table ${this.#table}`, () =>
      this.#dynamodb.send(new GetItemCommand({ TableName: this.#table, Key: placeOf(view), ConsistentRead: true })),
    );
    if (item === undefined) return null;
    const marks = (item["marks"]?.L ?? []).map(({ S }) => S!);
    return { epoch: Number(item["epoch"]!.N), after: item["after"]!.S!, rows: Number(item["rows"]!.N), marks };
  }

  /** @throws InfrastructureError `control_table_unavailable` */
  async keepPlace(view: string, { epoch, after, rows, marks }: BatchPlace): Promise<void> {
    const numbers = { epoch: { N: String(epoch) }, rows: { N: String(rows) } };
    const Item = {
      ...placeOf(view),
      ...numbers,
      after: { S: after },
      marks: { L: marks.map((mark) => ({ S: mark })) },
    };
    await durably("control_table_unavailable", `writing control table ${this.#table}`, () =>
      this.#dynamodb.send(new PutItemCommand({ TableName: this.#table, Item })),
    );
  }

  /** Never back: of two runs that end in another order the later one stands. @throws InfrastructureError `control_table_unavailable` */
  async complete(view: string, { toMs, finishedMs, rows, epoch }: BatchRunRecord): Promise<void> {
    const numbers = { to_ms: toMs, finished_ms: finishedMs, rows, epoch };
    const item = Object.fromEntries(Object.entries(numbers).map(([name, value]) => [name, { N: String(value) }]));
    await durably("control_table_unavailable", `writing control table ${this.#table}`, async () => {
      try {
        await this.#dynamodb.send(
          new PutItemCommand({
            TableName: this.#table,
            Item: { ...keyOf(view), ...item },
            ConditionExpression: "attribute_not_exists(pk) OR to_ms <= :to",
            ExpressionAttributeValues: { ":to": { N: String(toMs) } },
          }),
        );
      } catch (error) {
        if (!(error instanceof ConditionalCheckFailedException)) throw error;
      }
    });
  }
}
