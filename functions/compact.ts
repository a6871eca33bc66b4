/** Hourly: turns the archive's raw objects into Parquet by event time (docs/decisions/0023-compaction.md). */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MetricUnit } from "@aws-lambda-powertools/metrics";
import type { Context } from "aws-lambda";
import { DURABLE_CLIENT } from "../adapters/aws/durable-call.ts";
import { compactArchive } from "../adapters/offline/compact-archive.ts";
import type { CompactionReport } from "../adapters/offline/compaction.ts";
import { DuckSession } from "../adapters/offline/duckdb.ts";
import { ArchiveMirror } from "../adapters/offline/mirror.ts";
import { s3Client } from "../adapters/s3/client.ts";
import { plan } from "../features/plan.ts";
import { optionalEnvironment, requireEnvironment } from "./shared/environment.ts";
import { describeError, logger, metrics } from "./shared/observability.ts";

const s3 = s3Client(DURABLE_CLIENT);
const bucket = requireEnvironment("archiveBucket");
const retention = optionalEnvironment("archiveRetentionDays");
const graceMs = Number(requireEnvironment("archiveGraceMs"));
const DAY_MS = 86_400_000;
/** A batch that has begun is ended: it takes seconds, its hours' rewriting included. */
const RESERVE_MS = 180_000;
/** The rest is for Node, for the objects that are being fetched, and for the file that is being put. */
const DUCKDB_SHARE = 0.5;

/** @param event a schedule's names no stream: all are compacted */
export async function handler(
  event: { readonly stream?: string },
  context: Pick<Context, "getRemainingTimeInMillis" | "memoryLimitInMB">,
): Promise<Record<string, CompactionReport>> {
  // Its own: an emulator runs two at once in one temporary folder.
  const folder = mkdtempSync(join(tmpdir(), "freshet-compact-"));
  const memoryMb = Math.floor(Number(context.memoryLimitInMB) * DUCKDB_SHARE);
  const session = await DuckSession.open({ folder, memoryMb });
  try {
    return await compactArchive({
      ...{
        plan,
        stream: event.stream,
        session,
        s3,
        folder,
        graceMs,
        mirror: new ArchiveMirror({ s3, bucket, folder }),
      },
      retentionMs: retention === undefined ? null : Number(retention) * DAY_MS,
      nowMs: Date.now(),
      outOfTime: () => context.getRemainingTimeInMillis() < RESERVE_MS,
      onStream: report,
      onFailure: (stream, error) => {
        logger.error("compaction blocked", { stream, ...describeError(error) });
        metrics.addDimension("stream", stream);
        metrics.addMetric("CompactionBlocked", MetricUnit.Count, 1);
        metrics.publishStoredMetrics();
      },
    });
  } finally {
    session.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

function report(stream: string, done: CompactionReport): void {
  metrics.addDimension("stream", stream);
  metrics.addMetric("CompactionBlocked", MetricUnit.Count, 0);
  metrics.addMetric("RowsCompacted", MetricUnit.Count, done.rows);
  metrics.addMetric("ObjectsWaiting", MetricUnit.Count, done.left);
  metrics.addMetric("PayloadConflicts", MetricUnit.Count, done.payloadConflicts);
  metrics.addMetric("TimeConflicts", MetricUnit.Count, done.timeConflicts);
  const conflicts = done.payloadConflicts + done.timeConflicts;
  if (conflicts > 0) metrics.addMetric("IdentityConflicts", MetricUnit.Count, conflicts);
  metrics.publishStoredMetrics();
  logger.info("compacted", { stream, ...done });
}
