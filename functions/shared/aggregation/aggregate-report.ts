/** Metrics and log lines of what the aggregate function did with a batch. */
import { MetricUnit } from "@aws-lambda-powertools/metrics";
import { describeError, logger, metrics } from "../observability.ts";
import type { BatchResult } from "./aggregation.ts";

/** @param records of the broker's */
export function reportBatch(stream: string, shard: string, records: number, result: BatchResult): void {
  const nowMs = result.visibleMs ?? Date.now();
  metrics.addDimension("stream", stream);
  metrics.addMetric("EventsIn", MetricUnit.Count, result.events);
  metrics.addMetric("Applied", MetricUnit.Count, result.applied);
  metrics.addMetric("Duplicates", MetricUnit.Count, result.duplicates);
  metrics.addMetric("IteratorLagMs", MetricUnit.Milliseconds, Math.max(0, nowMs - result.arrivalMs));
  if (result.late > 0) metrics.addMetric("Late", MetricUnit.Count, result.late);
  if (result.quarantined > 0) metrics.addMetric("Quarantined", MetricUnit.Count, result.quarantined);
  if (result.erased > 0) metrics.addMetric("Erased", MetricUnit.Count, result.erased);
  const { times, payloads } = result.conflicts;
  if (times + payloads > 0) {
    metrics.addMetric("IdentityConflicts", MetricUnit.Count, times + payloads);
    logger.warn("a producer reuses event ids", { stream, shard, ...result.conflicts });
  }
  if (result.visibleMs !== null) {
    metrics.addMetric("FreshnessMs", MetricUnit.Milliseconds, Math.max(0, result.visibleMs - result.oldestArrivalMs));
  }
  metrics.publishStoredMetrics();
  if (result.failover) logger.warn("another primary answers than the one that took the last writes", { stream, shard });
  if (result.quarantined > 0)
    logger.warn("records quarantined", { stream, shard, records, quarantined: result.quarantined });
}

/** Nothing of the batch is acknowledged. */
export function reportBlocked(stream: string, shard: string, records: number, error: unknown): void {
  metrics.addDimension("stream", stream);
  metrics.addMetric("ApplyBlocked", MetricUnit.Count, 1);
  metrics.publishStoredMetrics();
  logger.error("batch blocked", { stream, shard, records, ...describeError(error) });
}
