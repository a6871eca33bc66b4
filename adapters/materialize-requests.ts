/**
 * Runs of batch views that callers ask for, for their own entities. In the table of jobs: pk `materialize#<tenant>`, sk the request's id,
 * so that a tenant finds its own alone. The table's changes wake the function that does them. Items expire after a week.
 */
import { type DynamoDBClient, GetItemCommand, PutItemCommand, QueryCommand } from "@aws-sdk/client-dynamodb";
import { durably } from "./durable-call.ts";
import { JOB_LIFE_MS } from "./historical-jobs.ts";

export interface MaterializeRequest {
  readonly tenant: string;
  readonly id: string;
  readonly views: readonly string[];
  /** Null for where each view's schedule has come to. */
  readonly fromMs: number | null;
  readonly toMs: number;
  readonly state: "queued" | "running" | "done" | "failed";
  readonly createdMs: number;
  readonly updatedMs: number;
  readonly error: { readonly code: string; readonly detail: string } | null;
}

/** Who does it, told to those that the table wakes. */
export const MATERIALIZE_RUNNER = "materialize";
/** A function ends after 15 minutes: who has been silent for longer is gone. */
const SILENT_MS = 16 * 60_000;

const keyOf = (tenant: string) => `materialize#${tenant}`;

export class MaterializeRequests {
  readonly #table: string;
  readonly #dynamodb: Pick<DynamoDBClient, "send">;

  constructor({ table, dynamodb }: { table: string; dynamodb: Pick<DynamoDBClient, "send"> }) {
    this.#table = table;
    this.#dynamodb = dynamodb;
  }

  /** New or changed. @throws InfrastructureError `jobs_unavailable`, as do all here */
  async put(request: MaterializeRequest): Promise<void> {
    const Item = {
      pk: { S: keyOf(request.tenant) },
      sk: { S: request.id },
      runner: { S: MATERIALIZE_RUNNER },
      record: { S: JSON.stringify(request) },
      expires_at: { N: String(Math.ceil((request.createdMs + JOB_LIFE_MS) / 1000)) },
    };
    await durably("jobs_unavailable", "writing a request to materialize", () =>
      this.#dynamodb.send(new PutItemCommand({ TableName: this.#table, Item })),
    );
  }

  async get(tenant: string, id: string): Promise<MaterializeRequest | null> {
    const { Item } = await durably("jobs_unavailable", "reading a request to materialize", () =>
      this.#dynamodb.send(
        new GetItemCommand({
          TableName: this.#table,
          Key: { pk: { S: keyOf(tenant) }, sk: { S: id } },
          ConsistentRead: true,
        }),
      ),
    );
    return Item === undefined ? null : (JSON.parse(Item["record"]!.S!) as MaterializeRequest);
  }

  /** The tenant's that are neither done nor lost. */
  async open(tenant: string, nowMs: number): Promise<MaterializeRequest[]> {
    const { Items = [] } = await durably("jobs_unavailable", "reading requests to materialize", () =>
      this.#dynamodb.send(
        new QueryCommand({
          TableName: this.#table,
          KeyConditionExpression: "pk = :pk AND sk > :from",
          // Ids begin with the time of the request: older ones cannot be under way.
          ExpressionAttributeValues: { ":pk": { S: keyOf(tenant) }, ":from": { S: idAt(nowMs - 2 * SILENT_MS) } },
          ConsistentRead: true,
        }),
      ),
    );
    const requests = Items.map((item) => JSON.parse(item["record"]!.S!) as MaterializeRequest);
    return requests.filter(({ state, updatedMs }) => !isEnded(state) && nowMs - updatedMs < SILENT_MS);
  }
}

export const isEnded = (state: MaterializeRequest["state"]): boolean => state === "done" || state === "failed";
/** Beginning of the id of a request that is made at a time; in the order of times. */
export const idAt = (ms: number): string => Math.floor(ms).toString().padStart(15, "0");
