/**
 * The inference log's object format, version 1: one JSON row a line, in the order of scoring, compressed as one zstd frame with
 * a checksum. A row says everything that went into one score, so that the offline join can be held to it and arms can be
 * compared. The order of a row's keys is fixed, and golden bytes hold it.
 */
import { promisify } from "node:util";
import { constants, zstdCompress } from "node:zlib";
import { RecordError } from "../../core/errors.ts";
import type { Scalar, Status } from "../../core/plan.ts";
import { oneFrame, onlyFrame } from "../s3/zstd-frame.ts";

const INFERENCE_LOG_VERSION = 1;

export interface ShadowScore {
  readonly model: string;
  readonly score: number;
  readonly raw: number;
}

export interface InferenceRow {
  readonly tenant: string;
  readonly service: string;
  readonly requestId: string;
  /** Position in a batch; 0 for a single score. */
  readonly row: number;
  /** Of the event that is scored, where the caller sent it along: outcomes are joined by it. */
  readonly eventId: string | null;
  /** The clock of the read, which every window ends at. */
  readonly asOfMs: number;
  readonly planHash: string;
  /** Ids by join key; null where the caller had none. */
  readonly keys: Readonly<Record<string, string | null>>;
  /** By name. Fields that the service marks `pii` are `sha256:` and the first 64 bits in hex, null when absent. */
  readonly request: Readonly<Record<string, Scalar>>;
  /** Names of the next three: the service's features, its on-demand features, its request fields. */
  readonly features: readonly string[];
  /** As read and computed, before declared defaults; null for an absent value, and hashed as in `request`. */
  readonly values: readonly Scalar[];
  /** Of the stored features, which come first; empty when the store did not answer. */
  readonly statuses: readonly Status[];
  /** What the model was fed, defaults and codes included; null is NaN, and stands for a number marked `pii`. Null without a model. */
  readonly vector: readonly (number | null)[] | null;
  /** `fraud-lightgbm@7`, or the rules' version. */
  readonly model: string;
  readonly variant: string;
  /** How the variant came about: by the experiment's hash, asked for by the caller, or the only one there was for a row (or its lack of a key). */
  readonly assigned: "hash" | "request" | "only";
  readonly score: number;
  /** In log-odds; null for rules. */
  readonly raw: number | null;
  readonly decision: string;
  readonly degraded: string | null;
  readonly shadow: ShadowScore | null;
}

/** One line, newline included. */
export function inferenceLine(row: InferenceRow): string {
  return `${JSON.stringify({
    v: INFERENCE_LOG_VERSION,
    tenant: row.tenant,
    service: row.service,
    request_id: row.requestId,
    row: row.row,
    event_id: row.eventId,
    as_of_ms: row.asOfMs,
    plan_hash: row.planHash,
    keys: row.keys,
    request: row.request,
    features: row.features,
    values: row.values,
    statuses: row.statuses,
    vector: row.vector,
    model: row.model,
    variant: row.variant,
    assigned: row.assigned,
    score: row.score,
    raw: row.raw,
    decision: row.decision,
    degraded: row.degraded,
    shadow: row.shadow,
  })}\n`;
}

const compress = promisify(zstdCompress);

/** Off the event loop: an object may hold megabytes. @param lines as `inferenceLine` makes them, in UTF-8 */
export const encodeInferenceLog = async (lines: Uint8Array): Promise<Buffer> =>
  oneFrame(
    await compress(lines, {
      params: { [constants.ZSTD_c_compressionLevel]: 1, [constants.ZSTD_c_checksumFlag]: 1 },
    }),
  );

/**
 * Rows of an object, in its order.
 * @throws RecordError `inference_log_truncated`, `inference_log_trailing`, `inference_log_corrupt`, `inference_log_version`
 */
export function* readInferenceLog(bytes: Uint8Array): Generator<InferenceRow> {
  const body = onlyFrame(bytes, "inference_log", "inference log object");
  if (body.length > 0 && body[body.length - 1] !== 0x0a) {
    throw new RecordError("inference_log_truncated", "inference log object ends inside a row");
  }
  let start = 0;
  for (let number = 1; start < body.length; number++) {
    const end = body.indexOf(0x0a, start);
    yield parseRow(body.toString("utf8", start, end), number);
    start = end + 1;
  }
}

function parseRow(line: string, number: number): InferenceRow {
  let raw: Record<string, any>;
  try {
    raw = JSON.parse(line);
  } catch (cause) {
    throw new RecordError("inference_log_corrupt", `row ${number} of the inference log object is not JSON`, { cause });
  }
  if (raw?.["v"] !== INFERENCE_LOG_VERSION) {
    throw new RecordError(
      "inference_log_version",
      `row ${number} of the inference log object has version ${JSON.stringify(raw?.["v"] ?? null)}, this reader knows ${INFERENCE_LOG_VERSION}`,
      { repair: "read it with the release that wrote it, or a newer one" },
    );
  }
  const { v: _, request_id, event_id, as_of_ms, plan_hash, ...rest } = raw;
  return {
    ...rest,
    requestId: request_id,
    eventId: event_id ?? null,
    asOfMs: as_of_ms,
    planHash: plan_hash,
  } as InferenceRow;
}
