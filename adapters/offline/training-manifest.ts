/** The manifest beside a training set's Parquet files: what it was made of, and by which plan. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { FreshetError } from "../../core/errors.ts";
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

/** @throws FreshetError `manifest_missing`, `manifest_invalid`, `plan_hash_mismatch` */
export function readTrainingManifest(folder: string, planHash: string | null): TrainingManifest {
  const file = join(folder, "manifest.json");
  if (!existsSync(file)) {
    const found = existsSync(folder) ? readdirSync(folder).slice(0, 5).join(", ") || "nothing" : "no such folder";
    throw new FreshetError("manifest_missing", `the training set has no manifest.json (found: ${found})`, {
      repair: "build it with `freshet training-set`",
    });
  }
  let manifest: TrainingManifest;
  try {
    manifest = JSON.parse(readFileSync(file, "utf8")) as TrainingManifest;
  } catch (cause) {
    throw new FreshetError("manifest_invalid", `${file} is not JSON`, {
      repair: "build the training set again",
      cause,
    });
  }
  if (manifest?.version !== 1) {
    throw new FreshetError("manifest_invalid", `${file} is not of version 1`, {
      repair: "build the training set again",
    });
  }
  if (planHash !== null && manifest.plan_hash !== planHash) {
    throw new FreshetError(
      "plan_hash_mismatch",
      `the training set is of plan ${manifest.plan_hash}, the definitions are plan ${planHash}`,
      { repair: "build the training set again from the present definitions" },
    );
  }
  return manifest;
}
