/** The manifest beside a training set's Parquet files: what it was made of, and by which plan. */
import type { FoundKeys } from "./found-keys.ts";

export type TrainingDtype = "double" | "int64" | "string" | "boolean";

export interface TrainingManifest {
  readonly version: 1;
  readonly service: string;
  readonly plan_hash: string;
  readonly tenant: string;
  readonly label_delay_ms: number | null;
  /** Which instant of an event its row is read at; `log` for that of its score, `spine` when the spine brought its own. */
  readonly as_of_rule: AsOfRule | "spine" | "log";
  readonly from_ms: number | null;
  readonly to_ms: number | null;
  readonly row_count: number;
  /** Rows whose label is 1. */
  readonly positives: number;
  /** Rows whose own event was visible at their instant, so that their windows count it. Null where rows have no event. */
  readonly own_event_visible_rows: number | null;
  /** Rows of the labels that gave none to the set, by reason. */
  readonly left_out: Readonly<Record<string, number>>;
  readonly sources: readonly TrainingSource[];
  /** What Athena was asked and has charged for, where the range was too large for one machine. */
  readonly athena?: { readonly queries: number; readonly scanned_bytes: number };
  /** Sets of earlier releases have none. */
  readonly entities?: readonly FoundKeys[];
  /** In the service's order: stored features, on-demand ones, then request fields as `request:<name>`. */
  readonly features: readonly { readonly name: string; readonly dtype: TrainingDtype }[];
}

export type AsOfRule = "event_time" | "arrival";

export interface TrainingSource {
  readonly stream: string;
  readonly raw_objects: number;
  readonly compacted_objects: number;
  /** Of the objects that were read, as `raw/tenant=t/stream=s/dt=2026-11-21/hh=14`. */
  readonly partitions: readonly string[];
  /** Damaged objects that were left out because that was asked for. */
  readonly corrupt_objects: readonly string[];
}
