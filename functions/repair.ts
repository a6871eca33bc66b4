/** Repairs events that came below the seal: woken by what the late queue gets, and each minute for what is left of it. */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MetricUnit } from "@aws-lambda-powertools/metrics";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import type { Context, DynamoDBStreamEvent } from "aws-lambda";
import { ArchiveWriter } from "../adapters/archive/archive.ts";
import { DURABLE_CLIENT } from "../adapters/aws/durable-call.ts";
import { ControlTable } from "../adapters/control-table/control-table.ts";
import { LateQueue } from "../adapters/late-queue/late-queue.ts";
import { LateWork, readLateItem } from "../adapters/late-queue/late-work.ts";
import { findEvents } from "../adapters/offline/late-rows.ts";
import { ArchiveMirror } from "../adapters/offline/mirror.ts";
import { s3Client } from "../adapters/s3/client.ts";
import { StoreApplier } from "../adapters/valkey/applier.ts";
import { ValkeyConnection } from "../adapters/valkey/connection.ts";
import { readMendTokens } from "../adapters/valkey/mend.ts";
import { valkeyOptionsFromEnvironment } from "../adapters/valkey/options.ts";
import { lock, plan } from "../features/plan.ts";
import { archiveBeginsMs } from "./shared/archive-extent.ts";
import { currentEpoch } from "./shared/current-store.ts";
import { optionalEnvironment, requireEnvironment } from "./shared/environment.ts";
import { describeError, logger, metrics } from "./shared/observability.ts";
import { repairPass } from "./shared/repair/repair.ts";
import { type RoundReport, repairRound } from "./shared/repair/repair-round.ts";

const connection = new ValkeyConnection({ ...valkeyOptionsFromEnvironment(), timeoutMs: 15_000 });
const dynamodb = new DynamoDBClient(DURABLE_CLIENT);
const s3 = s3Client(DURABLE_CLIENT);
const bucket = requireEnvironment("archiveBucket");
const controlTable = new ControlTable({ table: requireEnvironment("controlTable"), dynamodb });
const lateTable = requireEnvironment("lateTable");
const retention = optionalEnvironment("archiveRetentionDays");
const work = new LateWork({ table: lateTable, dynamodb });
/** Kept between calls: what one has fetched the next one need not. */
const folder = join(tmpdir(), "freshet-repair");
const mirror = new ArchiveMirror({ s3, bucket, folder });
const memoryMb = Math.max(512, Math.floor(Number(process.env["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] ?? 2_048) * 0.5));
/** A pass that has begun is ended. */
const RESERVE_MS = 60_000;

type Streams = Readonly<Record<string, RoundReport>>;

export async function handler(
  event: DynamoDBStreamEvent | Record<string, unknown>,
  context: Pick<Context, "getRemainingTimeInMillis">,
): Promise<Streams | null> {
  const news = "Records" in event ? newItems(event as DynamoDBStreamEvent) : null;
  if (news?.length === 0) return null;
  const epoch = await currentEpoch(controlTable, lock);
  if (epoch === null) return null;
  const ports = {
    ...{ plan, work, clock: Date.now },
    tokens: (keys: readonly string[]) => readMendTokens(connection, keys),
    applier: new StoreApplier(connection, plan, epoch),
    holder: async (stream: string) => {
      const lease = await controlTable.getLease(stream);
      return lease !== null && lease.expiresMs > Date.now() ? lease.holder : null;
    },
    find: (of: Parameters<typeof findEvents>[1]) => findEvents({ plan, mirror, duck: { folder, memoryMb } }, of),
    archiveFromMs: async (stream: string) =>
      archiveBeginsMs(
        (await controlTable.getStream(stream))?.createdAtMs ?? 0,
        retention === undefined ? null : Number(retention),
        Date.now(),
      ),
    archive: new ArchiveWriter({ bucket, s3 }),
    late: new LateQueue({ table: lateTable, dynamodb }),
    onFailure: (
      { stream, tenant, entity, identity }: { stream: string; tenant: string; entity: string; identity: string },
      error: unknown,
    ) => logger.error("repair failed", { stream, tenant, entity, identity, ...describeError(error) }),
  };
  const round = {
    plan,
    pass: (...args: Parameters<typeof repairPass> extends [unknown, ...infer Rest] ? Rest : never) =>
      repairPass(ports, ...args),
    onBlocked: (stream: string, error: unknown) => logger.error("repair blocked", { stream, ...describeError(error) }),
    clock: Date.now,
  };
  const deadlineMs = Date.now() + context.getRemainingTimeInMillis() - RESERVE_MS;
  const { complete, streams } = await repairRound(round, news === null ? work.pages() : [news], deadlineMs);
  for (const [stream, report] of Object.entries(streams)) tell(stream, report, news === null && complete);
  return streams;
}

const newItems = ({ Records }: DynamoDBStreamEvent) =>
  Records.flatMap(({ eventName, dynamodb: change }) =>
    eventName === "INSERT" && change?.NewImage !== undefined ? [readLateItem(change.NewImage as never)] : [],
  );

/** @param whole the round has seen all of the queue */
function tell(stream: string, report: RoundReport, whole: boolean): void {
  if (report.repaired + report.known + report.expired + report.failed + report.blocked > 0) {
    logger.info("repaired", { stream, ...report });
  }
  metrics.addDimension("stream", stream);
  metrics.addMetric("Repaired", MetricUnit.Count, report.repaired);
  metrics.addMetric("RepairFailed", MetricUnit.Count, report.failed + report.blocked);
  if (whole) {
    metrics.addMetric("RepairPending", MetricUnit.Count, report.pending);
    const lagMs = report.oldestMs === null ? 0 : Math.max(0, Date.now() - report.oldestMs);
    metrics.addMetric("RepairLagMs", MetricUnit.Milliseconds, lagMs);
  }
  metrics.publishStoredMetrics();
}
