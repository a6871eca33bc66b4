/**
 * Replays and drops that a tenant's administrators ask for. In the quarantine's index table, pk `_jobs`, sk key parts (tenant,
 * id), so that a tenant finds its own alone, and the function that does them finds all with one query. Done ones stay: they are small, few, and tell what was done.
 */
import {
  ConditionalCheckFailedException,
  type DynamoDBClient,
  GetItemCommand,
  PutItemCommand,
  QueryCommand,
} from "@aws-sdk/client-dynamodb";
import { durably } from "../aws/durable-call.ts";
import { joinKeyParts } from "../aws/key-parts.ts";
import type { QuarantineFilter } from "./quarantine-index.ts";

export interface QuarantineJob {
  readonly tenant: string;
  readonly id: string;
  readonly kind: "replay" | "drop";
  readonly filter: Omit<QuarantineFilter, "statuses">;
  readonly ids?: readonly string[];
  readonly state: "queued" | "running" | "done";
  readonly createdMs: number;
  readonly updatedMs: number;
  readonly counts: Readonly<
    Record<"replayed" | "stillRefused" | "dropped" | "unreadable" | "applied" | "duplicates" | "late", number>
  >;
}

const PARTITION = "_jobs";
/** A run tells of its progress more often: who has been silent for so long is gone, and another one goes on. */
const SILENT_MS = 5 * 60_000;

export class QuarantineJobs {
  readonly #table: string;
  readonly #dynamodb: Pick<DynamoDBClient, "send">;

  constructor({ table, dynamodb }: { table: string; dynamodb: Pick<DynamoDBClient, "send"> }) {
    this.#table = table;
    this.#dynamodb = dynamodb;
  }

  /** @throws InfrastructureError `jobs_unavailable`, as do all here */
  async put(job: QuarantineJob): Promise<void> {
    await this.#call("writing a job of the quarantine", () =>
      this.#dynamodb.send(new PutItemCommand({ TableName: this.#table, Item: itemOf(job) })),
    );
  }

  /** Takes a job that waits, or whose run is gone; once. @returns null when another run has it, or it is done */
  async claim(job: QuarantineJob, nowMs: number): Promise<QuarantineJob | null> {
    if (job.state === "done" || (job.state === "running" && nowMs - job.updatedMs < SILENT_MS)) return null;
    const claimed: QuarantineJob = { ...job, state: "running", updatedMs: nowMs };
    return this.#call("taking a job of the quarantine", async () => {
      try {
        await this.#dynamodb.send(
          new PutItemCommand({
            TableName: this.#table,
            Item: itemOf(claimed),
            ConditionExpression: "updated_ms = :seen",
            ExpressionAttributeValues: { ":seen": { N: String(job.updatedMs) } },
          }),
        );
        return claimed;
      } catch (error) {
        if (error instanceof ConditionalCheckFailedException) return null;
        throw error;
      }
    });
  }

  async get(tenant: string, id: string): Promise<QuarantineJob | null> {
    const { Item } = await this.#call("reading a job of the quarantine", () =>
      this.#dynamodb.send(new GetItemCommand({ TableName: this.#table, Key: keyOf(tenant, id), ConsistentRead: true })),
    );
    return Item === undefined ? null : (JSON.parse(Item["record"]!.S!) as QuarantineJob);
  }

  /** Those that are not done, of all tenants, or of one. */
  async open(tenant?: string): Promise<QuarantineJob[]> {
    const jobs: QuarantineJob[] = [];
    let from: Record<string, any> | undefined;
    do {
      const page = await this.#call("reading jobs of the quarantine", () =>
        this.#dynamodb.send(
          new QueryCommand({
            TableName: this.#table,
            KeyConditionExpression: tenant === undefined ? "pk = :pk" : "pk = :pk AND begins_with(sk, :own)",
            FilterExpression: "#state <> :done",
            ExpressionAttributeNames: { "#state": "state" },
            ExpressionAttributeValues: {
              ":pk": { S: PARTITION },
              ...(tenant === undefined ? {} : { ":own": { S: joinKeyParts(tenant) } }),
              ":done": { S: "done" },
            },
            ExclusiveStartKey: from,
            ConsistentRead: true,
          }),
        ),
      );
      jobs.push(...(page.Items ?? []).map((item) => JSON.parse(item["record"]!.S!) as QuarantineJob));
      from = page.LastEvaluatedKey;
    } while (from !== undefined);
    return jobs;
  }

  #call<T>(what: string, call: () => Promise<T>): Promise<T> {
    return durably("jobs_unavailable", what, call);
  }
}

const keyOf = (tenant: string, id: string) => ({ pk: { S: PARTITION }, sk: { S: joinKeyParts(tenant, id) } });

const itemOf = (job: QuarantineJob) => ({
  ...keyOf(job.tenant, job.id),
  state: { S: job.state },
  updated_ms: { N: String(job.updatedMs) },
  record: { S: JSON.stringify(job) },
});
