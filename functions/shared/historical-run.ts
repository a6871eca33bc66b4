/** Runs one historical job to its end: builds the set in a folder of its own, puts its files into the bucket, tells how it went. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GetObjectCommand, PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import { durably } from "../../adapters/durable-call.ts";
import type { HistoricalJob, HistoricalJobs } from "../../adapters/historical-jobs.ts";
import { DuckSession } from "../../adapters/offline/duckdb.ts";
import type { GivenSpine } from "../../adapters/offline/given-spine.ts";
import { loggedScores } from "../../adapters/offline/logged-spine.ts";
import { ArchiveMirror } from "../../adapters/offline/mirror.ts";
import { archiveMount } from "../../adapters/offline/mount.ts";
import { valuesMount } from "../../adapters/offline/pushed-in-time.ts";
import { buildTrainingSet, type SpineSource } from "../../adapters/offline/training-set.ts";
import type { FeatureServiceDefinition } from "../../core/definition.ts";
import { parseDuration } from "../../core/duration.ts";
import { FreshetError } from "../../core/errors.ts";
import type { Plan } from "../../core/plan.ts";
import { archiveRoom } from "./archive-room.ts";

export interface RunHistorical {
  readonly plan: Plan;
  readonly services: readonly FeatureServiceDefinition[];
  readonly jobs: HistoricalJobs;
  readonly s3: Pick<S3Client, "send">;
  readonly bucket: string;
  /** For DuckDB. */
  readonly memoryMb: number;
  /** Of the archive, that one job may read; half of the disk at most. */
  readonly maxBytes: number;
  readonly clock: () => number;
  /** Told of a failure that is not the caller's. */
  readonly onFault: (error: unknown, job: { tenant: string; id: string }) => void;
}

/** Progress is written at most this often. */
const PROGRESS_MS = 1_000;

export const jobFolder = ({ tenant, id }: Pick<HistoricalJob, "tenant" | "id">): string =>
  `historical/tenant=${tenant}/job=${id}`;

/** Never throws: what goes wrong is the job's state. A job that another run has taken is left to it. */
export async function runHistorical(options: RunHistorical, queued: HistoricalJob): Promise<void> {
  const { jobs, clock, onFault } = options;
  let job: HistoricalJob = { ...queued, state: "running", updatedMs: clock() };
  try {
    if (!(await jobs.claim(job))) return;
    let writing = Promise.resolve();
    const report = (progress: number) => {
      if (clock() - job.updatedMs < PROGRESS_MS) return;
      job = { ...job, progress, updatedMs: clock() };
      const snapshot = job;
      writing = writing.then(() => jobs.update(snapshot)).catch(() => {});
    };
    const done = await build(options, job, report).finally(() => writing);
    await jobs.update({ ...job, ...done, state: "done", progress: 1, updatedMs: clock() });
  } catch (error) {
    const own = error instanceof FreshetError;
    if (!own) onFault(error, job);
    const told = own
      ? { code: error.code, detail: error.message, repair: error.repair ?? null }
      : { code: "internal", detail: "the job failed because of an error on our side", repair: "start it again" };
    await jobs
      .update({ ...job, state: "failed", error: told, updatedMs: clock() })
      .catch((cause) => onFault(cause, job));
  }
}

async function build(options: RunHistorical, job: HistoricalJob, report: (progress: number) => void) {
  const { plan, services, s3, bucket, memoryMb } = options;
  const { request, tenant } = job;
  const service = plan.services.find(({ name }) => name === request.service);
  const definition = services.find(({ name }) => name === request.service);
  if (service === undefined || definition === undefined) {
    throw new FreshetError("service_unknown", `no feature service is named ${request.service}`);
  }
  const folder = mkdtempSync(join(tmpdir(), "freshet-historical-"));
  const session = await DuckSession.open({ folder, memoryMb });
  try {
    const mirror = new ArchiveMirror({ s3, bucket, folder, maxBytes: Math.min(options.maxBytes, archiveRoom(folder)) });
    const out = join(folder, "set");
    const manifest = await buildTrainingSet(session, {
      plan,
      service,
      definition,
      tenant,
      spine: await spineOf(options, job, folder),
      fromMs: request.fromMs,
      toMs: request.toMs,
      labelDelayMs: definition.labels === null ? null : parseDuration(definition.labels.delay),
      mount: archiveMount(session, mirror, tenant),
      mountValues: valuesMount(session, mirror, tenant),
      registered: request.registered,
      out,
      onProgress: (step, share) => report(step === "spine" ? 0.05 * share : 0.05 + 0.9 * share),
    });
    const files: string[] = [];
    for (const name of readdirSync(out).sort()) {
      const key = `${jobFolder(job)}/${name}`;
      await durably("historical_unavailable", `writing ${name} to bucket ${bucket}`, () =>
        s3.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: readFileSync(join(out, name)) })),
      );
      files.push(key);
    }
    return { files, manifest };
  } finally {
    session.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function spineOf(
  options: RunHistorical,
  { tenant, request }: HistoricalJob,
  folder: string,
): Promise<SpineSource> {
  const { service, labels, asOf, spineKey, fromLog } = request;
  if (spineKey !== null) return fetchSpine(options, spineKey, folder);
  if (fromLog) return loggedScores(options.s3, options.bucket, { tenant, service, stream: labels! });
  return { kind: "labels", stream: labels!, asOf };
}

/** The request's rows as a file of this machine. */
async function fetchSpine({ s3, bucket }: RunHistorical, key: string, folder: string): Promise<GivenSpine> {
  const file = join(folder, "spine.json");
  const body = await durably("historical_unavailable", `reading ${key} from bucket ${bucket}`, async () => {
    const { Body } = await s3.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
    return Body!.transformToByteArray();
  });
  writeFileSync(file, body);
  return { kind: "file", path: file, format: "json" };
}
