/** The process of one historical job of the plain server (historical-queue.ts): its tenant and id are the arguments. */
import { constants, setPriority } from "node:os";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { DURABLE_CLIENT } from "../../../adapters/aws/durable-call.ts";
import { HistoricalJobs } from "../../../adapters/jobs/historical-jobs.ts";
import { s3Client } from "../../../adapters/s3/client.ts";
import { definitions } from "../../../features/index.ts";
import { plan } from "../../../features/plan.ts";
import { requireEnvironment } from "../../shared/environment.ts";
import { runHistorical } from "../../shared/training/historical-run.ts";
import { logToStderr } from "../observability/server-log.ts";

/** For DuckDB, of the machine that serves. */
const MEMORY_MB = 2_048;

// A server that is gone, however it went, leaves no job behind.
process.once("disconnect", () => process.exit());
// Scores come first where cores are few.
setPriority(constants.priority.PRIORITY_BELOW_NORMAL);

const [tenant, id] = process.argv.slice(2);
const jobs = new HistoricalJobs({
  table: requireEnvironment("jobsTable"),
  dynamodb: new DynamoDBClient(DURABLE_CLIENT),
});
const job = await jobs.get(tenant, id);
if (job !== null) {
  await runHistorical(
    {
      plan,
      services: definitions.services,
      jobs,
      s3: s3Client(DURABLE_CLIENT),
      bucket: requireEnvironment("archiveBucket"),
      memoryMb: MEMORY_MB,
      maxBytes: Number.POSITIVE_INFINITY,
      // A process has all the time, and a machine of its own.
      engine: { use: "duckdb", athena: null },
      outOfTime: () => false,
      clock: Date.now,
      onFault: (error, of) => logToStderr("historical job failed", of, error),
    },
    job,
  );
}
process.exit();
