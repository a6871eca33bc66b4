/** Runs the training container's program as a process of this machine, as SageMaker runs it in the container. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { FreshetError } from "../../core/errors.ts";
import { ROOT, venvPython } from "../home.ts";
import type { JobFolder } from "./layout.ts";

/** SageMaker's own grace between SIGTERM and SIGKILL. */
const GRACE_MS = 120_000;

export interface ProgramOptions {
  readonly jobName: string;
  readonly onLine: (line: string) => void;
  /** Aborting sends SIGTERM, then SIGKILL after `graceMs`. */
  readonly signal?: AbortSignal;
  /** The job's own variables. */
  readonly environment?: Readonly<Record<string, string>>;
  /** @default SageMaker's 120 s */
  readonly graceMs?: number;
  /** Told the process once it runs, so that it can be recorded. */
  readonly onStart?: (pid: number) => void;
}

/**
 * @returns exit code; null when it was killed
 * @throws FreshetError `program_missing` when it cannot be started
 */
export async function runProgram(folder: JobFolder, options: ProgramOptions): Promise<number | null> {
  const child = spawn(venvPython(), ["-m", "trainer", "train"], {
    cwd: folder.root,
    // A group of its own: Ctrl-C in a terminal must reach it as SIGTERM, and through us alone.
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      PATH: process.env["PATH"] ?? "",
      LC_ALL: "C.UTF-8",
      PYTHONPATH: join(ROOT, "training"),
      PYTHONUNBUFFERED: "1",
      PYTHONDONTWRITEBYTECODE: "1",
      TRAINING_JOB_NAME: options.jobName,
      SAGEMAKER_BASE_DIR: folder.root,
      ...options.environment,
    },
  });
  let kill: NodeJS.Timeout | undefined;
  const stop = () => {
    child.kill("SIGTERM");
    kill = setTimeout(() => child.kill("SIGKILL"), options.graceMs ?? GRACE_MS);
  };
  for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on("line", options.onLine);
  try {
    return await new Promise<number | null>((settle, fail) => {
      child.once("error", (cause) =>
        fail(new FreshetError("program_missing", "the training program could not be started", { cause })),
      );
      child.once("spawn", () => {
        options.onStart?.(child.pid as number);
        if (options.signal?.aborted) stop();
        else options.signal?.addEventListener("abort", stop, { once: true });
      });
      child.once("close", (code) => settle(code));
    });
  } finally {
    clearTimeout(kill);
    options.signal?.removeEventListener("abort", stop);
  }
}
