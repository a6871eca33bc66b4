/** The rows of one call together: read once what they share, scored in one run, and worked on in steps. */
import { setImmediate } from "node:timers/promises";
import type { ModelScore } from "../../../adapters/model/open.ts";
import type { ServedModel } from "../../../adapters/model/servable.ts";
import type { EntityRequest } from "../../../adapters/online-store/online-store.ts";

const ROWS_A_STEP = 100;

/** Scores each model's rows in one run. @returns null for rows without a model, and for those of a model that failed */
export async function scoreVectors(
  chosen: readonly { readonly chosen: ServedModel | null }[],
  vectors: readonly (Float64Array | null)[],
  onError: (error: unknown) => void,
): Promise<(ModelScore | null)[]> {
  const scores: (ModelScore | null)[] = vectors.map(() => null);
  for (const served of new Set(chosen.map((one) => one.chosen))) {
    const rows: number[] = [];
    for (let i = 0; i < vectors.length; i++) if (vectors[i] !== null && chosen[i].chosen === served) rows.push(i);
    if (served === null || rows.length === 0) continue;
    try {
      const answers = await served.model.score(rows.map((row) => vectors[row]!));
      answers.forEach((answer, i) => {
        scores[rows[i]] = answer;
      });
    } catch (error) {
      onError(error);
    }
  }
  return scores;
}

/** Some rows at a time, and other requests between: 500 rows take milliseconds. */
export async function inSteps<T, R>(rows: readonly T[], one: (row: T, i: number) => R): Promise<R[]> {
  const done: R[] = [];
  for (let i = 0; i < rows.length; i++) {
    if (i > 0 && i % ROWS_A_STEP === 0) await setImmediate();
    done.push(one(rows[i], i));
  }
  return done;
}

/** Rows share entities, a ranking's all but one: each is read once. */
export function eachOnce(wanted: readonly EntityRequest[]) {
  const requests: EntityRequest[] = [];
  const positions = new Map<string, Map<string, number>>();
  const answerOf = wanted.map((request) => {
    const { entity, id } = request;
    let ofEntity = positions.get(entity);
    if (ofEntity === undefined) {
      ofEntity = new Map();
      positions.set(entity, ofEntity);
    }
    const known = ofEntity.get(id);
    if (known !== undefined) return known;
    ofEntity.set(id, requests.length);
    return requests.push(request) - 1;
  });
  return { requests, answerOf };
}
