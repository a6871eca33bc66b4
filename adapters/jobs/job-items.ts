/**
 * Records of one kind in the table of jobs: pk `<kind>#<tenant>`, sk the record's id, so that a tenant finds its own alone. Ids begin with the
 * time of the request, and sort by it. Items expire a week after their record was made.
 */
import {
  type AttributeValue,
  type DynamoDBClient,
  GetItemCommand,
  PutItemCommand,
  QueryCommand,
} from "@aws-sdk/client-dynamodb";
import { durably } from "../aws/durable-call.ts";

export interface JobRecord {
  readonly tenant: string;
  readonly id: string;
  readonly createdMs: number;
}

const JOB_LIFE_MS = 7 * 86_400_000;
/** A function ends after 15 minutes: who has been silent for longer is gone. */
export const SILENT_MS = 16 * 60_000;

export interface JobsTable {
  readonly table: string;
  readonly dynamodb: Pick<DynamoDBClient, "send">;
}

export class JobItems<Job extends JobRecord> {
  readonly #to: JobsTable;
  readonly #kind: string;
  readonly #what: string;

  /** @param what a record is called in errors */
  constructor(to: JobsTable, kind: string, what: string) {
    this.#to = to;
    this.#kind = kind;
    this.#what = what;
  }

  /**
   * New or changed.
   * @param attributes beside the record: `runner` tells who does it to those that the table wakes
   * @throws InfrastructureError `jobs_unavailable`, as do all here; its cause is the client's error where the condition fails
   */
  async put(
    job: Job,
    attributes: Readonly<Record<string, AttributeValue>>,
    condition: Pick<
      PutItemCommand["input"],
      "ConditionExpression" | "ExpressionAttributeNames" | "ExpressionAttributeValues"
    > = {},
  ): Promise<void> {
    const Item = {
      ...this.#key(job.tenant, job.id),
      ...attributes,
      record: { S: JSON.stringify(job) },
      expires_at: { N: String(Math.ceil((job.createdMs + JOB_LIFE_MS) / 1000)) },
    };
    await durably("jobs_unavailable", `writing ${this.#what}`, () =>
      this.#to.dynamodb.send(new PutItemCommand({ TableName: this.#to.table, Item, ...condition })),
    );
  }

  async get(tenant: string, id: string): Promise<Job | null> {
    const Key = this.#key(tenant, id);
    const { Item } = await durably("jobs_unavailable", `reading ${this.#what}`, () =>
      this.#to.dynamodb.send(new GetItemCommand({ TableName: this.#to.table, Key, ConsistentRead: true })),
    );
    return Item === undefined ? null : (JSON.parse(Item["record"]!.S!) as Job);
  }

  /** The newest of the tenant's whose ids are greater, newest first; as many as a page holds. */
  async newest(tenant: string, after: string): Promise<Job[]> {
    const { Items = [] } = await durably("jobs_unavailable", `reading ${this.#what}`, () =>
      this.#to.dynamodb.send(
        new QueryCommand({
          TableName: this.#to.table,
          KeyConditionExpression: "pk = :pk AND sk > :from",
          ExpressionAttributeValues: { ":pk": this.#key(tenant, "").pk, ":from": { S: after } },
          ScanIndexForward: false,
          ConsistentRead: true,
        }),
      ),
    );
    return Items.map((item) => JSON.parse(item["record"]!.S!) as Job);
  }

  #key(tenant: string, id: string) {
    return { pk: { S: `${this.#kind}#${tenant}` }, sk: { S: id } };
  }
}
