/** Delivers again what was given up or set aside: the failure bucket each five minutes, the rest when somebody asks for it. */
import { MetricUnit } from "@aws-lambda-powertools/metrics";
import type { Context } from "aws-lambda";
import { FailedBatches } from "../adapters/failed-batches.ts";
import type { StoreApplier } from "../adapters/valkey/applier.ts";
import { FreshetError } from "../core/errors.ts";
import { plan } from "../features/plan.ts";
import { aggregationClients } from "./shared/aggregation-ports.ts";
import { requireEnvironment } from "./shared/environment.ts";
import { type FailedReplayReport, replayFailed } from "./shared/failed-replay.ts";
import { describeError, logger, metrics } from "./shared/observability.ts";
import { streamOf } from "./shared/streams.ts";

const clients = aggregationClients();
const batches = new FailedBatches({
  ...{ s3: clients.s3, dynamodb: clients.dynamodb },
  bucket: requireEnvironment("quarantineBucket"),
  table: requireEnvironment("quarantineTable"),
});
/** Left for the batch that was begun last, and the answer. */
const RESERVE_MS = 90_000;

/** A rule's own event has no `kind`. */
export interface ReplayEvent {
  readonly kind?: "failed";
  /** Tries batches again that are tried no more by themselves. */
  readonly retryParked?: boolean;
}

export async function handler(
  event: ReplayEvent,
  context: Pick<Context, "getRemainingTimeInMillis">,
): Promise<FailedReplayReport> {
  // Once an invocation: another epoch may have begun since the last one.
  let applier: Promise<StoreApplier> | undefined;
  const ports = {
    batches,
    portsFor: async (arn: string) => {
      const stream = streamOf(plan, arn);
      if (stream === null) {
        throw new FreshetError("stream_unknown", `the plan has no stream for ${arn}`, {
          repair: "deploy the plan that has it, or remove the object",
        });
      }
      applier ??= clients.applier(false);
      return clients.portsFor(stream, await applier);
    },
    onBatch: ({ shard, records }: { shard: string; records: readonly unknown[] }, key: string) =>
      logger.info("failed batch replayed", { key, shard, records: records.length }),
    onFailure: (key: string, error: unknown) =>
      logger.error("failed batch not replayed", { key, ...describeError(error) }),
  };
  const isOutOfTime = () => context.getRemainingTimeInMillis() < RESERVE_MS;
  const report = await replayFailed(ports, isOutOfTime, event);
  if (report.batches > 0) logger.info("replayed", { ...report });
  metrics.addDimension("service", "replay");
  metrics.addMetric("FailedBatches", MetricUnit.Count, report.waiting);
  metrics.addMetric("FailedBatchesParked", MetricUnit.Count, report.parked);
  metrics.addMetric("FailedBatchesReplayed", MetricUnit.Count, report.batches);
  metrics.publishStoredMetrics();
  return report;
}
