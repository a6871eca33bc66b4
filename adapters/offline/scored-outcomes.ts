/** Logged scores beside what became of their events: the inference log joined with the labels stream by event id. */
import { GetObjectCommand, ListObjectsV2Command, type S3Client } from "@aws-sdk/client-s3";
import type { DecisionDefinition } from "../../core/definition.ts";
import { InfrastructureError } from "../../core/errors.ts";
import type { Outcome, Pair } from "../../core/scoring/arms.ts";
import { decide } from "../../core/scoring/scoring.ts";
import { type InferenceRow, readInferenceLog } from "../inference-log/inference-log-format.ts";
import { tenantPartition } from "../s3/object-path.ts";
import { hourOfKey } from "./archive-view.ts";
import { type DuckSession, sqlName } from "./duckdb.ts";
import type { LabelJoin } from "./spine.ts";

const HOUR_MS = 3_600_000;

export interface LogRange {
  readonly tenant: string;
  readonly service: string;
  /** Instants of scoring, half-open. */
  readonly fromMs: number;
  readonly toMs: number;
}

/** Rows of the inference log, in the order of their objects. @throws InfrastructureError `archive_unavailable`, RecordError */
export async function* readScores(
  s3: Pick<S3Client, "send">,
  bucket: string,
  { tenant, service, fromMs, toMs }: LogRange,
): AsyncGenerator<InferenceRow> {
  const prefix = `inference-log/tenant=${tenantPartition(tenant)}/service=${service}/`;
  const fail = (cause: unknown) =>
    new InfrastructureError("archive_unavailable", `reading the inference log in bucket ${bucket} failed`, {
      repair: "look at the bucket and at the permission on it",
      cause,
    });
  let ContinuationToken: string | undefined;
  do {
    const page = await s3
      .send(new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix, ContinuationToken }))
      .catch((cause) => Promise.reject(fail(cause)));
    for (const { Key } of page.Contents ?? []) {
      const hour = hourOfKey(Key!);
      if (hour === null || hour + HOUR_MS <= fromMs || hour >= toMs) continue;
      const { Body } = await s3
        .send(new GetObjectCommand({ Bucket: bucket, Key }))
        .catch((cause) => Promise.reject(fail(cause)));
      for (const row of readInferenceLog(await Body!.transformToByteArray())) {
        if (row.asOfMs >= fromMs && row.asOfMs < toMs) yield row;
      }
    }
    ContinuationToken = page.NextContinuationToken;
  } while (ContinuationToken !== undefined);
}

/** The newest label of each event. @param relation the labels stream, as archive-view.ts describes it */
export async function newestLabels(
  session: DuckSession,
  relation: string,
  join: LabelJoin,
): Promise<Map<string, boolean>> {
  const rows = await session.rows(`
SELECT CAST(fields.${sqlName(join.idField)} AS VARCHAR) AS id,
  max_by(CAST(fields.${sqlName(join.valueField)} AS BOOLEAN), ROW(event_time_ms, identity)) AS value
FROM ${relation} WHERE reason IS NULL AND identity IS NOT NULL GROUP BY 1`);
  return new Map(
    rows.flatMap(({ id, value }) => (id === null || value === null ? [] : [[id as string, value as boolean]])),
  );
}

export interface ScoredOutcomes {
  /** Of the arms that chance has dealt. */
  readonly outcomes: readonly Outcome[];
  /** What a shadow scored beside the champion. */
  readonly pairs: readonly Pair[];
  /** Rows that are in no arm, by reason. */
  readonly leftOut: Readonly<Record<"asked_for" | "not_dealt" | "no_event_id" | "scored_again", number>>;
}

/**
 * Rows of the log as outcomes of arms. Left out: variants that a caller asked for, and rows that had but one variant to go to
 * (before the experiment, or without its key), since chance has dealt neither; scores without an event id, whose outcome nobody
 * can tell; and an event's scores after its first. A shadow is held to the champion on the rows that both scored, dealt or not.
 * @param limits what a shadow's scores are held to
 * @param key the experiment's: a join key or a request field
 */
export async function outcomesOf(
  rows: AsyncIterable<InferenceRow>,
  labels: ReadonlyMap<string, boolean>,
  limits: DecisionDefinition,
  key: string,
): Promise<ScoredOutcomes> {
  const outcomes: Outcome[] = [];
  const pairs: Pair[] = [];
  const leftOut = { asked_for: 0, not_dealt: 0, no_event_id: 0, scored_again: 0 };
  const seen = new Set<string>();
  for await (const { eventId, assigned, variant, model, score, decision, shadow, keys, request } of rows) {
    if (assigned === "request") leftOut.asked_for++;
    else if (eventId === null) leftOut.no_event_id++;
    else if (seen.has(eventId)) leftOut.scored_again++;
    else {
      seen.add(eventId);
      const value = request[key] ?? keys[key] ?? null;
      // What has no key shares nothing with another row that anybody knows of.
      const unit = value === null ? `event ${eventId}` : `key ${value}`;
      const one = { unit, positive: labels.get(eventId) ?? null };
      const verdict = { arm: `${variant} ${model}`, score, declined: decision === "decline" };
      if (assigned === "hash") outcomes.push({ ...one, ...verdict });
      else leftOut.not_dealt++;
      if (shadow !== null && variant === "champion") {
        const declined = decide(shadow.score, limits) === "decline";
        const beside = { arm: `shadow ${shadow.model}`, score: shadow.score, declined };
        pairs.push({ ...one, champion: verdict, shadow: beside });
      }
    }
  }
  return { outcomes, pairs, leftOut };
}
