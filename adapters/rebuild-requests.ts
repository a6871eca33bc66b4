/**
 * Rebuilds of single entities that callers ask for. In the table of jobs: pk `rebuild#<tenant>`, sk the request's id. The table's changes wake the
 * function that does them. Items expire after a week.
 */
import { type DynamoDBClient, GetItemCommand, PutItemCommand, QueryCommand } from "@aws-sdk/client-dynamodb";
import { durably } from "./durable-call.ts";
import { JOB_LIFE_MS } from "./historical-jobs.ts";
import { idAt } from "./materialize-requests.ts";

export interface RebuildRequest {
  readonly tenant: string;
  readonly id: string;
  readonly entities: readonly string[];
  readonly entityId: string;
  readonly state: "queued" | "running" | "done" | "failed";
  readonly createdMs: number;
  readonly updatedMs: number;
  readonly error: { readonly code: string; readonly detail: string } | null;
}

/** Who does it, told to those that the table wakes. */
export const REBUILD_RUNNER = "rebuild";
/** A function ends after 15 minutes: who has been silent for longer is gone. */
const SILENT_MS = 16 * 60_000;

const keyOf = (tenant: string) => `rebuild#${tenant}`;

export class RebuildRequests {
  readonly #table: string;
  readonly #dynamodb: Pick<DynamoDBClient, "send">;

  constructor({ table, dynamodb }: { table: string; dynamodb: Pick<DynamoDBClient, "send"> }) {
    this.#table = table;
    this.#dynamodb = dynamodb;
  }

  /** New or changed. @throws InfrastructureError `jobs_unavailable`, as do all here */
  async put(request: RebuildRequest): Promise<void> {
    const Item = {
      pk: { S: keyOf(request.tenant) },
      sk: { S: request.id },
      runner: { S: REBUILD_RUNNER },
      record: { S: JSON.stringify(request) },
      expires_at: { N: String(Math.ceil((request.createdMs + JOB_LIFE_MS) / 1000)) },
    };
    await durably("jobs_unavailable", "writing a request to rebuild", () =>
      this.#dynamodb.send(new PutItemCommand({ TableName: this.#table, Item })),
    );
  }

  async get(tenant: string, id: string): Promise<RebuildRequest | null> {
    const Key = { pk: { S: keyOf(tenant) }, sk: { S: id } };
    const { Item } = await durably("jobs_unavailable", "reading a request to rebuild", () =>
      this.#dynamodb.send(new GetItemCommand({ TableName: this.#table, Key, ConsistentRead: true })),
    );
    return Item === undefined ? null : (JSON.parse(Item["record"]!.S!) as RebuildRequest);
  }

  /** The tenant's that are neither done nor lost. */
  async open(tenant: string, nowMs: number): Promise<RebuildRequest[]> {
    const { Items = [] } = await durably("jobs_unavailable", "reading requests to rebuild", () =>
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
    const requests = Items.map((item) => JSON.parse(item["record"]!.S!) as RebuildRequest);
    return requests.filter(
      ({ state, updatedMs }) => state !== "done" && state !== "failed" && nowMs - updatedMs < SILENT_MS,
    );
  }
}
