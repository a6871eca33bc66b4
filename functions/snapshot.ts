/** Each quarter of an hour: writes entities that are declared `fallback` to the table that answers while the store does not. */
import { MetricUnit } from "@aws-lambda-powertools/metrics";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import type { Context } from "aws-lambda";
import { DURABLE_CLIENT } from "../adapters/durable-call.ts";
import { SnapshotTable } from "../adapters/snapshot/snapshot-table.ts";
import { ValkeyConnection } from "../adapters/valkey/connection.ts";
import { ControlHashes } from "../adapters/valkey/control.ts";
import { valkeyOptionsFromEnvironment } from "../adapters/valkey/options.ts";
import { plan } from "../features/plan.ts";
import { requireEnvironment } from "./shared/environment.ts";
import { describeError, logger, metrics } from "./shared/observability.ts";
import { type RoundReport, snapshotRound } from "./shared/snapshot-round.ts";

const connection = new ValkeyConnection(valkeyOptionsFromEnvironment());
const ports = {
  ...{ plan, connection, clock: Date.now },
  controls: new ControlHashes(connection, plan),
  table: new SnapshotTable({
    table: requireEnvironment("snapshotsTable"),
    dynamodb: new DynamoDBClient(DURABLE_CLIENT),
  }),
};
/** Left for the last page's writes, the answer and the log. */
const RESERVE_MS = 20_000;

export async function handler(
  _event: unknown,
  context: Pick<Context, "getRemainingTimeInMillis">,
): Promise<RoundReport> {
  try {
    const report = await snapshotRound(ports, Date.now() + context.getRemainingTimeInMillis() - RESERVE_MS);
    logger.info("snapshot round", { ...report });
    metrics.addDimension("service", "snapshot");
    metrics.addMetric("SnapshotsWritten", MetricUnit.Count, report.written);
    metrics.addMetric("SnapshotsTooLarge", MetricUnit.Count, report.tooLarge);
    const { coveredMs } = report;
    if (coveredMs !== null) metrics.addMetric("SnapshotAgeMs", MetricUnit.Milliseconds, Date.now() - coveredMs);
    metrics.publishStoredMetrics();
    return report;
  } catch (error) {
    logger.error("snapshot round failed", describeError(error));
    throw error;
  }
}
