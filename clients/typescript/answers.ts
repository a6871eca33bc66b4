/** What the API answers. */

export type Scalar = number | string | boolean | null;

export type Status = "PRESENT" | "NULL_VALUE" | "NOT_FOUND" | "OUTSIDE_MAX_AGE" | "NOT_READY";
export interface FeatureValue<V> {
  readonly value: V | null;
  readonly status: Status;
  /** Newest event time behind the value, epoch milliseconds. */
  readonly event_time_ms: number | null;
}
export interface ReadTail {
  /** The clock of the read; windows end here. */
  readonly as_of_ms: number;
  readonly degraded: boolean;
  readonly degraded_reason: string | null;
  /** Of the oldest snapshot that stood in for the store; absent where the store answered. */
  readonly snapshot_age_ms?: number;
  readonly request_id: string;
}
export interface Explanation {
  readonly method: "rules" | "path" | "shap";
  readonly base: number;
  readonly raw_score: number | null;
  readonly contributions: readonly {
    readonly name: string;
    readonly contribution: number;
    readonly value?: Scalar;
    readonly reason?: string;
    readonly weight?: number;
  }[];
  readonly reasons: readonly { readonly name: string; readonly text: string; readonly contribution: number }[];
  readonly features: Readonly<Record<string, Scalar>>;
}
export type Variant = "champion" | "challenger" | "fallback";
interface ScoredRow<F extends string> {
  readonly score: number;
  readonly decision: "approve" | "review" | "decline";
  readonly model_version: string;
  readonly variant: Variant;
  readonly features_used: readonly F[];
  readonly features_missing: readonly F[];
  readonly degraded: boolean;
  readonly degraded_reason: string | null;
  /** Of the oldest snapshot that stood in for the store; absent where the store answered. */
  readonly snapshot_age_ms?: number;
}
interface ScoreTail {
  readonly latency_ms: number;
  readonly as_of_ms: number;
  readonly request_id: string;
}
export type Score<F extends string> = ScoredRow<F> & ScoreTail & { readonly explanation?: Explanation };
export type BatchScore<F extends string> = ScoreTail & { readonly rows: readonly ScoredRow<F>[] };
export interface Ranking extends ScoreTail {
  readonly items: readonly {
    readonly id: string;
    readonly score: number;
    /** Send it as the id of the event that says that the candidate was shown. */
    readonly event_id: string;
    readonly features_missing: readonly string[];
    readonly explanation?: Explanation;
  }[];
  readonly candidates: number;
  readonly model_version: string | null;
  readonly variant: Variant | null;
  readonly degraded: boolean;
  readonly degraded_reason: string | null;
  /** Of the oldest snapshot that stood in for the store; absent where the store answered. */
  readonly snapshot_age_ms?: number;
}
export interface EventResult {
  readonly index: number;
  readonly event_id: string | null;
  /** `throttled` after the last attempt only. */
  readonly status: "queued" | "invalid" | "throttled";
  readonly enriched?: boolean;
  readonly not_enriched?: Readonly<Record<string, string>>;
  readonly code?: string;
  readonly field?: string;
  readonly detail?: string;
  readonly repair?: string;
}
export interface SendAnswer {
  readonly queued: number;
  readonly invalid: number;
  readonly throttled: number;
  /** One for each event, in the order given. */
  readonly results: readonly EventResult[];
}
export interface PushRequest {
  readonly features: readonly string[];
  readonly rows: readonly {
    readonly id: string;
    readonly event_time_ms: number | string;
    readonly values: readonly Scalar[];
  }[];
}
export interface PushAnswer {
  readonly accepted: number;
  readonly refused: number;
  readonly visible_ms: number | null;
  readonly results: readonly { readonly index: number; readonly code: string; readonly detail: string }[];
  readonly request_id: string;
}
export interface HistoricalJob {
  readonly job_id: string;
  readonly state: "queued" | "running" | "done" | "failed" | "cancelled";
  readonly progress: number;
  readonly files: readonly { readonly name: string; readonly url: string; readonly expires_ms: number }[];
  readonly manifest: Readonly<Record<string, unknown>> | null;
  readonly error: { readonly code: string; readonly detail: string; readonly repair: string | null } | null;
}
