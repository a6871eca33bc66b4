/**
 * Errors as Feast's server words them: a JSON string that holds JSON with module, class and message, from which Feast's client
 * raises that very exception; `{"detail": …}` for what never got as far as Feast. Code, field and repair come along.
 */
import type { Problem, ProblemCode } from "../problems.ts";
import type { Answer } from "../router.ts";

const CLASSES: Partial<Record<ProblemCode, string>> = {
  view_unknown: "FeatureViewNotFoundException",
  feature_unknown: "FeastObjectNotFoundException",
  service_unknown: "FeatureServiceNotFoundException",
  push_source_unknown: "PushSourceNotFoundException",
  request_data_missing: "RequestDataNotFoundInEntityRowsException",
  names_collide: "FeatureNameCollisionError",
  scope_missing: "FeastPermissionError",
};
/** What Feast's web framework finds in a body, by its own names. */
const SHAPES: Partial<Record<ProblemCode, string>> = {
  malformed_json: "json_invalid",
  body_coding: "json_invalid",
  body_encoding: "json_invalid",
  body_empty: "missing",
  body_shape: "model_attributes_type",
  field_missing: "missing",
  wrong_type: "type_error",
};

/** What Feast answers with 500 and is the caller's to mend is 422 here: its client sends a request again after each 500. */
export function feastError(problem: Problem, requestId: string): Answer {
  const { code, message, field, repair } = problem;
  const status = problem.status === 400 ? 422 : problem.status;
  const sentence = repair === undefined ? message : `${message} (${repair})`;
  const own = { code, field, repair, request_id: requestId };
  const shape = SHAPES[code as ProblemCode];
  if (shape !== undefined) {
    const loc = ["body", ...(field?.match(/[^.[\]]+/g) ?? [])];
    return answer(status, { detail: [{ type: shape, loc, msg: sentence }], ...own }, problem);
  }
  if (status === 401) return answer(status, { detail: sentence, ...own }, problem);
  // The one error that Feast's server words by itself.
  if (code === "materialization_running") return answer(status, { error: sentence, ...problem.extra, ...own }, problem);
  const name = CLASSES[code as ProblemCode] ?? "FeastError";
  return answer(status, JSON.stringify({ module: "feast.errors", class: name, message: sentence, ...own }), problem);
}

const answer = (status: number, body: unknown, { headers }: Problem): Answer => ({
  status,
  body: JSON.stringify(body),
  headers,
});
