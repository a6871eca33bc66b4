/** Erasures: what has been asked for as soon as it is, and each five minutes what is still under way. */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MetricUnit } from "@aws-lambda-powertools/metrics";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import type { Context, DynamoDBStreamEvent } from "aws-lambda";
import { DURABLE_CLIENT } from "../adapters/aws/durable-call.ts";
import { ControlTable } from "../adapters/control-table/control-table.ts";
import { Erasures } from "../adapters/erasure/erasures.ts";
import { hash64 } from "../adapters/hash.ts";
import { ArchiveMirror } from "../adapters/offline/mirror.ts";
import { STORE_STATES } from "../adapters/online-store/store-states.ts";
import { s3Client } from "../adapters/s3/client.ts";
import { BulkStore } from "../adapters/snapshot/bulk-store.ts";
import { StoreApplier } from "../adapters/valkey/applier.ts";
import { ValkeyConnection } from "../adapters/valkey/connection.ts";
import { ControlHashes } from "../adapters/valkey/control.ts";
import { ownersOf } from "../adapters/valkey/hash-walk.ts";
import { valkeyOptionsFromEnvironment } from "../adapters/valkey/options.ts";
import { refusedBy } from "../adapters/valkey/replies.ts";
import { lock, plan } from "../features/plan.ts";
import { currentEpoch } from "./shared/current-store.ts";
import { requireEnvironment } from "./shared/environment.ts";
import { lookAtRefused } from "./shared/erasure/erasure-guard.ts";
import { type DueErasures, eraseDue } from "./shared/erasure/erasure-rounds.ts";
import { codedFailure } from "./shared/named-failure.ts";
import { describeError, logger, metrics } from "./shared/observability.ts";

const connection = new ValkeyConnection({ ...valkeyOptionsFromEnvironment(), timeoutMs: 15_000 });
const dynamodb = new DynamoDBClient(DURABLE_CLIENT);
const s3 = s3Client(DURABLE_CLIENT);
const controlTable = new ControlTable({ table: requireEnvironment("controlTable"), dynamodb });
const controls = new ControlHashes(connection, plan);
const folder = join(tmpdir(), "freshet-erase");
const memoryMb = Math.max(512, Math.floor(Number(process.env["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] ?? 3_072) * 0.5));
const items = (name: "lateTable" | "snapshotsTable" | "quarantineTable") => ({
  dynamodb,
  table: requireEnvironment(name),
});
const objects = (name: "archiveBucket" | "quarantineBucket" | "trainingBucket" | "snapshotsBucket") => ({
  s3,
  bucket: requireEnvironment(name),
});
/** A step of objects that has begun is ended, and what is left to say is written. */
const RESERVE_MS = 90_000;

/** @throws FreshetError `store_not_ready` before the control function ran */
async function epochNow(): Promise<number> {
  const epoch = await currentEpoch(controlTable, lock);
  if (epoch === null) throw refusedBy(STORE_STATES.new);
  return epoch;
}

const ports = {
  plan,
  erasures: new Erasures({ table: requireEnvironment("erasuresTable"), dynamodb }),
  // Tombstones are planted in a store that is being restored, too.
  applier: async () => new StoreApplier(connection, plan, await epochNow(), { replaying: true }),
  // Restores bring somebody back that a snapshot still had. While one is under way it is another store each time.
  storeIdentity: async () => {
    const heads = await controls.heads();
    const isWhole = heads.every((head) => head?.state === "ok");
    const restores = hash64(heads.map((head) => head?.restore ?? "").join(","));
    return `${await epochNow()} ${await ownersOf(connection)} ${restores}${isWhole ? "" : ` ${Date.now()}`}`;
  },
  late: items("lateTable"),
  snapshots: items("snapshotsTable"),
  rounds: { snapshots: new BulkStore(objects("snapshotsBucket")), objects: objects("snapshotsBucket") },
  archive: objects("archiveBucket"),
  mirror: new ArchiveMirror({ ...objects("archiveBucket"), folder }),
  quarantine: objects("quarantineBucket"),
  quarantineIndex: items("quarantineTable"),
  training: objects("trainingBucket"),
  duck: { folder, memoryMb },
  clock: Date.now,
  onFailure: (of: { tenant: string; id: string }, error: unknown) =>
    logger.error("erasure failed", { ...of, ...describeError(error) }),
};

/** A rule's own event has no `kind`. `replant`: before a store opens that has been lost, or lacks a suffix. */
export interface EraseEvent {
  readonly kind?: "due" | "replant";
  readonly budgetMs?: number;
}

export async function handler(
  event: EraseEvent | DynamoDBStreamEvent,
  context: Pick<Context, "getRemainingTimeInMillis">,
): Promise<DueErasures> {
  // The table's own changes wake it, which its work makes too: only what is new is news.
  const asked = "Records" in event ? {} : event;
  const timeMs = Math.min(asked.budgetMs ?? Number.POSITIVE_INFINITY, context.getRemainingTimeInMillis() - RESERVE_MS);
  const deadlineMs = Date.now() + timeMs;
  const report = await eraseDue(ports, deadlineMs, { replantOnly: asked.kind === "replant" }).catch((error) => {
    throw codedFailure(error);
  });
  // Last, since it presses least: what is found is gone through by the next run of the schedule.
  const isScheduled = !("Records" in event) && event.kind === undefined;
  const reopened = isScheduled ? await lookAtRefused(ports, deadlineMs) : 0;
  if (report.worked + report.replanted + reopened > 0) logger.info("erasures", { ...report, reopened });
  metrics.addDimension("service", "erase");
  metrics.addMetric("ErasureOldestMs", MetricUnit.Milliseconds, report.oldestMs);
  metrics.publishStoredMetrics();
  return report;
}
