/** Bulk builds, a part for each call, and what they have made ready. The CLI calls it until it says that it is done. */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import type { Context } from "aws-lambda";
import { ArchiveWriter } from "../adapters/archive/archive.ts";
import { DURABLE_CLIENT } from "../adapters/aws/durable-call.ts";
import { BuildProgress } from "../adapters/control-table/build-progress.ts";
import { ControlTable } from "../adapters/control-table/control-table.ts";
import { LateQueue } from "../adapters/late-queue/late-queue.ts";
import { archiveTenants } from "../adapters/offline/archive-tenants.ts";
import { ArchiveMirror } from "../adapters/offline/mirror.ts";
import { STORE_STATES } from "../adapters/online-store/store-states.ts";
import { s3Client } from "../adapters/s3/client.ts";
import { StoreApplier } from "../adapters/valkey/applier.ts";
import { ValkeyConnection } from "../adapters/valkey/connection.ts";
import { ControlHashes } from "../adapters/valkey/control.ts";
import { valkeyOptionsFromEnvironment } from "../adapters/valkey/options.ts";
import { RecordPacker } from "../adapters/valkey/record.ts";
import { refusedBy } from "../adapters/valkey/replies.ts";
import { Watermark } from "../adapters/valkey/watermark.ts";
import { FreshetError } from "../core/errors.ts";
import type { Group } from "../core/plan.ts";
import { lock, plan } from "../features/plan.ts";
import { archiveBeginsMs } from "./shared/archive-extent.ts";
import { archiveRoom } from "./shared/archive-room.ts";
import { readinessOf, type ViewReadiness } from "./shared/build/build-readiness.ts";
import { type BuildReport, type BuildRequest, runBuild } from "./shared/build/bulk-build.ts";
import { type EntityBuildReport, type EntityOf, rebuildEntity, rebuildIn } from "./shared/build/entity-build.ts";
import { currentEpoch } from "./shared/current-store.ts";
import { optionalEnvironment, requireEnvironment } from "./shared/environment.ts";
import { codedFailure } from "./shared/named-failure.ts";
import { describeError, logger } from "./shared/observability.ts";
import { type RepeatReport, repeatRepairs } from "./shared/repair/repeat-repairs.ts";
import { type SettledEntity, settleRepairs } from "./shared/repair/settle-repairs.ts";
import { type ArchiveGap, type GapReport, replayGap } from "./shared/replay/archive-gap.ts";
import type { ArchiveReplay, ArchiveReplayReport } from "./shared/replay/archive-replay.ts";
import { replaySettled } from "./shared/replay/settled-replay.ts";

const connection = new ValkeyConnection(valkeyOptionsFromEnvironment());
const controls = new ControlHashes(connection, plan);
const table = requireEnvironment("controlTable");
const dynamodb = new DynamoDBClient(DURABLE_CLIENT);
const controlTable = new ControlTable({ table, dynamodb });
const retention = optionalEnvironment("archiveRetentionDays");
const retentionDays = retention === undefined ? null : Number(retention);
/** Kept between calls: what one has fetched the next one need not. */
const folder = join(tmpdir(), "freshet-build");
const objects = {
  s3: s3Client(DURABLE_CLIENT),
  bucket: requireEnvironment("archiveBucket"),
};
const mirror = new ArchiveMirror({
  ...{ ...objects, folder },
  room: () => archiveRoom(tmpdir()),
  repair:
    "run `freshet compact` first, since raw objects take twice the room; else shorten the longest windows over the stream: a build reads as far back as they reach",
});
const archive = new ArchiveWriter(objects);
const watermark = new Watermark(connection);
const late = new LateQueue({ table: requireEnvironment("lateTable"), dynamodb });
/** DuckDB's share of the function's memory: the entities of a trip, the packages and the runtime take some hundred MB. */
const memoryMb = Math.max(512, Math.floor(Number(process.env["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] ?? 3_072) * 0.6));
/** Left to write what has been built, and to answer. */
const RESERVE_MS = 30_000;

const ports = {
  ...{ plan, lock, connection, controls, mirror, table: controlTable },
  progress: new BuildProgress({ table, dynamodb }),
  duck: { folder, memoryMb },
  tenants: (stream: string) => archiveTenants(mirror, stream),
  archiveFromMs: async (stream: string, nowMs: number) =>
    archiveBeginsMs((await controlTable.getStream(stream))?.createdAtMs ?? 0, retentionDays, nowMs),
};

export type BuildEvent =
  | (BuildRequest & { readonly kind?: "build" /** Of this call, in ms. */; readonly budgetMs?: number })
  | { readonly kind: "readiness" }
  | ({ readonly kind: "entity" } & EntityOf)
  | { readonly kind: "repairs" }
  | ({ readonly kind: "gap"; readonly budgetMs: number } & ArchiveGap)
  | { readonly kind: "archive"; readonly replay: ArchiveReplay; readonly budgetMs: number };

export async function handler(
  event: BuildEvent,
  context: Pick<Context, "getRemainingTimeInMillis">,
): Promise<
  BuildReport | readonly ViewReadiness[] | readonly EntityBuildReport[] | RepeatReport | GapReport | ArchiveReplayReport
> {
  const leftMs = context.getRemainingTimeInMillis() - RESERVE_MS;
  try {
    if (event.kind === "readiness") return await readinessOf(controls, plan);
    if (event.kind === "entity") return await rebuild(event);
    if (event.kind === "repairs") return await repeat();
    if (event.kind === "gap") return await fillGap(event, Date.now() + Math.min(event.budgetMs, leftMs));
    if (event.kind === "archive") return await replay(event.replay, Date.now() + Math.min(event.budgetMs, leftMs));
    const report = await runBuild(ports, event, Date.now() + Math.min(event.budgetMs ?? leftMs, leftMs));
    logger.info("built", { ...report });
    return report;
  } catch (error) {
    logger.error("build failed", describeError(error));
    throw codedFailure(error);
  }
}

async function rebuild(of: EntityOf): Promise<EntityBuildReport[]> {
  const reports = await rebuildEntity(ports, of);
  logger.info("rebuilt", { tenant: of.tenant, entity: of.entity, reports });
  return reports;
}

/** @param replaying into a store that nobody else may write to */
async function applierNow(replaying: boolean): Promise<StoreApplier> {
  const epoch = await currentEpoch(controlTable, lock);
  if (epoch === null) throw refusedBy(STORE_STATES.new);
  return new StoreApplier(connection, plan, epoch, { replaying });
}

async function replay(of: ArchiveReplay, untilMs: number): Promise<ArchiveReplayReport> {
  const stream = plan.streams.find(({ name }) => name === of.stream);
  if (stream === undefined) throw new FreshetError("stream_unknown", `there is no stream ${of.stream}`);
  const rows = {
    ...{ plan, stream, archive, watermark, late, packer: new RecordPacker(plan, stream.name) },
    applier: await applierNow(false),
  };
  const report = await replaySettled({ ...ports, rows, archive: objects }, of, () => Date.now() > untilMs);
  logger.info("replayed from the archive", { stream: of.stream, ...report });
  return report;
}

async function fillGap(gap: ArchiveGap, untilMs: number): Promise<GapReport> {
  const applier = await applierNow(true);
  const report = await replayGap({ ...ports, applier, archive, clock: Date.now }, gap, () => Date.now() > untilMs);
  logger.info("brought from the archive", { stream: gap.stream, ...report });
  return report;
}

async function repeat(): Promise<RepeatReport> {
  const again = (...of: [Group, string, readonly string[]]) => rebuildIn(ports, ...of);
  const applier = await applierNow(false);
  const settle = (entities: readonly SettledEntity[]) => settleRepairs(applier, entities);
  const report = await repeatRepairs({ ...ports, settle, rebuild: again });
  logger.info("repairs repeated", { ...report });
  return report;
}
