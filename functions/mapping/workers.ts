/**
 * Runs the function beside the mapping, each invocation in a thread that no other uses meanwhile. A thread that does not answer in time is ended, as Lambda
 * ends an environment: the seal counts on no invocation living longer than that.
 */
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import { FreshetError } from "../../core/errors.ts";
import type { WorkerAnswer } from "./worker.ts";

export interface WorkersOptions {
  /** File with the export `handler`: a bundle, or the source. */
  readonly handler: string;
  /** Invocations at once. */
  readonly size: number;
  readonly timeoutMs: number;
  /** Lines that the function writes. */
  readonly onLine: (line: string) => void;
}

interface Thread {
  readonly worker: Worker;
  hear: (answer: WorkerAnswer) => void;
}

export class Workers {
  readonly #options: WorkersOptions;
  readonly #idle: Thread[] = [];
  #busy = 0;

  constructor(options: WorkersOptions) {
    this.#options = options;
  }

  get hasRoom(): boolean {
    return this.#busy < this.#options.size;
  }

  /** Loads the function once, so that what is missing is told at the start. @throws whatever loading it throws */
  async warm(): Promise<void> {
    this.#idle.push(await this.#start());
  }

  /** @throws what the handler throws; FreshetError `invocation_timeout`, `worker_ended` */
  async invoke(event: unknown): Promise<unknown> {
    this.#busy++;
    try {
      const thread = this.#idle.pop() ?? (await this.#start());
      let timer: NodeJS.Timeout | undefined;
      const answer = await new Promise<WorkerAnswer | "timeout">((resolve) => {
        thread.hear = resolve;
        timer = setTimeout(() => resolve("timeout"), this.#options.timeoutMs);
        thread.worker.postMessage(event);
      });
      clearTimeout(timer);
      if (answer === "timeout") {
        await thread.worker.terminate();
        throw new FreshetError(
          "invocation_timeout",
          `the function did not answer within ${this.#options.timeoutMs / 1000} s and was ended`,
          { repair: "none needed if it passes: the batch is delivered again; else see what the function logs" },
        );
      }
      if (answer.kind === "result") {
        this.#idle.push(thread);
        return answer.result;
      }
      if (answer.kind === "error" && answer.name !== ENDED) this.#idle.push(thread);
      throw asError(answer);
    } finally {
      this.#busy--;
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#idle.splice(0).map(({ worker }) => worker.terminate()));
  }

  #start(): Promise<Thread> {
    const { handler, onLine } = this.#options;
    const worker = new Worker(new URL("./worker.ts", import.meta.url), {
      workerData: { handler: pathToFileURL(handler).href },
      stdout: true,
      stderr: true,
    });
    for (const out of [worker.stdout, worker.stderr]) eachLine(out, onLine);
    const thread: Thread = { worker, hear: () => {} };
    return new Promise((resolve, reject) => {
      thread.hear = (answer) => (answer.kind === "ready" ? resolve(thread) : reject(asError(answer)));
      worker.on("message", (answer: WorkerAnswer) => thread.hear(answer));
      worker.on("error", ({ name, message }) => {
        this.#forget(thread);
        thread.hear({ kind: "error", name: ENDED, message: `the function's thread ended: ${name}: ${message}` });
      });
      worker.on("exit", (code) => {
        this.#forget(thread);
        thread.hear({ kind: "error", name: ENDED, message: `the function's thread ended with code ${code}` });
      });
    });
  }

  #forget(thread: Thread): void {
    const at = this.#idle.indexOf(thread);
    if (at >= 0) this.#idle.splice(at, 1);
  }
}

const ENDED = "worker_ended";

function asError(answer: WorkerAnswer): Error {
  if (answer.kind !== "error") return new Error("the function's thread answered twice");
  if (answer.name === ENDED) {
    return new FreshetError(ENDED, answer.message, {
      repair: "see what it wrote before; the batch is delivered again",
    });
  }
  return Object.assign(new Error(answer.message), { name: answer.name });
}

function eachLine(out: NodeJS.ReadableStream, onLine: (line: string) => void): void {
  let rest = "";
  out.setEncoding("utf8");
  out.on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    for (const line of lines) onLine(line);
  });
}
