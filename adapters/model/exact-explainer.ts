/** Asks the worker thread for exact Shapley values. The thread starts with the first question. */
import { Worker } from "node:worker_threads";
import type { Attribution } from "../../core/scoring/trees.ts";
import { calibrated, type Explanation, type Model } from "./open.ts";
import type { ShapAnswer, ShapRequest } from "./tree-shap-worker.ts";

/** Replaced by the bundler with the bundled worker, since a function's asset holds no other files. */
declare const TREE_SHAP_WORKER_SOURCE: string | undefined;

/** 200 trees take 3 ms; a queue of many still ends well before a caller would. */
const TIMEOUT_MS = 2_000;

export interface ExactExplainer {
  /** Along the decision path instead when the thread does not answer in time; the explanation says which. */
  explain(model: Model, vector: Float64Array): Promise<Explanation>;
  close(): Promise<void>;
}

const startWorker = () =>
  typeof TREE_SHAP_WORKER_SOURCE === "string"
    ? new Worker(TREE_SHAP_WORKER_SOURCE, { eval: true })
    : new Worker(new URL("./tree-shap-worker.ts", import.meta.url));

export function createExactExplainer(options: { timeoutMs?: number } = {}): ExactExplainer {
  const { timeoutMs = TIMEOUT_MS } = options;
  const pending = new Map<number, (answer: Attribution | null) => void>();
  const numbers = new WeakMap<Model, number>();
  let worker: Worker | null = null;
  /** Models that the present worker was sent. */
  let sent = new Set<number>();
  let questions = 0;
  let models = 0;

  const fail = () => {
    for (const settle of pending.values()) settle(null);
    pending.clear();
    worker = null;
    sent = new Set();
  };
  const start = () => {
    const started = startWorker();
    started.on("message", (answer: ShapAnswer | { id: number }) => {
      pending.get(answer.id)?.("base" in answer ? answer : null);
      pending.delete(answer.id);
    });
    started.on("error", () => worker === started && fail());
    started.on("exit", () => worker === started && fail());
    // A thread that waits for questions keeps no process alive.
    started.unref();
    return started;
  };
  const ask = (model: Model, vector: Float64Array) =>
    new Promise<Attribution | null>((resolve) => {
      worker ??= start();
      const id = questions++;
      let number = numbers.get(model);
      if (number === undefined) numbers.set(model, (number = models++));
      const timer = setTimeout(() => {
        pending.delete(id);
        // It may have forgotten the model.
        sent.delete(number);
        resolve(null);
      }, timeoutMs);
      pending.set(id, (answer) => {
        clearTimeout(timer);
        if (answer === null) sent.delete(number);
        resolve(answer);
      });
      // A copy: what it is cut from would go along.
      const request: ShapRequest = { id, model: number, vector: vector.slice() };
      worker.postMessage(sent.has(number) ? request : { ...request, trees: model.sidecar.trees, means: model.means });
      sent.add(number);
    });
  return {
    async explain(model, vector) {
      const answer = await ask(model, vector);
      return answer === null ? model.explain(vector) : calibrated("shap", model.sidecar, answer);
    },
    async close() {
      await worker?.terminate();
    },
  };
}
