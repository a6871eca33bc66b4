/** Delivers again what was given up or set aside: what waits for it each minute, and what an operator asks for. */
import { MetricUnit } from "@aws-lambda-powertools/metrics";
import type { Context } from "aws-lambda";
import { FailedBatches } from "../adapters/failed-batches.ts";
import { QuarantineIndex } from "../adapters/quarantine-index.ts";
import { QuarantineJobs } from "../adapters/quarantine-jobs.ts";
import type { StoreApplier } from "../adapters/valkey/applier.ts";
import { FreshetError } from "../core/errors.ts";
import type { Stream } from "../core/plan.ts";
import { plan } from "../features/plan.ts";
import { aggregationClients } from "./shared/aggregation-ports.ts";
import { requireEnvironment } from "./shared/environment.ts";
import { type FailedReplayReport, replayFailed } from "./shared/failed-replay.ts";
import { describeError, logger, metrics } from "./shared/observability.ts";
import { changeQuarantine, type QuarantineChange, type QuarantineChangeReport } from "./shared/quarantine-change.ts";
import { runQuarantineJobs } from "./shared/quarantine-run.ts";
import { streamOf } from "./shared/streams.ts";

const clients = aggregationClients();
const { s3, dynamodb } = clients;
const kept = {
  s3,
  dynamodb,
  bucket: requireEnvironment("quarantineBucket"),
  table: requireEnvironment("quarantineTable"),
};
const batches = new FailedBatches(kept);
const quarantine = {
  index: new QuarantineIndex(kept),
  jobs: new QuarantineJobs(kept),
  streams: plan.streams,
  clock: Date.now,
};
/** Left for the batch that was begun last, and the answer. */
const RESERVE_MS = 90_000;

/** A rule's own event has no `kind`. */
export type ReplayEvent =
  | {
      readonly kind?: "waiting" /** Tries batches again that are tried no more by themselves. */;
      readonly retryParked?: boolean;
    }
  | { readonly kind: "quarantine"; readonly change: QuarantineChange /** Of this call. */; readonly budgetMs: number };

export async function handler(
  event: ReplayEvent,
  context: Pick<Context, "getRemainingTimeInMillis">,
): Promise<FailedReplayReport | QuarantineChangeReport> {
  const untilMs = Date.now() + context.getRemainingTimeInMillis() - RESERVE_MS;
  // Once an invocation: another epoch may have begun since the last one.
  let applier: Promise<StoreApplier> | undefined;
  const portsFor = async (stream: Stream) => clients.portsFor(stream, await (applier ??= clients.applier(false)));
  const isOutOfTime = () => Date.now() > untilMs;
  if (event.kind === "quarantine") {
    const endMs = Math.min(untilMs, Date.now() + event.budgetMs);
    const report = await changeQuarantine({ ...quarantine, portsFor }, event.change, () => Date.now() > endMs);
    logger.info("quarantine changed", { kind: event.change.kind, ...report });
    return report;
  }
  const report = await replayFailed(
    {
      batches,
      portsFor: (arn) => portsFor(knownStream(arn)),
      onBatch: ({ shard, records }, key) =>
        logger.info("failed batch replayed", { key, shard, records: records.length }),
      onFailure: (key, error) => logger.error("failed batch not replayed", { key, ...describeError(error) }),
    },
    isOutOfTime,
    event,
  );
  metrics.addDimension("service", "replay");
  metrics.addMetric("FailedBatches", MetricUnit.Count, report.waiting);
  metrics.addMetric("FailedBatchesParked", MetricUnit.Count, report.parked);
  metrics.addMetric("FailedBatchesReplayed", MetricUnit.Count, report.batches);
  metrics.publishStoredMetrics();
  const onFailure = (job: string, error: unknown) =>
    logger.error("quarantine not changed", { job, ...describeError(error) });
  for (const { id, kind, counts } of await runQuarantineJobs({ ...quarantine, portsFor, onFailure }, isOutOfTime))
    logger.info("quarantine changed", { job: id, kind, ...counts });
  return report;
}

function knownStream(arn: string): Stream {
  const stream = streamOf(plan, arn);
  if (stream !== null) return stream;
  throw new FreshetError("stream_unknown", `the plan has no stream for ${arn}`, {
    repair: "deploy the plan that has it, or remove the object",
  });
}
