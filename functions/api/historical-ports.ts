/** Historical jobs' ports, made from the environment. */
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { GetObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";
import { DURABLE_CLIENT, durably } from "../../adapters/durable-call.ts";
import { HistoricalJobs } from "../../adapters/historical-jobs.ts";
import { definitions } from "../../features/index.ts";
import { plan } from "../../features/plan.ts";
import { requireEnvironment } from "../shared/environment.ts";
import type { runHistorical } from "../shared/historical-run.ts";
import type { Log } from "./app.ts";
import type { HistoricalPorts } from "./historical.ts";

const URL_LIFE_S = 3_600;
/** Of the machine that serves: jobs run beside requests there. */
const MEMORY_MB = 2_048;

/**
 * @param options.run does a job in this process, one after the other; null where a function is woken by the table. Handed in,
 *   because a bundle that holds it carries DuckDB
 * @throws FreshetError `environment_missing`
 */
export function createHistoricalPorts({ run, log }: { run: typeof runHistorical | null; log: Log }): HistoricalPorts {
  const bucket = requireEnvironment("archiveBucket");
  const s3 = new S3Client({ ...DURABLE_CLIENT, forcePathStyle: process.env["AWS_ENDPOINT_URL"] !== undefined });
  const jobs = new HistoricalJobs({
    table: requireEnvironment("jobsTable"),
    dynamodb: new DynamoDBClient(DURABLE_CLIENT),
  });
  let queue = Promise.resolve();
  return {
    runner: run === null ? "function" : "process",
    jobs,
    async putSpine({ tenant, id }, rows) {
      const key = `historical/tenant=${tenant}/job=${id}/spine.json`;
      await durably("historical_unavailable", `writing rows to bucket ${bucket}`, () =>
        s3.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: JSON.stringify(rows) })),
      );
      return key;
    },
    sign: (key) => getSignedUrl(s3, new GetObjectCommand({ Bucket: bucket, Key: key }), { expiresIn: URL_LIFE_S }),
    start(job) {
      if (run === null) return;
      const onFault = (error: unknown, of: { tenant: string; id: string }) => log("historical job failed", of, error);
      const { services } = definitions;
      const options = { plan, services, jobs, s3, bucket, memoryMb: MEMORY_MB, clock: Date.now, onFault };
      queue = queue.then(() => run(options, job)).catch((error) => onFault(error, job));
    },
  };
}
