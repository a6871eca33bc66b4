/** Runs what is due of the batch views, each five minutes; a range when `freshet materialize` asks for one. */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MetricUnit } from "@aws-lambda-powertools/metrics";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import type { Context, DynamoDBStreamEvent } from "aws-lambda";
import { DURABLE_CLIENT } from "../adapters/aws/durable-call.ts";
import { BatchRuns } from "../adapters/control-table/batch-runs.ts";
import { BuildProgress } from "../adapters/control-table/build-progress.ts";
import { ControlTable } from "../adapters/control-table/control-table.ts";
import { MATERIALIZE_RUNNER, MaterializeRequests } from "../adapters/jobs/materialize-requests.ts";
import { REBUILD_RUNNER, RebuildRequests } from "../adapters/jobs/rebuild-requests.ts";
import { archiveTenants } from "../adapters/offline/archive-tenants.ts";
import { ArchiveMirror } from "../adapters/offline/mirror.ts";
import { s3Client } from "../adapters/s3/client.ts";
import { ValkeyConnection } from "../adapters/valkey/connection.ts";
import { ControlHashes } from "../adapters/valkey/control.ts";
import { valkeyOptionsFromEnvironment } from "../adapters/valkey/options.ts";
import { lock, plan } from "../features/plan.ts";
import { archiveBeginsMs } from "./shared/archive-extent.ts";
import { archiveRoom } from "./shared/archive-room.ts";
import { doRequestedRebuild } from "./shared/build/requested-rebuild.ts";
import { optionalEnvironment, requireEnvironment } from "./shared/environment.ts";
import {
  type DueReport,
  materialize,
  materializeDue,
  type RunReport,
  type RunRequest,
  type ViewState,
} from "./shared/materialization/materialization.ts";
import { runMaterializeRequest } from "./shared/materialization/materialize-request.ts";
import { restorePushed } from "./shared/materialization/restore-pushed.ts";
import { codedFailure } from "./shared/named-failure.ts";
import { describeError, logger, metrics } from "./shared/observability.ts";

const dynamodb = new DynamoDBClient(DURABLE_CLIENT);
const table = requireEnvironment("controlTable");
const folder = join(tmpdir(), "freshet-materialize");
const s3 = s3Client(DURABLE_CLIENT);
const mirror = new ArchiveMirror({
  ...{ s3, bucket: requireEnvironment("archiveBucket"), folder },
  room: () => archiveRoom(tmpdir()),
  repair: "give the view a shorter lookback: a run reads so much of the archive, and what lies between two runs",
});
const memoryMb = Math.max(512, Math.floor(Number(process.env["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] ?? 3_072) * 0.6));
const ports = {
  ...{ plan, lock, s3, mirror, duck: { folder, memoryMb } },
  connection: new ValkeyConnection(valkeyOptionsFromEnvironment()),
  table: new ControlTable({ table, dynamodb }),
  runs: new BatchRuns({ table, dynamodb }),
  tenants: (stream: string) => archiveTenants(mirror, stream),
};
const requests = new MaterializeRequests({ table: requireEnvironment("jobsTable"), dynamodb });
const retention = optionalEnvironment("archiveRetentionDays");
const rebuilding = {
  ...ports,
  controls: new ControlHashes(ports.connection, plan),
  progress: new BuildProgress({ table, dynamodb }),
  requests: new RebuildRequests({ table: requireEnvironment("jobsTable"), dynamodb }),
  archiveFromMs: async (stream: string, nowMs: number) => {
    const days = retention === undefined ? null : Number(retention);
    return archiveBeginsMs((await ports.table.getStream(stream))?.createdAtMs ?? 0, days, nowMs);
  },
};
/** No run is begun that has less than this left. */
const RESERVE_MS = 300_000;

/** A rule's own event has no `kind`. `restore`: what was pushed and may be missing is pushed again, and nothing else is done. */
export type MaterializeEvent = { readonly kind?: "due" | "restore" } | ({ readonly kind: "run" } & RunRequest);

export interface RestoredValues {
  readonly rows: number;
  /** Else there is more to do. */
  readonly isWhole: boolean;
}

export async function handler(
  event: MaterializeEvent | DynamoDBStreamEvent,
  context: Pick<Context, "getRemainingTimeInMillis">,
): Promise<RunReport | RestoredValues | readonly Omit<ViewState, "error">[] | null> {
  const deadlineMs = Date.now() + context.getRemainingTimeInMillis() - RESERVE_MS;
  if ("Records" in event) return runRequested(event, deadlineMs);
  if (event.kind === "run") {
    try {
      const report = await materialize(ports, event);
      logger.info("materialized", { ...report });
      return report;
    } catch (error) {
      logger.error("materialization failed", { view: event.view, ...describeError(error) });
      throw codedFailure(error);
    }
  }
  if (event.kind === "restore") {
    const report = await restorePushed(ports, deadlineMs);
    reportRestore(report);
    return { rows: report.rows, isWhole: report.isWhole };
  }
  const { restored, views } = await materializeDue(ports, deadlineMs);
  reportRestore(restored);
  return views.map(report);
}

function reportRestore(restored: DueReport["restored"]): void {
  if ("error" in restored) logger.error("restoring pushed values failed", describeError(restored.error));
  else if (restored.rows > 0) logger.info("pushed values again", { rows: restored.rows, isWhole: restored.isWhole });
  const damaged = "error" in restored ? [] : restored.damaged;
  for (const { key, error } of damaged) logger.error("values object left out", { key, ...describeError(error) });
  metrics.addDimension("service", "materialize");
  metrics.addMetric("PushedMissing", MetricUnit.Count, "error" in restored || !restored.isWhole ? 1 : 0);
  metrics.addMetric("ValuesDamaged", MetricUnit.Count, damaged.length);
  metrics.publishStoredMetrics();
}

/** What callers have asked for, told by the table of jobs. A failure is the request's state; it is not tried again. */
async function runRequested({ Records }: DynamoDBStreamEvent, deadlineMs: number): Promise<null> {
  for (const { eventName, dynamodb: change } of Records) {
    const { pk, sk, runner } = change?.NewImage ?? {};
    if (eventName !== "INSERT") continue;
    const of = { tenant: pk!.S!.slice(pk!.S!.indexOf("#") + 1), id: sk!.S! };
    if (runner?.S === REBUILD_RUNNER) await doRequestedRebuild(rebuilding, of, deadlineMs);
    if (runner?.S !== MATERIALIZE_RUNNER) continue;
    const run = { ...ports, requests, materialize: (one: RunRequest) => materialize(ports, one), clock: Date.now };
    try {
      await runMaterializeRequest(run, of, deadlineMs);
      logger.info("materialized on request", of);
    } catch (error) {
      logger.error("materialization failed", { ...of, ...describeError(error) });
    }
  }
  return null;
}

function report({ error, ...state }: ViewState): Omit<ViewState, "error"> {
  if (error !== null) logger.error("materialization failed", { view: state.view, ...describeError(error) });
  else if (state.runs > 0) logger.info("materialized", { ...state });
  metrics.addDimension("view", state.view);
  metrics.addMetric("ViewLateMs", MetricUnit.Milliseconds, state.lateMs);
  metrics.addMetric("ViewRunFailures", MetricUnit.Count, error === null ? 0 : 1);
  metrics.addMetric("ViewRows", MetricUnit.Count, state.rows);
  if (state.lagMs !== null) metrics.addMetric("ViewLagMs", MetricUnit.Milliseconds, state.lagMs);
  metrics.publishStoredMetrics();
  return state;
}
