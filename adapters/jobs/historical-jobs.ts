/** Jobs of `POST /v1/features/historical`: what was asked, how far it is, what came of it. Their files expire with them. */
import { randomUUID } from "node:crypto";
import { ConditionalCheckFailedException } from "@aws-sdk/client-dynamodb";
import type { PushedFeature } from "../../core/pushed-feature.ts";
import type { AsOfRule, TrainingManifest } from "../offline/training-manifest.ts";
import { JobItems, type JobRecord, type JobsTable, SILENT_MS } from "./job-items.ts";

export interface HistoricalRequest {
  readonly service: string;
  /** Stream of labels; null when the request brought rows. */
  readonly labels: string | null;
  readonly asOf: AsOfRule;
  /** Rows are what was scored, with the outcomes of `labels`. @default false: all labelled events */
  readonly fromLog?: boolean;
  readonly fromMs: number | null;
  readonly toMs: number | null;
  /** What the tenant has registered of the service's own features. @default none */
  readonly inputs?: readonly PushedFeature[];
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
  /** `cancelled` is the end of one that its tenant wanted no longer: nothing of it is kept. */
  readonly state: "queued" | "running" | "done" | "failed" | "cancelled";
  /** The call that does it now: of another, no change counts. None yet while it waits. */
  readonly run?: string;
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

const CANCELLED = {
  code: "job_cancelled",
  detail: "the job was cancelled",
  repair: "start it again if its files are wanted",
};

export const hasEnded = ({ state }: HistoricalJob): boolean => state !== "queued" && state !== "running";

/** Where in the bucket a job's rows and files are. */
export const jobFolder = ({ tenant, id }: Pick<HistoricalJob, "tenant" | "id">): string =>
  `historical/tenant=${tenant}/job=${id}`;

/** Id of a job that is made at a time: in the order of times. @param ending what no other job has */
export const jobId = (nowMs: number, ending: string): string => `${Math.floor(nowMs).toString(36)}-${ending}`;

export class HistoricalJobs {
  readonly #items: JobItems<HistoricalJob>;
  readonly #calls: JobItems<FurtherCall>;

  constructor(to: JobsTable) {
    this.#items = new JobItems(to, "job", "a job");
    this.#calls = new JobItems(to, FURTHER, "a job's next call");
  }

  /** @throws InfrastructureError `jobs_unavailable`, as do all here */
  async create(job: HistoricalJob): Promise<void> {
    await this.#items.put(job, attributesOf(job), { ConditionExpression: "attribute_not_exists(pk)" });
  }

  /** @throws InfrastructureError of which `isTaken`, when another call has taken the job over */
  async update(job: HistoricalJob): Promise<void> {
    await this.#items.put(job, attributesOf(job), job.run === undefined ? {} : heldBy(job.run));
  }

  /** Takes a queued job, once. @returns false when another run has it */
  claim(job: HistoricalJob): Promise<boolean> {
    return this.#take(job, {
      ConditionExpression: "#state = :queued",
      ExpressionAttributeNames: { "#state": "state" },
      ExpressionAttributeValues: { ":queued": { S: "queued" } },
    });
  }

  /** Takes a job from the call that had it when it was read. @returns false when it has gone on, or another was faster */
  takeOver(job: HistoricalJob, before: HistoricalJob): Promise<boolean> {
    return this.#take(job, heldBy(before.run ?? ""));
  }

  /**
   * Ends a job that waits or runs. Whoever does it finds out when it next tells of it: from here on no change of its counts.
   * @param found as it was read
   * @returns false when it has ended, or another run has it, since it was read
   */
  async cancel({ run, ...found }: HistoricalJob, nowMs: number): Promise<boolean> {
    const cancelled: HistoricalJob = { ...found, state: "cancelled", error: CANCELLED, updatedMs: nowMs };
    const held = run === undefined ? null : heldBy(run);
    return this.#take(cancelled, {
      ConditionExpression: held === null ? "#state = :state" : `#state = :state AND ${held.ConditionExpression}`,
      ExpressionAttributeNames: { "#state": "state", ...held?.ExpressionAttributeNames },
      ExpressionAttributeValues: { ":state": { S: found.state }, ...held?.ExpressionAttributeValues },
    });
  }

  /** Has the function called again for a job that is not finished: what is new in the table wakes it. */
  async goOn({ tenant, id, runner }: HistoricalJob, nowMs: number): Promise<void> {
    const call = { tenant, id: `${id}#${randomUUID()}`, createdMs: nowMs, job: id };
    await this.#calls.put(call, { runner: { S: runner } });
  }

  async #take(job: HistoricalJob, condition: Parameters<JobItems<HistoricalJob>["put"]>[2]): Promise<boolean> {
    try {
      await this.#items.put(job, attributesOf(job), condition);
      return true;
    } catch (error) {
      if (isTaken(error)) return false;
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

const attributesOf = ({ state, runner, run }: HistoricalJob) => ({
  ...{ state: { S: state }, runner: { S: runner } },
  ...(run === undefined ? {} : { run: { S: run } }),
});

const heldBy = (run: string) => ({
  ConditionExpression: "#run = :run",
  ExpressionAttributeNames: { "#run": "run" },
  ExpressionAttributeValues: { ":run": { S: run } },
});

/** Whether a write was refused because another call has the job. */
export const isTaken = (error: unknown): boolean => (error as Error).cause instanceof ConditionalCheckFailedException;

interface FurtherCall extends JobRecord {
  readonly job: string;
}
const FURTHER = "call";

/** Which job an item of the table asks for, by its key: a job that is new, or one that goes on. Null for all else. */
export function jobOfItem(pk: string, sk: string): { readonly tenant: string; readonly id: string } | null {
  const [kind, tenant] = pk.split("#") as [string, string];
  if (kind === "job") return { tenant, id: sk };
  return kind === FURTHER ? { tenant, id: sk.slice(0, sk.indexOf("#")) } : null;
}
