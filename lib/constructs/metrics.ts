import { Duration } from "aws-cdk-lib";
import { Metric } from "aws-cdk-lib/aws-cloudwatch";

const NAMESPACE = "Freshet";
const PERIOD = Duration.minutes(1);

/** What functions write for each stream of the plan. CloudWatch finds a metric only by exactly its dimensions. */
export type StreamMetric =
  | "EventsIn"
  | "Applied"
  | "Duplicates"
  | "Late"
  | "Quarantined"
  | "IdentityConflicts"
  | "FreshnessMs"
  | "IteratorLagMs"
  | "ApplyBlocked"
  | "SealLagMs"
  | "RowsCompacted"
  | "ObjectsWaiting"
  | "PayloadConflicts"
  | "TimeConflicts"
  | "CompactionBlocked"
  | "Repaired"
  | "RepairPending"
  | "RepairLagMs"
  | "RepairFailed";
/** What the API writes for each feature service of the plan, or of itself. */
export type ServiceMetric = "ScoreLatencyMs" | "FeaturesMissing" | "Degraded";
/** What control writes of the store as a whole. */
export type StoreMetric = "BucketsNotOk";
/** What the snapshot function writes each round. */
export type SnapshotMetric =
  | "SnapshotAgeMs"
  | "SnapshotsWritten"
  | "SnapshotsTooLarge"
  | "BulkSnapshotAgeMs"
  | "BulkObjectsWritten"
  | "BulkBytesWritten";
/** What the erase function writes each five minutes. */
export type ErasureMetric = "ErasureOldestMs";
/** What the replay function writes each minute. */
export type ReplayMetric = "FailedBatches" | "FailedBatchesParked" | "FailedBatchesReplayed";
export type RouterMetric =
  | "ModelsRefused"
  | "RequestCount"
  | "LatencyMs"
  | "ServerErrors"
  | "ClientErrors"
  | "ReadsWithoutStore"
  | "ReadsUnanswered"
  | "FallbackMs"
  | "SnapshotLosses"
  | "BreakersOpened"
  | "RateLimited"
  | "LimiterFallback"
  | "EnrichmentsUnavailable";

/** Without a label, since CloudFormation takes a labelled metric for metric math, which not every emulator's alarms know. */
export function streamMetric(name: StreamMetric, stream: string, statistic: string, period = PERIOD): Metric {
  return metric(name, { stream }, statistic, period);
}

/** @param service a feature service of the plan, or the function `api`, `ingest`, `control`, `snapshot` or `replay` */
export function serviceMetric(
  name: ServiceMetric | RouterMetric | StoreMetric | SnapshotMetric | ReplayMetric | ErasureMetric,
  service: string,
  statistic: string,
): Metric {
  return metric(name, { service }, statistic, PERIOD);
}

/** What the materialize function writes for each batch view, each five minutes. */
type ViewMetric = "ViewLateMs" | "ViewLagMs" | "ViewRunFailures" | "ViewRows";

export const viewMetric = (name: ViewMetric, view: string, statistic: string): Metric =>
  metric(name, { view }, statistic, Duration.minutes(15));

/** What it writes of all that was pushed, each five minutes. */
type PushedMetric = "PushedMissing" | "ValuesDamaged";

export const pushedMetric = (name: PushedMetric, statistic: string): Metric =>
  metric(name, { service: "materialize" }, statistic, Duration.minutes(15));

/** What the verify function writes each day. */
type VerifyMetric = "EntitiesVerified" | "EntitiesDiffering";

export const verifyMetric = (name: VerifyMetric, statistic: string): Metric =>
  metric(name, { service: "verify" }, statistic, Duration.days(1));

/** For a graph, which shows several. */
export const labelled = (of: string, shown: Metric): Metric =>
  shown.with({ label: `${of} ${shown.metricName} ${shown.statistic}` });

function metric(
  metricName: string,
  dimensionsMap: Record<string, string>,
  statistic: string,
  period: Duration,
): Metric {
  return new Metric({ namespace: NAMESPACE, metricName, dimensionsMap, statistic, period });
}
