/**
 * Historical jobs of the plain server, one after the other, each in a process of its own: a build folds up to a million rows
 * without a pause, which would hold up every score, and must not outlive the server.
 */
import { type ChildProcess, fork } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { HistoricalJob, HistoricalJobs } from "../../adapters/historical-jobs.ts";

export interface JobQueue {
  add(job: HistoricalJob): void;
  /** Ends the job under way at once and tells it, and those that wait, as failed. */
  close(): Promise<void>;
}

const PROGRAM = join(import.meta.dirname, "historical-program.ts");

export function createJobQueue(options: {
  readonly jobs: Pick<HistoricalJobs, "get" | "update">;
  readonly clock: () => number;
  /** Told of what is not the caller's fault. */
  readonly onFault: (error: unknown, job: { tenant: string; id: string }) => void;
  /** @default the one beside this file */
  readonly program?: string;
}): JobQueue {
  const { jobs, clock, onFault, program = PROGRAM } = options;
  let child: ChildProcess | null = null;
  let isClosed = false;
  let queue = Promise.resolve();

  /** @returns how the process ended */
  async function runProcess({ tenant, id }: HistoricalJob): Promise<string> {
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
      rmSync(folder, { recursive: true, force: true });
    }
  }

  /** A job that has neither ended nor anybody who does it. */
  async function endLost({ tenant, id }: HistoricalJob, detail: string): Promise<void> {
    const job = await jobs.get(tenant, id);
    if (job === null || job.state === "done" || job.state === "failed") return;
    const error = { code: "job_lost", detail, repair: "start it again" };
    await jobs.update({ ...job, state: "failed", error, updatedMs: clock() });
  }

  async function run(job: HistoricalJob): Promise<void> {
    let ended = "never started";
    try {
      if (!isClosed) ended = await runProcess(job);
    } catch (error) {
      onFault(error, job);
    }
    const detail = isClosed ? "the server stopped before the job was done" : `the job's process ended early (${ended})`;
    await endLost(job, detail);
  }

  return {
    add(job) {
      queue = queue.then(() => run(job)).catch((error) => onFault(error, job));
    },
    close() {
      isClosed = true;
      // Nothing in it needs an orderly end: files are told of by the job's state alone.
      child?.kill("SIGKILL");
      return queue;
    },
  };
}
