/** Runs the historical jobs that the API has written to their table, woken by the table's changes. */
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import type { Context, DynamoDBStreamEvent } from "aws-lambda";
import { DURABLE_CLIENT } from "../adapters/aws/durable-call.ts";
import { HistoricalJobs, hasEnded, jobOfItem } from "../adapters/jobs/historical-jobs.ts";
import { s3Client } from "../adapters/s3/client.ts";
import { definitions } from "../features/index.ts";
import { plan } from "../features/plan.ts";
import { FUNCTION_BYTES } from "./shared/archive-room.ts";
import { requireEnvironment } from "./shared/environment.ts";
import { describeError, logger } from "./shared/observability.ts";
import { runHistorical } from "./shared/training/historical-run.ts";
import { engineOfEnvironment } from "./shared/training/query-engine.ts";

const s3 = s3Client(DURABLE_CLIENT);
const jobs = new HistoricalJobs({
  table: requireEnvironment("jobsTable"),
  dynamodb: new DynamoDBClient(DURABLE_CLIENT),
});
const bucket = requireEnvironment("archiveBucket");
/** The rest is for Node: columns of a million rows, and objects on their way. */
const DUCKDB_SHARE = 0.5;

const engine = engineOfEnvironment();
/** Of a call's 15 minutes, for what it has begun: a chunk, or a part. */
const MARGIN_MS = 240_000;

export async function handler(
  event: DynamoDBStreamEvent,
  context: Pick<Context, "memoryLimitInMB" | "getRemainingTimeInMillis">,
): Promise<void> {
  const memoryMb = Math.floor(Number(context.memoryLimitInMB) * DUCKDB_SHARE);
  for (const { eventName, dynamodb } of event.Records) {
    const { pk, sk, runner } = dynamodb?.NewImage ?? {};
    if (eventName !== "INSERT" || runner?.S !== "function") continue;
    const asked = jobOfItem(pk!.S!, sk!.S!);
    const job = asked === null ? null : await jobs.get(asked.tenant, asked.id);
    // A cancelled one may have left something.
    if (job === null || (hasEnded(job) && job.state !== "cancelled")) continue;
    await runHistorical(
      {
        ...{ plan, services: definitions.services, jobs, s3, bucket, memoryMb, engine },
        ...{ maxBytes: FUNCTION_BYTES, clock: Date.now },
        outOfTime: () => context.getRemainingTimeInMillis() < MARGIN_MS,
        onFault: (error, of) => logger.error("historical job failed", { ...of, ...describeError(error) }),
      },
      job,
    );
    logger.info("call for a historical job ended", { tenant: job.tenant, job: job.id });
  }
}
