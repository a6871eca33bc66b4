/** Kinesis to Valkey: applies one batch of one shard exactly once (DESIGN §6). Wiring; the work is in shared/aggregation.ts. */
import { MetricUnit } from "@aws-lambda-powertools/metrics";
import type { KinesisStreamBatchResponse, KinesisStreamEvent } from "aws-lambda";
import { isEpochChange, type StoreApplier } from "../adapters/valkey/applier.ts";
import { addToStats } from "../adapters/valkey/stats.ts";
import { FreshetError } from "../core/errors.ts";
import { plan } from "../features/plan.ts";
import { type AggregationPorts, aggregateBatch, type BatchResult, replayBatch } from "./shared/aggregation.ts";
import { aggregationClients } from "./shared/aggregation-ports.ts";
import { describeError, logger, metrics } from "./shared/observability.ts";
import { streamOf } from "./shared/streams.ts";

const clients = aggregationClients();
let applier: StoreApplier | null = null;

async function portsFor(arn: string, replaying: boolean): Promise<AggregationPorts> {
  const stream = streamOf(plan, arn);
  if (!stream) {
    throw new FreshetError("stream_unknown", `the plan has no stream for ${arn}`, { repair: "deploy this plan's app" });
  }
  const current = replaying ? await clients.applier(true) : (applier ??= await clients.applier(false));
  return clients.portsFor(stream, current);
}

/** From `freshet recover`: records of one shard that were delivered before, in the mapping's own form. */
export interface ReplayEvent extends KinesisStreamEvent {
  readonly replay: true;
}

export async function handler(
  event: KinesisStreamEvent | ReplayEvent,
): Promise<KinesisStreamBatchResponse | { applied: number }> {
  const [{ eventSourceARN, eventID }] = event.Records;
  const shard = eventID.slice(0, eventID.lastIndexOf(":"));
  const records = event.Records.map(({ kinesis }) => ({
    sequence: kinesis.sequenceNumber,
    arrivalMs: Math.round(kinesis.approximateArrivalTimestamp * 1000),
    bytes: Buffer.from(kinesis.data, "base64"),
  }));
  const stream = streamOf(plan, eventSourceARN)?.name ?? "unknown";
  try {
    if ("replay" in event) {
      const applied = await replayBatch(await portsFor(eventSourceARN, true), shard, records);
      logger.info("replayed", { stream, shard, records: records.length, applied });
      return { applied };
    }
    const result = await aggregateBatch(await portsFor(eventSourceARN, false), shard, records);
    await addToStats(clients.connection, stream, result).catch(() => {});
    report(stream, shard, records.length, result);
    return { batchItemFailures: [] };
  } catch (error) {
    // Another epoch stands: the next delivery begins with it.
    if (isEpochChange(error)) applier = null;
    metrics.addDimension("stream", stream);
    metrics.addMetric("ApplyBlocked", MetricUnit.Count, 1);
    metrics.publishStoredMetrics();
    logger.error("batch blocked", { stream, shard, records: records.length, ...describeError(error) });
    throw error;
  }
}

function report(stream: string, shard: string, records: number, result: BatchResult): void {
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
