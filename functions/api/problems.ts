/** RFC 9457 problem documents: the one shape of every error that leaves the API. */
import { FreshetError, InfrastructureError, typeName } from "../../core/errors.ts";

interface ProblemType {
  readonly status: number;
  readonly title: string;
}

/** Every code that a caller can meet outside a record's own result. Stable: docs/api.md explains each, a test compares both. */
export const PROBLEMS = {
  request_refused: { status: 400, title: "API Gateway refused the request" },
  malformed_json: { status: 400, title: "The body is not JSON" },
  url_encoding: { status: 400, title: "The URL is not UTF-8" },
  body_coding: { status: 400, title: "The body is not compressed as it says" },
  body_encoding: { status: 400, title: "The body is not UTF-8" },
  body_incomplete: { status: 400, title: "The body ended early" },
  body_empty: { status: 400, title: "The body is empty" },
  body_shape: { status: 400, title: "The body has another shape" },
  feature_name_invalid: { status: 400, title: "A feature's name is invalid" },
  feature_version_invalid: { status: 400, title: "A feature's version is invalid" },
  dtype_unknown: { status: 400, title: "The type is not known" },
  ttl_invalid: { status: 400, title: "The ttl is invalid" },
  deprecation_invalid: { status: 400, title: "The deprecation is invalid" },
  share_invalid: { status: 400, title: "A share is not between 0 and 1, or not a challenger's" },
  wrong_type: { status: 400, title: "A field has the wrong type" },
  field_missing: { status: 400, title: "A required field is missing" },
  number_not_finite: { status: 400, title: "A number is not finite" },
  number_too_large: { status: 400, title: "A number is too large" },
  key_missing_in_body: { status: 400, title: "A join key is missing" },
  key_invalid: { status: 400, title: "A join key is invalid" },
  key_too_long: { status: 400, title: "A join key is too long" },
  value_type: { status: 400, title: "A value has another type than its feature" },
  value_range: { status: 400, title: "A value is out of range" },
  row_shape: { status: 400, title: "A row has another shape" },
  entity_erased: { status: 400, title: "The entity has been erased" },
  entities_differ: { status: 400, title: "Features of several entities cannot be pushed together" },
  value_too_long: { status: 400, title: "A text is too long" },
  selection_invalid: { status: 400, title: "Which features to read is not clear" },
  entities_uneven: { status: 400, title: "Rows are not whole" },
  push_target_invalid: { status: 400, title: "There is no such place to push to" },
  names_collide: { status: 400, title: "Two features have one name" },
  too_many_records: { status: 400, title: "Too many records" },
  too_many_rows: { status: 400, title: "Too many rows" },
  too_many_candidates: { status: 400, title: "Too many candidates" },
  too_many_features: { status: 400, title: "Too many features" },
  record_shape: { status: 400, title: "An event is no object" },
  record_too_large: { status: 400, title: "An event is too large" },
  field_unknown: { status: 400, title: "The contract lacks a field" },
  field_enriched: { status: 400, title: "A field is filled by lookup" },
  not_single_object: { status: 400, title: "The bytes are no Avro record" },
  schema_unknown: { status: 400, title: "The schema fingerprint is not known" },
  schema_id_unknown: { status: 400, title: "The registry has no such schema" },
  schema_wrong_record: { status: 400, title: "The schema is of another stream's record" },
  schema_incompatible: { status: 400, title: "The schema does not resolve to the contract" },
  schema_unreadable: { status: 400, title: "The schema cannot be read" },
  framing_corrupt: { status: 400, title: "The compressed body is damaged" },
  avro_truncated: { status: 400, title: "The Avro record is cut off" },
  avro_trailing: { status: 400, title: "Bytes follow the Avro record" },
  avro_invalid: { status: 400, title: "The Avro record does not fit its schema" },
  precision_loss: { status: 400, title: "An integer would lose digits" },
  tenant_mismatch: { status: 400, title: "The event belongs to another tenant" },
  text_invalid: { status: 400, title: "A text is not valid Unicode" },
  event_id_missing: { status: 400, title: "The event id is missing" },
  event_time_invalid: { status: 400, title: "The event time is not valid" },
  event_time_future: { status: 400, title: "The event time lies in the future" },
  partition_key_missing: { status: 400, title: "The partition key is missing" },
  aggregate_invalid: { status: 400, title: "The aggregated record is damaged" },
  records_invalid: { status: 400, title: "No record was accepted" },
  scope_unknown: { status: 400, title: "The scope does not exist" },
  key_name_invalid: { status: 400, title: "The key's name is invalid" },
  api_key_in_url: { status: 400, title: "The URL holds an API key" },
  api_key_missing: { status: 401, title: "An API key is required" },
  api_key_invalid: { status: 401, title: "The API key is not valid" },
  api_key_expired: { status: 401, title: "The API key has expired" },
  scope_missing: { status: 403, title: "The API key lacks the scope" },
  scope_not_held: { status: 403, title: "The key cannot give the scope" },
  not_found: { status: 404, title: "There is nothing here" },
  stream_unknown: { status: 404, title: "The stream does not exist" },
  service_unknown: { status: 404, title: "The service does not exist" },
  entity_unknown: { status: 404, title: "The entity does not exist" },
  feature_unknown: { status: 404, title: "The feature does not exist" },
  view_unknown: { status: 404, title: "The feature view does not exist" },
  request_data_missing: { status: 404, title: "Request data is missing" },
  alias_unknown: { status: 404, title: "The alias does not exist" },
  model_version_unknown: { status: 404, title: "The model version does not exist" },
  job_unknown: { status: 404, title: "The job does not exist" },
  record_unknown: { status: 404, title: "The quarantine has no such record" },
  erasure_unknown: { status: 404, title: "There is no such erasure" },
  key_unknown: { status: 404, title: "The key does not exist" },
  method_not_allowed: { status: 405, title: "The method is not allowed here" },
  feature_conflict: { status: 409, title: "The feature is registered otherwise" },
  feature_declared: { status: 409, title: "The view is declared" },
  feature_limit: { status: 409, title: "There are too many features" },
  materialization_running: { status: 409, title: "The view is being materialized" },
  job_ended: { status: 409, title: "The job has ended" },
  service_without_model: { status: 409, title: "The service has nothing to score with" },
  service_without_ranking: { status: 409, title: "The service does not rank" },
  variant_absent: { status: 409, title: "The variant is not served" },
  gate_refused: { status: 409, title: "The gate refuses the model" },
  model_unservable: { status: 409, title: "The model could not serve" },
  alias_conflict: { status: 409, title: "The aliases were changed meanwhile" },
  alias_standing: { status: 409, title: "The version has the alias already" },
  champion_needed: { status: 409, title: "The champion is needed as champion" },
  alias_empty: { status: 409, title: "The alias is not given" },
  rollback_impossible: { status: 409, title: "There is nothing to go back to" },
  key_not_live: { status: 409, title: "The key has expired" },
  key_rotated: { status: 409, title: "The key was rotated already" },
  rotation_pending: { status: 409, title: "The rotation before is not over" },
  last_admin_key: { status: 409, title: "The key is the last of its kind" },
  too_many_keys: { status: 409, title: "The tenant has too many keys" },
  body_too_large: { status: 413, title: "The body is too large" },
  content_encoding_unsupported: { status: 415, title: "The body's compression is not supported" },
  content_type_unsupported: { status: 415, title: "The content type is not supported" },
  push_source_unknown: { status: 422, title: "The push source does not exist" },
  throttled: { status: 429, title: "The stream is at its limit" },
  rate_limited: { status: 429, title: "The tenant is at its limit" },
  quota_exceeded: { status: 429, title: "The tenant's quota is too small" },
  too_many_jobs: { status: 429, title: "The tenant has too many jobs" },
  materialization_failed: { status: 500, title: "The materialization failed" },
  internal: { status: 500, title: "Something failed on our side" },
  integration_failure: { status: 502, title: "The function could not answer" },
  broker_unavailable: { status: 503, title: "The broker does not answer" },
  read_overtaken: { status: 503, title: "The read was overtaken by writes" },
  store_unavailable: { status: 503, title: "The online store does not answer" },
  store_full: { status: 503, title: "The online store is full" },
  archive_unavailable: { status: 503, title: "The archive does not answer" },
  catalogue_busy: { status: 503, title: "Too many registrations at once" },
  catalogue_unavailable: { status: 503, title: "Registered features cannot be read" },
  jobs_unavailable: { status: 503, title: "Jobs cannot be kept" },
  registry_unavailable: { status: 503, title: "The model registry does not answer" },
  quarantine_unavailable: { status: 503, title: "The quarantine does not answer" },
  schema_registry_unavailable: { status: 503, title: "The schema registry does not answer" },
  erasures_unavailable: { status: 503, title: "The table of erasures does not answer" },
  audit_unavailable: { status: 503, title: "The audit log does not answer" },
  keys_unavailable: { status: 503, title: "API keys cannot be checked" },
  overloaded: { status: 503, title: "Too many calls at once" },
  not_ready: { status: 503, title: "Not ready" },
  integration_timeout: { status: 504, title: "The function did not answer in time" },
} as const satisfies Record<string, ProblemType>;

export type ProblemCode = keyof typeof PROBLEMS;

interface ProblemOptions {
  /** Path of the offending field, as `entities.card_id` or `[3].amount`. */
  readonly field?: string;
  readonly repair?: string;
  /** Further members of the document (RFC 9457 extensions), as a record's results. */
  readonly extra?: Readonly<Record<string, unknown>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly cause?: unknown;
}

/** Thrown anywhere in a handler; the router answers with its document. */
export class Problem extends FreshetError {
  override readonly name = "Problem";
  readonly status: number;
  readonly title: string;
  readonly extra: Readonly<Record<string, unknown>>;
  readonly headers: Readonly<Record<string, string>>;

  constructor(code: ProblemCode, detail: string, options: ProblemOptions = {}) {
    super(code, detail, options);
    this.status = PROBLEMS[code].status;
    this.title = PROBLEMS[code].title;
    this.extra = options.extra ?? {};
    this.headers = options.headers ?? {};
  }
}

/** One that callers get in floods, without a stack: taking that costs more than all else of such an answer but its socket. */
export function turnedAway(code: ProblemCode, detail: string, options: ProblemOptions): Problem {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    return new Problem(code, detail, options);
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}

/** A URN, because the code is the identity and no host has to answer for it. */
export const problemType = (code: string): string => `urn:freshet:problem:${code}`;

/**
 * What the caller is told about any thrown value. Only errors made for callers speak for themselves; anything else is
 * `internal` without its message, which may hold what a caller must not see.
 */
export function toProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  // A store's own words are for operators; a caller needs to know what to do with the request.
  if (error instanceof InfrastructureError) {
    if (error.code === "jobs_unavailable" || error.code === "historical_unavailable") {
      return new Problem("jobs_unavailable", "the table or the bucket of jobs does not answer", {
        repair: "send the request again in a few seconds",
        headers: { "retry-after": "2" },
        cause: error,
      });
    }
    if (error.code === "quarantine_unavailable") {
      return new Problem("quarantine_unavailable", "the table or the bucket of the quarantine does not answer", {
        repair: "send the request again in a few seconds",
        headers: { "retry-after": "2" },
        cause: error,
      });
    }
    if (error.code === "schema_registry_unavailable" || error.code === "secret_unavailable") {
      return new Problem("schema_registry_unavailable", "the schema registry does not answer", {
        repair: "send the request again in a few seconds",
        headers: { "retry-after": "2" },
        cause: error,
      });
    }
    if (error.code === "store_full") {
      return new Problem("store_full", "the online store has no memory left: what was to be written was not", {
        repair: "send the request again later; reads and scores go on, and /ready says what is wrong",
        headers: { "retry-after": "10" },
        cause: error,
      });
    }
    return new Problem("store_unavailable", "the online store does not answer", {
      repair: "send the request again; scores are answered meanwhile, degraded, and /ready says what is wrong",
      headers: { "retry-after": "1" },
      cause: error,
    });
  }
  if (error instanceof FreshetError && error.code in PROBLEMS) {
    const { field, repair, cause } = error;
    return new Problem(error.code as ProblemCode, error.message, { field, repair, cause });
  }
  return new Problem("internal", "the request could not be answered because of an error on our side", {
    repair: "try again; if it stays, give the request_id to whoever runs this service",
    cause: error,
  });
}

export function problemBody(problem: Problem, requestId: string): string {
  return JSON.stringify({
    type: problemType(problem.code),
    title: problem.title,
    status: problem.status,
    detail: problem.message,
    code: problem.code,
    field: problem.field,
    repair: problem.repair,
    request_id: requestId,
    ...problem.extra,
  });
}

/** A name or value of the caller's, at a length that a message bears. */
export const shorten = (text: string): string => (text.length <= 80 ? text : `${text.slice(0, 77)}…`);

/** What was given, for a message: by value where it is short, else by its kind. */
export const shown = (given: unknown): string =>
  typeof given === "string"
    ? `"${shorten(given)}"`
    : typeof given === "number" || typeof given === "boolean"
      ? String(given)
      : typeName(given);

/** `use one of a, b or c`, with the nearest name first when the given one looks like a slip. */
export function suggest(given: string, names: readonly string[]): string {
  const nearest = names
    .map((name) => ({ name, distance: editDistance(given.slice(0, 64), name) }))
    .filter(({ name, distance }) => distance <= Math.max(2, Math.floor(name.length / 4)))
    .sort((a, b) => a.distance - b.distance)[0];
  if (nearest) return `did you mean ${nearest.name}?`;
  if (names.length === 0) return "none is defined";
  const shown = names.slice(0, 12).join(", ");
  return names.length > 12 ? `use one of ${shown}, … (${names.length} in all)` : `use one of ${shown}`;
}

/** `; or use one of …` at the end of another repair, and nothing where there is none to use. */
export const orSuggest = (given: string, names: readonly string[]): string =>
  names.length === 0 ? "" : `; or ${suggest(given, names)}`;

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = previous[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(previous[j] + 1, current[j - 1] + 1, substitution));
    }
    previous = current;
  }
  return previous[b.length];
}
