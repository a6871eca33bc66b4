/** Delivers again what was given up or set aside: what waits for it each minute, and what an operator asks for. */
import { MetricUnit } from "@aws-lambda-powertools/metrics";
import type { Context } from "aws-lambda";
import { RawArchive } from "../adapters/archive/raw-archive.ts";
import { FailedBatches } from "../adapters/mapping/failed-batches.ts";
import { QuarantineIndex } from "../adapters/quarantine/quarantine-index.ts";
import { QuarantineJobs } from "../adapters/quarantine/quarantine-jobs.ts";
import type { StoreApplier } from "../adapters/valkey/applier.ts";
import { FreshetError } from "../core/errors.ts";
import type { Stream } from "../core/plan.ts";
import { plan } from "../features/plan.ts";
import { type AggregationPorts, aggregateBatch, type BatchResult } from "./shared/aggregation/aggregation.ts";
import { aggregationClients } from "./shared/aggregation/aggregation-ports.ts";
import { streamOf } from "./shared/aggregation/streams.ts";
import { requireEnvironment } from "./shared/environment.ts";
import { codedFailure } from "./shared/named-failure.ts";
import { describeError, logger, metrics } from "./shared/observability.ts";
import { type ArchiveReplay, type ArchiveReplayReport, replayArchive } from "./shared/replay/archive-replay.ts";
import { type FailedReplayReport, replayFailed } from "./shared/replay/failed-replay.ts";
import {
  changeQuarantine,
  type QuarantineChange,
  type QuarantineChangeReport,
} from "./shared/replay/quarantine-change.ts";
import { runQuarantineJobs } from "./shared/replay/quarantine-run.ts";

const clients = aggregationClients();
const { s3, dynamodb } = clients;
const kept = {
  s3,
  dynamodb,
  bucket: requireEnvironment("quarantineBucket"),
  table: requireEnvironment("quarantineTable"),
};
const batches = new FailedBatches(kept);
const archive = new RawArchive({ s3, bucket: requireEnvironment("archiveBucket") });
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
  | { readonly kind: "quarantine"; readonly change: QuarantineChange; readonly budgetMs: number }
  | { readonly kind: "archive"; readonly replay: ArchiveReplay; readonly budgetMs: number }
  | {
      readonly kind: "records";
      /** Its name in the plan. */
      readonly stream: string;
      readonly shard: string;
      readonly records: readonly { readonly sequence: string; readonly arrivalMs: number; readonly data: string }[];
    };
export type RecordsReport = Pick<BatchResult, "events" | "applied" | "duplicates" | "late" | "quarantined">;

/** @param event.budgetMs of this call, which says `more` then */
export async function handler(
  event: ReplayEvent,
  context: Pick<Context, "getRemainingTimeInMillis">,
): Promise<FailedReplayReport | QuarantineChangeReport | ArchiveReplayReport | RecordsReport> {
  const budgetMs = "budgetMs" in event ? event.budgetMs : Number.POSITIVE_INFINITY;
  const untilMs = Date.now() + Math.min(budgetMs, context.getRemainingTimeInMillis() - RESERVE_MS);
  const isOutOfTime = () => Date.now() > untilMs;
  // Once an invocation: another epoch may have begun since the last one.
  let applier: Promise<StoreApplier> | undefined;
  const portsFor = async (stream: Stream) => clients.portsFor(stream, await (applier ??= clients.applier(false)));
  try {
    switch (event.kind) {
      case "quarantine":
        return await changeQuarantine({ ...quarantine, portsFor }, event.change, isOutOfTime);
      case "archive": {
        const aggregation = await portsFor(knownStream(event.replay.stream));
        return await replayArchive({ archive, aggregation }, event.replay, isOutOfTime);
      }
      case "records": {
        const records = event.records.map(({ data, ...one }) => ({ ...one, bytes: Buffer.from(data, "base64") }));
        const again = { registeredAs: `again-${event.shard}` };
        const aggregation = await portsFor(knownStream(event.stream));
        const { events, ...counts } = await aggregateBatch(aggregation, event.shard, records, again);
        const { applied, duplicates, late, quarantined } = counts;
        return { events, applied, duplicates, late, quarantined };
      }
      default:
        return await replayWaiting(portsFor, isOutOfTime, event);
    }
  } catch (error) {
    logger.error("replay failed", { kind: event.kind ?? "waiting", ...describeError(error) });
    throw codedFailure(error);
  }
}

type PortsFor = (stream: Stream) => Promise<AggregationPorts>;

async function replayWaiting(portsFor: PortsFor, isOutOfTime: () => boolean, options: { retryParked?: boolean }) {
  const report = await replayFailed(
    {
      batches,
      portsFor: (stream) => portsFor(knownStream(stream)),
      onBatch: (runs, key) =>
        logger.info("failed batch replayed", {
          key,
          shards: runs.map(({ shard }) => shard),
          records: runs.reduce((sum, { records }) => sum + records.length, 0),
        }),
      onFailure: (key, error) => logger.error("failed batch not replayed", { key, ...describeError(error) }),
    },
    isOutOfTime,
    options,
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

/** @param of name in the plan, or the broker's: a topic, an ARN */
function knownStream(of: string): Stream {
  const stream = plan.streams.find(({ name }) => name === of) ?? streamOf(plan, of);
  if (stream !== null) return stream;
  throw new FreshetError("stream_unknown", `the plan has no stream for ${of}`, {
    repair: "deploy the plan that has it, or remove the object",
  });
}
