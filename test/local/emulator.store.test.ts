/** The emulator where it is not left as it is: its end while functions run, and its alarms. */
import type { ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import {
  CloudWatchClient,
  DescribeAlarmsCommand,
  PutMetricAlarmCommand,
  PutMetricDataCommand,
} from "@aws-sdk/client-cloudwatch";
import {
  CloudWatchLogsClient,
  CreateLogGroupCommand,
  CreateLogStreamCommand,
  DescribeLogStreamsCommand,
  DescribeSubscriptionFiltersCommand,
  PutSubscriptionFilterCommand,
} from "@aws-sdk/client-cloudwatch-logs";
import { CreateStreamCommand, DescribeStreamSummaryCommand, PutRecordsCommand } from "@aws-sdk/client-kinesis";
import { CreateEventSourceMappingCommand, CreateFunctionCommand, LambdaClient } from "@aws-sdk/client-lambda";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createKinesisClient } from "../../adapters/kinesis/client.ts";
import { clientConfig } from "../../local/deploy.ts";
import { endWithThisProcess } from "../../local/end-with-process.ts";
import { startPart, stopPart } from "../../local/parts.ts";
import { anyFreePort } from "../../local/ports.ts";
import { logFile } from "../../local/processes.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { zipped } from "../support/zipped.ts";

const GROUP = "/aws/lambda/chatty";
let home: string;
let ports: { emulator: number; valkey: number; serve: number };
let config: ReturnType<typeof clientConfig>;
let guard: ChildProcess;
beforeEach(async () => {
  home = temporaryFolder();
  guard = endWithThisProcess(home);
  ports = { emulator: await anyFreePort(), valkey: 0, serve: 0 };
  config = clientConfig(ports.emulator);
  await startPart(home, "emulator", ports);
});
afterEach(async () => {
  guard.kill("SIGKILL");
  await stopPart(home, "emulator");
});

it("keeps what it holds, though each of its functions' calls adds to it", async () => {
  const [kinesis, lambda, logs] = [
    createKinesisClient(config),
    new LambdaClient(config),
    new CloudWatchLogsClient(config),
  ];
  const Role = "arn:aws:iam::000000000000:role/any";
  const ZipFile = zipped('export const handler = async () => console.log("called");');
  const code = { Runtime: "nodejs24.x", Role, Handler: "index.handler", Code: { ZipFile } } as const;
  await lambda.send(new CreateFunctionCommand({ FunctionName: "chatty", ...code }));
  const { FunctionArn } = await lambda.send(new CreateFunctionCommand({ FunctionName: "reader", ...code }));
  await logs.send(new CreateLogGroupCommand({ logGroupName: GROUP }));
  const filter = { filterName: "kept", filterPattern: "nothing-of-it", destinationArn: FunctionArn };
  await logs.send(new PutSubscriptionFilterCommand({ logGroupName: GROUP, ...filter }));

  // Those of hours: the more there are, the longer they are copied.
  const many = Array.from({ length: 2_000 }, (_, i) => `stream-${i}`);
  for (let i = 0; i < many.length; i += 50) {
    await Promise.all(
      many
        .slice(i, i + 50)
        .map((logStreamName) => logs.send(new CreateLogStreamCommand({ logGroupName: GROUP, logStreamName }))),
    );
  }

  // More calls than can be made until the end, one after another.
  await kinesis.send(new CreateStreamCommand({ StreamName: "work", ShardCount: 1 }));
  await expect
    .poll(async () => {
      const { StreamDescriptionSummary } = await kinesis.send(new DescribeStreamSummaryCommand({ StreamName: "work" }));
      return StreamDescriptionSummary!.StreamStatus;
    })
    .toBe("ACTIVE");
  const Records = Array.from({ length: 500 }, () => ({ Data: Buffer.from("record"), PartitionKey: "one" }));
  for (let i = 0; i < 10; i++) await kinesis.send(new PutRecordsCommand({ StreamName: "work", Records }));
  const EventSourceArn = "arn:aws:kinesis:us-east-1:000000000000:stream/work";
  const StartingPosition = "TRIM_HORIZON";
  await lambda.send(
    new CreateEventSourceMappingCommand({ FunctionName: "chatty", EventSourceArn, StartingPosition, BatchSize: 1 }),
  );
  const called = async () => {
    const { logStreams } = await logs.send(
      new DescribeLogStreamsCommand({ logGroupName: GROUP, orderBy: "LastEventTime", descending: true, limit: 1 }),
    );
    return logStreams?.[0]?.lastEventTimestamp !== undefined;
  };
  await expect.poll(called).toBe(true);

  expect(await stopPart(home, "emulator")).toBe("clean");
  await startPart(home, "emulator", ports);
  const { subscriptionFilters } = await logs.send(new DescribeSubscriptionFiltersCommand({ logGroupName: GROUP }));
  expect(subscriptionFilters).toMatchObject([filter]);
  expect(readFileSync(logFile(home, "emulator"), "utf8")).not.toContain("Persistence");
  for (const client of [kinesis, lambda, logs]) client.destroy();
});

it("has an alarm follow its metric, though not with every point", async () => {
  const cloudwatch = new CloudWatchClient(config);
  const of = { Namespace: "Test", MetricName: "Failures" };
  await cloudwatch.send(
    new PutMetricAlarmCommand({
      ...{ ...of, AlarmName: "failing", Statistic: "Sum", Period: 60, EvaluationPeriods: 1, Threshold: 3 },
      ComparisonOperator: "GreaterThanOrEqualToThreshold",
    }),
  );
  const state = async () => {
    const { MetricAlarms } = await cloudwatch.send(new DescribeAlarmsCommand({ AlarmNames: ["failing"] }));
    return MetricAlarms![0].StateValue;
  };
  const put = (Value: number) =>
    cloudwatch.send(
      new PutMetricDataCommand({ Namespace: of.Namespace, MetricData: [{ MetricName: of.MetricName, Value }] }),
    );
  await put(1);
  expect(await state()).toBe("OK");
  await put(2);
  const later = async () => {
    await put(0);
    return state();
  };
  await expect.poll(later, { interval: 250 }).toBe("ALARM");
  cloudwatch.destroy();
});
