/**
 * Historical jobs of the plain server, one after the other, each in a process of its own: a build folds up to a million rows
 * without a pause, which would hold up every score, and must not outlive the server.
 */
import { type ChildProcess, fork } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type HistoricalJob, type HistoricalJobs, hasEnded } from "../../../adapters/jobs/historical-jobs.ts";

export interface JobQueue {
  add(job: HistoricalJob): void;
  /** Ends the process of a job that is cancelled; one that still waits is passed over when it is its turn. */
  stop(job: HistoricalJob): void;
  /** Ends the job under way at once and tells it, and those that wait, as failed. */
  close(): Promise<void>;
}

const PROGRAM = join(import.meta.dirname, "historical-program.ts");

export function createJobQueue(options: {
  readonly jobs: Pick<HistoricalJobs, "get" | "update">;
  /** Removes what a cancelled job has left in the bucket. */
  readonly clear: (job: HistoricalJob) => Promise<void>;
  readonly clock: () => number;
  /** Told of what is not the caller's fault. */
  readonly onFault: (error: unknown, job: { tenant: string; id: string }) => void;
  /** @default the one beside this file */
  readonly program?: string;
}): JobQueue {
  const { jobs, clear, clock, onFault, program = PROGRAM } = options;
  let child: ChildProcess | null = null;
  let current: string | null = null;
  let isClosed = false;
  let queue = Promise.resolve();

  /** @returns how the process ended */
  async function runProcess({ tenant, id }: HistoricalJob): Promise<string> {
    current = id;
    // Its temporary files go with it, however it ends.
    const folder = mkdtempSync(join(tmpdir(), "freshet-job-"));
    try {
      return await new Promise((resolve, reject) => {
        child = fork(program, [tenant, id], {
          execArgv: [],
          env: { ...process.env, TMPDIR: folder },
          stdio: ["ignore", "ignore", "inherit", "ipc"],
        });
        child.once("error", reject);
        child.once("exit", (code, signal) => resolve(signal ?? `code ${code}`));
      });
    } finally {
      child = null;
      current = null;
      rmSync(folder, { recursive: true, force: true });
    }
  }

  /** A job that has neither ended nor anybody who does it. */
  async function endLost(job: HistoricalJob | null, detail: string): Promise<void> {
    if (job === null || hasEnded(job)) return;
    const error = { code: "job_lost", detail, repair: "start it again" };
    await jobs.update({ ...job, state: "failed", error, updatedMs: clock() });
  }

  const isCancelled = async ({ tenant, id }: HistoricalJob) => (await jobs.get(tenant, id))?.state === "cancelled";

  async function run(job: HistoricalJob): Promise<void> {
    let ended = "never started";
    try {
      // One that was cancelled while it waited is not begun.
      if (!isClosed && !(await isCancelled(job))) ended = await runProcess(job);
    } catch (error) {
      onFault(error, job);
    }
    const found = await jobs.get(job.tenant, job.id);
    if (found?.state === "cancelled") return clear(job);
    const detail = isClosed ? "the server stopped before the job was done" : `the job's process ended early (${ended})`;
    await endLost(found, detail);
  }

  return {
    add(job) {
      queue = queue.then(() => run(job)).catch((error) => onFault(error, job));
    },
    stop({ id }) {
      if (id === current) child?.kill("SIGKILL");
    },
    close() {
      isClosed = true;
      // Nothing in it needs an orderly end: files are told of by the job's state alone.
      child?.kill("SIGKILL");
      return queue;
    },
  };
}
