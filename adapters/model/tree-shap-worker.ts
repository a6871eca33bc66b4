/** Exact Shapley values in a thread of their own: milliseconds a row, which no other request should wait for. */
import { parentPort } from "node:worker_threads";
import { type NodeMeans, shapContributions, type Trees } from "../../core/scoring/trees.ts";

export interface ShapRequest {
  readonly id: number;
  readonly model: number;
  /** Sent with the first request of a model. */
  readonly trees?: Trees;
  readonly means?: NodeMeans;
  readonly vector: Float64Array;
}
export interface ShapAnswer {
  readonly id: number;
  readonly base: number;
  readonly contributions: Float64Array;
}

/** Two of each part, and one that was just replaced. */
const KEPT_MODELS = 8;
const models = new Map<number, { trees: Trees; means: NodeMeans }>();

parentPort!.on("message", ({ id, model, trees, means, vector }: ShapRequest) => {
  if (trees !== undefined && means !== undefined) {
    if (models.size >= KEPT_MODELS) models.delete(models.keys().next().value as number);
    models.set(model, { trees, means });
  }
  const known = models.get(model);
  const answer: ShapAnswer | { id: number } =
    known === undefined ? { id } : { id, ...shapContributions(known.trees, known.means, vector) };
  parentPort!.postMessage(answer);
});
