/**
 * Local target only: puts the metrics that functions wrote to their logs, which AWS takes out of the logs by itself.
 * CloudWatch Logs subscription → embedded metric format → PutMetricData.
 */
import { gunzipSync } from "node:zlib";
import { CloudWatchClient, PutMetricDataCommand } from "@aws-sdk/client-cloudwatch";
import type { CloudWatchLogsDecodedData, CloudWatchLogsEvent } from "aws-lambda";
import { metricData } from "./shared/embedded-metrics.ts";

const cloudwatch = new CloudWatchClient({});

export async function handler(event: CloudWatchLogsEvent): Promise<void> {
  const logs: CloudWatchLogsDecodedData = JSON.parse(
    gunzipSync(Buffer.from(event.awslogs.data, "base64")).toString("utf8"),
  );
  const calls = metricData(logs.logEvents.map(({ message }) => message));
  for (const { namespace, data } of calls) {
    await cloudwatch.send(new PutMetricDataCommand({ Namespace: namespace, MetricData: data }));
  }
  const metrics = calls.reduce((sum, { data }) => sum + data.length, 0);
  // A line each time: the emulator waits 50 ms for the output of a function that prints nothing.
  console.log(JSON.stringify({ level: "DEBUG", message: "metrics put", source: logs.logGroup, metrics }));
}
