/** Historical jobs' ports, made from the environment. */
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { GetObjectCommand, PutObjectCommand } from "@aws-sdk/client-s3";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";
import { DURABLE_CLIENT, durably } from "../../../adapters/aws/durable-call.ts";
import { HistoricalJobs, jobFolder } from "../../../adapters/jobs/historical-jobs.ts";
import { WorkFolder } from "../../../adapters/offline/work-folder.ts";
import { s3Client } from "../../../adapters/s3/client.ts";
import { requireEnvironment } from "../../shared/environment.ts";
import type { Log } from "../app.ts";
import type { HistoricalPorts } from "./historical.ts";
import type { createJobQueue } from "./historical-queue.ts";

const URL_LIFE_S = 3_600;

/**
 * @param options.queueOf makes what does the jobs; null where a function is woken by the table
 * @throws FreshetError `environment_missing`
 */
export function createHistoricalPorts({
  queueOf,
  log,
}: {
  queueOf: typeof createJobQueue | null;
  log: Log;
}): HistoricalPorts {
  const bucket = requireEnvironment("archiveBucket");
  const s3 = s3Client(DURABLE_CLIENT);
  const jobs = new HistoricalJobs({
    table: requireEnvironment("jobsTable"),
    dynamodb: new DynamoDBClient(DURABLE_CLIENT),
  });
  const onFault = (error: unknown, of: { tenant: string; id: string }) => log("historical job failed", of, error);
  const clear = (job: { tenant: string; id: string }) =>
    new WorkFolder({ s3, bucket, prefix: `${jobFolder(job)}/` }).remove();
  const queue = queueOf?.({ jobs, clear, clock: Date.now, onFault }) ?? null;
  return {
    runner: queue === null ? "function" : "process",
    jobs,
    async putSpine(job, rows) {
      const key = `${jobFolder(job)}/spine.json`;
      await durably("historical_unavailable", `writing rows to bucket ${bucket}`, () =>
        s3.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: JSON.stringify(rows) })),
      );
      return key;
    },
    sign: (key) => getSignedUrl(s3, new GetObjectCommand({ Bucket: bucket, Key: key }), { expiresIn: URL_LIFE_S }),
    start: (job) => queue?.add(job),
    stop: (job) => queue?.stop(job),
    async close() {
      await queue?.close();
    },
  };
}
