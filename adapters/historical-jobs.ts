/**
 * Jobs of `POST /v1/features/historical`: what was asked, how far it is, what came of it. DynamoDB keys: pk `job#<tenant>`, sk
 * the job's id, so that a tenant finds its own alone. Items expire a week after they are made, their files with them.
 */
import {
  type AttributeValue,
  ConditionalCheckFailedException,
  type DynamoDBClient,
  GetItemCommand,
  PutItemCommand,
  QueryCommand,
} from "@aws-sdk/client-dynamodb";
import type { PushedFeature } from "../core/pushed-feature.ts";
import { durably } from "./durable-call.ts";
import type { AsOfRule, TrainingManifest } from "./offline/training-manifest.ts";

export interface HistoricalRequest {
  readonly service: string;
  /** Stream of labels; null when the request brought rows. */
  readonly labels: string | null;
  readonly asOf: AsOfRule;
  /** Rows are what was scored, with the outcomes of `labels`. @default false: all labelled events */
  readonly fromLog?: boolean;
  readonly fromMs: number | null;
  readonly toMs: number | null;
  /** Registered features that are joined beside the service's own. @default none */
  readonly registered?: readonly PushedFeature[];
  /** Where the request's own rows lie in the bucket, as a JSON array; null for labels. */
  readonly spineKey: string | null;
}

export interface HistoricalJob {
  readonly tenant: string;
  readonly id: string;
  readonly request: HistoricalRequest;
  /** Who does it: a function that the table's changes wake, or the server that took it. */
  readonly runner: "function" | "process";
  readonly state: "queued" | "running" | "done" | "failed";
  /** 0 to 1. */
  readonly progress: number;
  readonly createdMs: number;
  readonly updatedMs: number;
  /** Keys in the bucket, once it is done. */
  readonly files: readonly string[];
  readonly manifest: TrainingManifest | null;
  readonly error: { readonly code: string; readonly detail: string; readonly repair: string | null } | null;
}

export const JOB_LIFE_MS = 7 * 86_400_000;
/** A function ends after 15 minutes and tells of its progress each second: silence for longer is its death. */
export const SILENT_MS = 16 * 60_000;
/** One that has waited for longer is not counted as open any more: who was to do it may be gone. */
const WAITS_MS = 3_600_000;

/** Id of a job that is made at a time: in the order of times. @param ending what no other job has */
export const jobId = (nowMs: number, ending: string): string => `${Math.floor(nowMs).toString(36)}-${ending}`;

export class HistoricalJobs {
  readonly #table: string;
  readonly #dynamodb: Pick<DynamoDBClient, "send">;

  constructor({ table, dynamodb }: { table: string; dynamodb: Pick<DynamoDBClient, "send"> }) {
    this.#table = table;
    this.#dynamodb = dynamodb;
  }

  /** @throws InfrastructureError `jobs_unavailable`, as do all here */
  async create(job: HistoricalJob): Promise<void> {
    await this.#put(job, "attribute_not_exists(pk)");
  }

  async update(job: HistoricalJob): Promise<void> {
    await this.#put(job);
  }

  /** Takes a queued job, once. @returns false when another run has it */
  async claim(job: HistoricalJob): Promise<boolean> {
    try {
      await this.#put(job, "#state = :queued", { ":queued": { S: "queued" } });
      return true;
    } catch (error) {
      if ((error as Error).cause instanceof ConditionalCheckFailedException) return false;
      throw error;
    }
  }

  async get(tenant: string, id: string): Promise<HistoricalJob | null> {
    const { Item } = await durably("jobs_unavailable", "reading a job", () =>
      this.#dynamodb.send(
        new GetItemCommand({
          TableName: this.#table,
          Key: { pk: { S: `job#${tenant}` }, sk: { S: id } },
          ConsistentRead: true,
        }),
      ),
    );
    return Item === undefined ? null : (JSON.parse(Item["record"]!.S!) as HistoricalJob);
  }

  /** The newest of the tenant's that wait or run. */
  async open(tenant: string, nowMs: number): Promise<HistoricalJob[]> {
    const { Items = [] } = await durably("jobs_unavailable", "reading jobs", () =>
      this.#dynamodb.send(
        new QueryCommand({
          TableName: this.#table,
          KeyConditionExpression: "pk = :pk AND sk > :from",
          ExpressionAttributeValues: { ":pk": { S: `job#${tenant}` }, ":from": { S: jobId(nowMs - WAITS_MS, "") } },
          ScanIndexForward: false,
          ConsistentRead: true,
        }),
      ),
    );
    const jobs = Items.map((item) => JSON.parse(item["record"]!.S!) as HistoricalJob);
    return jobs.filter(
      ({ state, updatedMs }) => state === "queued" || (state === "running" && nowMs - updatedMs < SILENT_MS),
    );
  }

  async #put(job: HistoricalJob, condition?: string, values?: Record<string, AttributeValue>): Promise<void> {
    const Item: Record<string, AttributeValue> = {
      pk: { S: `job#${job.tenant}` },
      sk: { S: job.id },
      state: { S: job.state },
      runner: { S: job.runner },
      record: { S: JSON.stringify(job) },
      expires_at: { N: String(Math.ceil((job.createdMs + JOB_LIFE_MS) / 1000)) },
    };
    await durably("jobs_unavailable", "writing a job", () =>
      this.#dynamodb.send(
        new PutItemCommand({
          TableName: this.#table,
          Item,
          ConditionExpression: condition,
          ExpressionAttributeNames: condition?.includes("#state") ? { "#state": "state" } : undefined,
          ExpressionAttributeValues: values,
        }),
      ),
    );
  }
}
