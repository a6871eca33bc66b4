/** Kinesis to Valkey: applies one batch of one shard exactly once (DESIGN §6). Wiring; the work is in shared/aggregation.ts. */
import { MetricUnit } from "@aws-lambda-powertools/metrics";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { S3Client } from "@aws-sdk/client-s3";
import type { KinesisStreamBatchResponse, KinesisStreamEvent } from "aws-lambda";
import { ArchiveWriter } from "../adapters/archive.ts";
import { EventCodec } from "../adapters/avro/event-codec.ts";
import { ControlTable } from "../adapters/control-table.ts";
import { DURABLE_CLIENT } from "../adapters/durable-call.ts";
import { LateQueue } from "../adapters/late-queue.ts";
import { QuarantineWriter } from "../adapters/quarantine.ts";
import { STORE_STATES } from "../adapters/store-states.ts";
import { isEpochChange, StoreApplier } from "../adapters/valkey/applier.ts";
import { ValkeyConnection } from "../adapters/valkey/connection.ts";
import { valkeyOptionsFromEnvironment } from "../adapters/valkey/options.ts";
import { RecordPacker } from "../adapters/valkey/record.ts";
import { refusedBy } from "../adapters/valkey/replies.ts";
import { addToStats } from "../adapters/valkey/stats.ts";
import { Watermark } from "../adapters/valkey/watermark.ts";
import { FreshetError } from "../core/errors.ts";
import { lock, plan } from "../features/plan.ts";
import { type AggregationPorts, aggregateBatch, type BatchResult, replayBatch } from "./shared/aggregation.ts";
import { currentEpoch } from "./shared/current-store.ts";
import { requireEnvironment } from "./shared/environment.ts";
import { describeError, logger, metrics } from "./shared/observability.ts";
import { streamOf } from "./shared/streams.ts";

const s3 = new S3Client(DURABLE_CLIENT);
const dynamodb = new DynamoDBClient(DURABLE_CLIENT);
// A trip takes 100 ms; a store that is busy with others may take long, and giving up only repeats the work.
const connection = new ValkeyConnection({ ...valkeyOptionsFromEnvironment(), timeoutMs: 15_000 });
const controlTable = new ControlTable({ table: requireEnvironment("controlTable"), dynamodb });
const watermark = new Watermark(connection);
const archive = new ArchiveWriter({ bucket: requireEnvironment("archiveBucket"), s3 });
const quarantine = new QuarantineWriter({
  bucket: requireEnvironment("quarantineBucket"),
  table: requireEnvironment("quarantineTable"),
  s3,
  dynamodb,
});
const late = new LateQueue({ table: requireEnvironment("lateTable"), dynamodb });
const packers = new Map<string, RecordPacker>();
let applier: StoreApplier | null = null;

/** @throws InfrastructureError `store_not_ready` before the control function ran; DefinitionError `plan_lock_contradicts` */
async function applierAtCurrentEpoch(replaying: boolean): Promise<StoreApplier> {
  const epoch = await currentEpoch(controlTable, lock);
  if (epoch === null) throw refusedBy(STORE_STATES.new);
  return new StoreApplier(connection, plan, epoch, { replaying });
}

async function portsFor(arn: string, replaying: boolean): Promise<AggregationPorts> {
  const stream = streamOf(plan, arn);
  if (!stream) {
    throw new FreshetError("stream_unknown", `the plan has no stream for ${arn}`, { repair: "deploy this plan's app" });
  }
  let packer = packers.get(stream.name);
  if (!packer) {
    packer = new RecordPacker(plan, stream.name);
    packers.set(stream.name, packer);
  }
  const codec = EventCodec.for(stream.contract);
  const current = replaying ? await applierAtCurrentEpoch(true) : (applier ??= await applierAtCurrentEpoch(false));
  return { stream, codec, packer, applier: current, watermark, archive, quarantine, late };
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
    await addToStats(connection, stream, result).catch(() => {});
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
