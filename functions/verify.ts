/** Holds the online store against the archive: a sample each day, or what `freshet verify` asks for. */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { MetricUnit } from "@aws-lambda-powertools/metrics";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import type { Context } from "aws-lambda";
import { DURABLE_CLIENT } from "../adapters/aws/durable-call.ts";
import { ControlTable } from "../adapters/control-table/control-table.ts";
import { archiveTenants } from "../adapters/offline/archive-tenants.ts";
import { archivedAnswers, archivedIds, pushedIds } from "../adapters/offline/archived-answers.ts";
import { ArchiveMirror } from "../adapters/offline/mirror.ts";
import { FeatureRegistry } from "../adapters/pushed/feature-registry.ts";
import { s3Client } from "../adapters/s3/client.ts";
import { ValkeyConnection } from "../adapters/valkey/connection.ts";
import { valkeyOptionsFromEnvironment } from "../adapters/valkey/options.ts";
import { createReader } from "../adapters/valkey/reader.ts";
import { primaryClocks, storedIds } from "../adapters/valkey/stored-ids.ts";
import { storedView } from "../core/pushed-feature.ts";
import { plan } from "../features/plan.ts";
import { archiveBeginsMs } from "./shared/archive-extent.ts";
import { optionalEnvironment, requireEnvironment } from "./shared/environment.ts";
import { codedFailure } from "./shared/named-failure.ts";
import { describeError, logger, metrics } from "./shared/observability.ts";
import { verifyEntities } from "./shared/verification/verification.ts";
import { runVerify, type VerifyRequest, type VerifyRunReport } from "./shared/verification/verify-run.ts";

const connection = new ValkeyConnection({ ...valkeyOptionsFromEnvironment(), timeoutMs: 15_000 });
const reader = createReader(plan, connection);
const folder = join(tmpdir(), "freshet-verify");
const mirror = new ArchiveMirror({
  s3: s3Client(DURABLE_CLIENT),
  bucket: requireEnvironment("archiveBucket"),
  folder,
});
const memoryMb = Math.max(512, Math.floor(Number(process.env["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] ?? 3_072) * 0.5));
const dynamodb = new DynamoDBClient(DURABLE_CLIENT);
const table = new ControlTable({ table: requireEnvironment("controlTable"), dynamodb });
const registry = new FeatureRegistry({ table: requireEnvironment("featuresTable"), dynamodb });
const retention = optionalEnvironment("archiveRetentionDays");
/** A part that has begun takes its looks, half a minute at most, and the archive's reading. */
const RESERVE_MS = 240_000;
const DAILY_SAMPLE = 200;

const place = { plan, mirror, duck: { folder, memoryMb } };
const ports = {
  ...{ plan, reader, wait: sleep },
  clocks: () => primaryClocks(connection),
  archived: (...args: Rest<typeof archivedAnswers>) => archivedAnswers(place, ...args),
  registered: async (tenant: string) => (await registry.load(tenant, null))?.features ?? [],
  archiveFromMs: async (stream: string) => {
    const days = retention === undefined ? null : Number(retention);
    return archiveBeginsMs((await table.getStream(stream))?.createdAtMs ?? 0, days, Date.now());
  },
};
/** As the archive names them. */
async function pushedViews(tenant: string, entity: string): Promise<string[]> {
  const own = (await ports.registered(tenant)).filter((feature) => feature.entity === entity);
  const batch = plan.batchViews.filter((view) => view.entity === entity);
  return [...new Set([...batch.map(({ name }) => name), ...own.map(({ view }) => storedView(view))])];
}
type Rest<F> = F extends (first: never, ...rest: infer R) => unknown ? R : never;

/** Of a rule's own event nothing is asked for: a day's sample. */
export type VerifyEvent = VerifyRequest & { readonly kind?: "verify" };

export async function handler(
  event: VerifyEvent,
  context: Pick<Context, "getRemainingTimeInMillis">,
): Promise<VerifyRunReport> {
  const isDaily = event.kind === undefined;
  try {
    const run = {
      ...{ plan, clock: Date.now },
      tenants: async () => [
        ...new Set((await Promise.all(plan.streams.map(({ name }) => archiveTenants(mirror, name)))).flat()),
      ],
      storeIds: () => storedIds(connection, plan),
      archiveIds: async (tenant: string, entity: string, pushed: boolean) => {
        const views = plan.views.filter((view) => view.entity === entity);
        const reachMs = Math.max(...views.map((view) => view.reachMs ?? Number.POSITIVE_INFINITY));
        const toMs = Date.now();
        const ids = await archivedIds(place, { tenant, entity, fromMs: Math.max(0, toMs - reachMs), toMs });
        return pushed
          ? [...ids, ...(await pushedIds(place, { tenant, views: await pushedViews(tenant, entity) }))]
          : ids;
      },
      verify: (of: Parameters<typeof verifyEntities>[1]) => verifyEntities(ports, of),
    };
    const request = isDaily ? { sample: DAILY_SAMPLE } : event;
    const report = await runVerify(run, request, Date.now() + context.getRemainingTimeInMillis() - RESERVE_MS);
    const { differences, ...counts } = report;
    // Values are features of persons: the log has names alone.
    const wrong = differences.map(({ entity, feature }) => `${entity} ${feature}`);
    logger[report.differing > 0 ? "error" : "info"]("verified", { ...counts, wrong: [...new Set(wrong)] });
    if (isDaily) {
      metrics.addDimension("service", "verify");
      metrics.addMetric("EntitiesVerified", MetricUnit.Count, report.checked);
      metrics.addMetric("EntitiesDiffering", MetricUnit.Count, report.differing);
      metrics.publishStoredMetrics();
    }
    return report;
  } catch (error) {
    logger.error("verification failed", describeError(error));
    throw codedFailure(error);
  }
}
