/** What the deployed app has stored: items, objects, archive rows, metrics. */
import { CloudWatchClient, GetMetricStatisticsCommand } from "@aws-sdk/client-cloudwatch";
import { DynamoDBClient, ScanCommand } from "@aws-sdk/client-dynamodb";
import { GetObjectCommand, ListObjectsV2Command } from "@aws-sdk/client-s3";
import { type ArchiveRow, readArchive } from "../../adapters/archive/archive.ts";
import { s3Client } from "../../adapters/s3/client.ts";
import { deployedClientConfig } from "../support/deployed.ts";
import { until } from "./app.ts";

export const METRICS = ["EventsIn", "Applied", "Duplicates", "Late", "Quarantined"] as const;

const s3 = s3Client(deployedClientConfig());
const dynamodb = new DynamoDBClient(deployedClientConfig());
const cloudwatch = new CloudWatchClient(deployedClientConfig());

export function closeStored(): void {
  for (const client of [s3, dynamodb, cloudwatch]) client.destroy();
}

export async function scan(table: string): Promise<Record<string, any>[]> {
  const items: Record<string, any>[] = [];
  let from: Record<string, any> | undefined;
  do {
    const page = await dynamodb.send(new ScanCommand({ TableName: table, ExclusiveStartKey: from }));
    items.push(...(page.Items ?? []));
    from = page.LastEvaluatedKey;
  } while (from !== undefined);
  return items;
}

export async function objects(bucket: string, prefix: string): Promise<{ key: string; bytes: Buffer }[]> {
  const found: { key: string; bytes: Buffer }[] = [];
  let token: string | undefined;
  do {
    const page = await s3.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix, ContinuationToken: token }));
    for (const { Key: key } of page.Contents ?? []) {
      const { Body } = await s3.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
      found.push({ key: key!, bytes: Buffer.from(await Body!.transformToByteArray()) });
    }
    token = page.NextContinuationToken;
  } while (token !== undefined);
  return found;
}

export async function archiveRows(bucket: string, partition: string): Promise<ArchiveRow[]> {
  const found = await objects(bucket, `raw/tenant=${partition}/`);
  return found.flatMap(({ bytes }) => [...readArchive(bytes)]);
}

export async function readMetrics(stream: string): Promise<Record<string, number>> {
  const totals = await Promise.all(
    METRICS.map(async (MetricName) => {
      const { Datapoints = [] } = await cloudwatch.send(
        new GetMetricStatisticsCommand({
          Namespace: "Freshet",
          MetricName,
          Dimensions: [{ Name: "stream", Value: stream }],
          StartTime: new Date(Date.now() - 6 * 3_600_000),
          EndTime: new Date(Date.now() + 60_000),
          Period: 60,
          Statistics: ["Sum"],
        }),
      );
      return [MetricName, Datapoints.reduce((sum, { Sum = 0 }) => sum + Sum, 0)] as const;
    }),
  );
  return Object.fromEntries(totals);
}

/** Metrics travel by the log: those of events that are settled may still be on their way. */
export async function settledMetrics(stream: string): Promise<Record<string, number>> {
  let last = await readMetrics(stream);
  await until(
    "the metrics to stand still",
    async () => {
      const now = await readMetrics(stream);
      const still = METRICS.every((name) => now[name] === last[name]);
      last = now;
      return still;
    },
    20_000,
    700,
  );
  return last;
}
