/** Runs one historical job to its end: builds the set in a folder of its own, puts its files into the bucket, tells how it went. */
import { randomUUID } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GetObjectCommand, PutObjectCommand } from "@aws-sdk/client-s3";
import { durably } from "../../../adapters/aws/durable-call.ts";
import { type HistoricalJob, type HistoricalJobs, isTaken, jobFolder } from "../../../adapters/jobs/historical-jobs.ts";
import type { GivenSpine } from "../../../adapters/offline/given-spine.ts";
import { loggedScores } from "../../../adapters/offline/logged-spine.ts";
import { ROWS_PER_PART } from "../../../adapters/offline/training-part.ts";
import { partName, type SpineSource } from "../../../adapters/offline/training-set.ts";
import { WorkFolder } from "../../../adapters/offline/work-folder.ts";
import type { FeatureServiceDefinition } from "../../../core/definition.ts";
import { parseDuration } from "../../../core/duration.ts";
import { FreshetError } from "../../../core/errors.ts";
import type { Plan } from "../../../core/plan.ts";
import { inputsOf } from "../../../core/registered-feature.ts";
import { buildSet, clearSet, type SetPorts } from "./set-builder.ts";

export interface RunHistorical extends Omit<SetPorts, "signal"> {
  readonly plan: Plan;
  readonly services: readonly FeatureServiceDefinition[];
  readonly jobs: HistoricalJobs;
  readonly clock: () => number;
  /** Told of a failure that is not the caller's. */
  readonly onFault: (error: unknown, job: { tenant: string; id: string }) => void;
}

/** Progress is written at most this often. */
const PROGRESS_MS = 1_000;
/** And at least this often, however long a step takes: so a job that is cancelled, or taken over, is soon known as such. */
const HEARTBEAT_MS = 5_000;

/**
 * Never throws: what goes wrong is the job's state. A job that another run has is left to it; one that a run of before has left unfinished is
 * taken over where there is Athena, and goes on. Whoever is taken over from changes nothing of the job any more. Of one that is cancelled
 * whoever meets it ends the queries and removes the objects.
 */
export async function runHistorical(options: RunHistorical, found: HistoricalJob): Promise<void> {
  const { jobs, clock, onFault } = options;
  if (found.state === "cancelled") return clearAway(options, found);
  const cancelled = new AbortController();
  let job: HistoricalJob = { ...found, state: "running", run: randomUUID(), updatedMs: clock() };
  let taken = false;
  try {
    const resumed = found.state === "running" && options.engine.athena !== null;
    if (!(await (resumed ? jobs.takeOver(job, found) : jobs.claim(job)))) return await clearIfCancelled(options, job);
    let writing = Promise.resolve();
    const report = (progress: number) => {
      if (clock() - job.updatedMs < PROGRESS_MS) return;
      job = { ...job, progress: Math.max(job.progress, progress), updatedMs: clock() };
      const snapshot = job;
      writing = writing
        .then(() => jobs.update(snapshot))
        .catch(async (error) => {
          taken ||= isTaken(error);
          if (taken && (await isCancelled(options, job)))
            cancelled.abort(new FreshetError("job_cancelled", "cancelled"));
        });
    };
    const heartbeat = setInterval(() => report(job.progress), HEARTBEAT_MS);
    const outOfTime = () => {
      // Somebody asks for the time while Athena works, which may be long.
      report(job.progress);
      cancelled.signal.throwIfAborted();
      return taken || options.outOfTime();
    };
    const ports = { ...options, outOfTime, signal: cancelled.signal };
    const done = await build(ports, job, report).finally(() => {
      clearInterval(heartbeat);
      return writing;
    });
    if (done !== null) return await jobs.update({ ...job, ...done, state: "done", progress: 1, updatedMs: clock() });
    job = { ...job, updatedMs: clock() };
    await jobs.update(job);
    await jobs.goOn(job, clock());
  } catch (error) {
    if (isTaken(error) || cancelled.signal.aborted) return clearIfCancelled(options, job);
    const own = error instanceof FreshetError;
    if (!own) onFault(error, job);
    const told = own
      ? { code: error.code, detail: error.message, repair: error.repair ?? null }
      : { code: "internal", detail: "the job failed because of an error on our side", repair: "start it again" };
    await jobs
      .update({ ...job, state: "failed", error: told, updatedMs: clock() })
      .catch((cause) => (isTaken(cause) ? clearIfCancelled(options, job) : onFault(cause, job)));
  }
}

/** @returns false where nobody can tell now: then the bucket's lifecycle removes what is left */
const isCancelled = ({ jobs }: RunHistorical, { tenant, id }: HistoricalJob): Promise<boolean> =>
  jobs.get(tenant, id).then(
    (job) => job?.state === "cancelled",
    () => false,
  );

async function clearIfCancelled(options: RunHistorical, job: HistoricalJob): Promise<void> {
  if (await isCancelled(options, job)) await clearAway(options, job);
}

/** Ends what a cancelled job has begun, and removes what it has written. Never throws. */
async function clearAway(options: RunHistorical, job: HistoricalJob): Promise<void> {
  const { s3, bucket, onFault } = options;
  try {
    await clearSet(options, { tenant: job.tenant, job: job.id });
    await new WorkFolder({ s3, bucket, prefix: `${jobFolder(job)}/` }).remove();
  } catch (error) {
    onFault(error, job);
  }
}

/** @returns null when the time was up */
async function build(options: RunHistorical & SetPorts, job: HistoricalJob, report: (progress: number) => void) {
  const { plan, services, s3, bucket } = options;
  const { request, tenant } = job;
  const service = plan.services.find(({ name }) => name === request.service);
  const definition = services.find(({ name }) => name === request.service);
  if (service === undefined || definition === undefined) {
    throw new FreshetError("service_unknown", `no feature service is named ${request.service}`);
  }
  const folder = mkdtempSync(join(tmpdir(), "freshet-historical-"));
  const keyOf = (name: string) => `${jobFolder(job)}/${name}`;
  try {
    const manifest = await buildSet(options, {
      ...{ plan, service, definition, tenant, folder, job: job.id },
      spine: await spineOf(options, job, folder),
      fromMs: request.fromMs,
      toMs: request.toMs,
      labelDelayMs: definition.labels === null ? null : parseDuration(definition.labels.delay),
      inputs: inputsOf(service, request.inputs ?? []),
      registered: request.registered,
      onProgress: report,
      put: async (name, path) => {
        await durably("historical_unavailable", `writing ${name} to bucket ${bucket}`, () =>
          s3.send(new PutObjectCommand({ Bucket: bucket, Key: keyOf(name), Body: readFileSync(path) })),
        );
      },
    });
    if (manifest === null) return null;
    const parts = Array.from({ length: Math.ceil(manifest.row_count / ROWS_PER_PART) }, (_, part) => partName(part));
    return { files: ["manifest.json", ...parts].map(keyOf), manifest };
  } finally {
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
