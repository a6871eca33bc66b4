/**
 * Each quarter of an hour, two rounds: entities that are declared `fallback` go to the table that answers while the store does not,
 * and all that the store holds goes to the bucket that it is restored from.
 */
import { MetricUnit } from "@aws-lambda-powertools/metrics";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import type { Context } from "aws-lambda";
import { DURABLE_CLIENT } from "../adapters/aws/durable-call.ts";
import { BuildProgress } from "../adapters/control-table/build-progress.ts";
import { s3Client } from "../adapters/s3/client.ts";
import { BulkStore } from "../adapters/snapshot/bulk-store.ts";
import { SnapshotTable } from "../adapters/snapshot/snapshot-table.ts";
import { ValkeyConnection } from "../adapters/valkey/connection.ts";
import { ControlHashes } from "../adapters/valkey/control.ts";
import { valkeyOptionsFromEnvironment } from "../adapters/valkey/options.ts";
import { lock, plan } from "../features/plan.ts";
import { requireEnvironment } from "./shared/environment.ts";
import { describeError, logger, metrics } from "./shared/observability.ts";
import { type BulkReport, bulkRound } from "./shared/snapshot/bulk-snapshot.ts";
import { type RoundReport, snapshotRound } from "./shared/snapshot/snapshot-round.ts";

const connection = new ValkeyConnection(valkeyOptionsFromEnvironment());
const controls = new ControlHashes(connection, plan);
const dynamodb = new DynamoDBClient(DURABLE_CLIENT);
const s3 = s3Client(DURABLE_CLIENT);
const common = { plan, lock, connection, controls, clock: Date.now };
const table = new SnapshotTable({ table: requireEnvironment("snapshotsTable"), dynamodb });
const bulk = {
  snapshots: new BulkStore({ bucket: requireEnvironment("snapshotsBucket"), s3 }),
  progress: new BuildProgress({ table: requireEnvironment("controlTable"), dynamodb }),
  keepMs: Number(requireEnvironment("snapshotsKeepMs")),
};
/** Left for the last page's or buckets' writes, the answer and the log. */
const RESERVE_MS = 60_000;

export async function handler(
  _event: unknown,
  context: Pick<Context, "getRemainingTimeInMillis">,
): Promise<{ items: RoundReport; bulk: BulkReport }> {
  const leftMs = Math.max(0, context.getRemainingTimeInMillis() - RESERVE_MS);
  const halfMs = Date.now() + leftMs / 2;
  const endMs = Date.now() + leftMs;
  // Neither keeps the other from being done.
  const [items, objects] = await Promise.allSettled([
    snapshotRound({ ...common, table }, halfMs),
    bulkRound({ ...common, ...bulk }, endMs),
  ]);
  metrics.addDimension("service", "snapshot");
  if (items.status === "fulfilled") tellItems(items.value);
  if (objects.status === "fulfilled") tellObjects(objects.value);
  metrics.publishStoredMetrics();
  const failures = [items, objects].flatMap((round) => (round.status === "rejected" ? [round.reason] : []));
  for (const failure of failures) logger.error("snapshot round failed", describeError(failure));
  if (items.status === "rejected" || objects.status === "rejected") throw failures[0];
  return { items: items.value, bulk: objects.value };
}

function tellItems(report: RoundReport): void {
  logger.info("snapshot round", { ...report });
  metrics.addMetric("SnapshotsWritten", MetricUnit.Count, report.written);
  metrics.addMetric("SnapshotsTooLarge", MetricUnit.Count, report.tooLarge);
  if (report.coveredMs !== null)
    metrics.addMetric("SnapshotAgeMs", MetricUnit.Milliseconds, Date.now() - report.coveredMs);
}

function tellObjects(report: BulkReport): void {
  logger.info("bulk snapshot round", { ...report });
  metrics.addMetric("BulkObjectsWritten", MetricUnit.Count, report.written);
  metrics.addMetric("BulkBytesWritten", MetricUnit.Bytes, report.bytes);
  if (report.coveredMs !== null)
    metrics.addMetric("BulkSnapshotAgeMs", MetricUnit.Milliseconds, Date.now() - report.coveredMs);
}
