/** Jobs of `POST /v1/features/historical`: what was asked, how far it is, what came of it. Their files expire with them. */
import { ConditionalCheckFailedException } from "@aws-sdk/client-dynamodb";
import type { PushedFeature } from "../core/pushed-feature.ts";
import { JobItems, type JobsTable, SILENT_MS } from "./job-items.ts";
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

/** One that has waited for longer is not counted as open any more: who was to do it may be gone. */
const WAITS_MS = 3_600_000;

/** Id of a job that is made at a time: in the order of times. @param ending what no other job has */
export const jobId = (nowMs: number, ending: string): string => `${Math.floor(nowMs).toString(36)}-${ending}`;

export class HistoricalJobs {
  readonly #items: JobItems<HistoricalJob>;

  constructor(to: JobsTable) {
    this.#items = new JobItems(to, "job", "a job");
  }

  /** @throws InfrastructureError `jobs_unavailable`, as do all here */
  async create(job: HistoricalJob): Promise<void> {
    await this.#items.put(job, attributesOf(job), { ConditionExpression: "attribute_not_exists(pk)" });
  }

  async update(job: HistoricalJob): Promise<void> {
    await this.#items.put(job, attributesOf(job));
  }

  /** Takes a queued job, once. @returns false when another run has it */
  async claim(job: HistoricalJob): Promise<boolean> {
    try {
      await this.#items.put(job, attributesOf(job), {
        ConditionExpression: "#state = :queued",
        ExpressionAttributeNames: { "#state": "state" },
        ExpressionAttributeValues: { ":queued": { S: "queued" } },
      });
      return true;
    } catch (error) {
      if ((error as Error).cause instanceof ConditionalCheckFailedException) return false;
      throw error;
    }
  }

  get(tenant: string, id: string): Promise<HistoricalJob | null> {
    return this.#items.get(tenant, id);
  }

  /** The newest of the tenant's that wait or run. */
  async open(tenant: string, nowMs: number): Promise<HistoricalJob[]> {
    const jobs = await this.#items.newest(tenant, jobId(nowMs - WAITS_MS, ""));
    return jobs.filter(
      ({ state, updatedMs }) => state === "queued" || (state === "running" && nowMs - updatedMs < SILENT_MS),
    );
  }
}

const attributesOf = ({ state, runner }: HistoricalJob) => ({ state: { S: state }, runner: { S: runner } });
