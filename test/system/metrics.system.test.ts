/** Metrics that alarms stand on and no other test makes: through the functions' logs into CloudWatch. */
import { randomUUID } from "node:crypto";
import { CloudWatchClient, GetMetricStatisticsCommand } from "@aws-sdk/client-cloudwatch";
import {
  CloudWatchLogsClient,
  DescribeSubscriptionFiltersCommand,
  FilterLogEventsCommand,
} from "@aws-sdk/client-cloudwatch-logs";
import { PutRecordCommand, type PutRecordCommandOutput } from "@aws-sdk/client-kinesis";
import { afterAll, expect, it } from "vitest";
import { EventCodec, type EventFields } from "../../adapters/avro/event-codec.ts";
import { createKinesisClient } from "../../adapters/kinesis/client.ts";
import { KplPacker } from "../../adapters/kinesis/kpl.ts";
import { Watermark } from "../../adapters/valkey/watermark.ts";
import { transaction } from "../functions/api/contract/contract-calls.ts";
import { createTenant, deployed, deployedClientConfig } from "../support/deployed.ts";
import { invoke, until, withStore } from "./app.ts";

const cloudwatch = new CloudWatchClient(deployedClientConfig());
const kinesis = createKinesisClient(deployedClientConfig());
const logs = new CloudWatchLogsClient(deployedClientConfig());
afterAll(() => {
  cloudwatch.destroy();
  kinesis.destroy();
  logs.destroy();
});

async function points(MetricName: string, Name: string, Value: string) {
  const { Datapoints = [] } = await cloudwatch.send(
    new GetMetricStatisticsCommand({
      Namespace: "Freshet",
      MetricName,
      Dimensions: [{ Name, Value }],
      StartTime: new Date(Date.now() - 6 * 3_600_000),
      EndTime: new Date(Date.now() + 60_000),
      Period: 60,
      Statistics: ["Sum", "Maximum"],
    }),
  );
  return { sum: Datapoints.reduce((total, { Sum = 0 }) => total + Sum, 0), count: Datapoints.length };
}

/** How far a record came on its way to CloudWatch: applied, in the function's log, handed to what puts metrics. */
async function wayOf({ ShardId, SequenceNumber }: PutRecordCommandOutput, sinceMs: number): Promise<string> {
  const { committed } = await withStore((connection) => new Watermark(connection).read("transactions"));
  const group = (name: string) => ({ logGroupName: `/aws/lambda/freshet-local-${name}` });
  const lines = async (name: string, word: string) => {
    const { events = [] } = await logs.send(new FilterLogEventsCommand({ ...group(name), startTime: sinceMs }));
    return events.filter(({ message }) => message?.includes(word)).length;
  };
  const { subscriptionFilters = [] } = await logs.send(new DescribeSubscriptionFiltersCommand(group("aggregate")));
  return JSON.stringify({
    ...{ ShardId, SequenceNumber, sinceMs, committedMs: committed.get(ShardId!) },
    logged: await lines("aggregate", "IdentityConflicts"),
    subscribed: subscriptionFilters.length,
    bridged: await lines("metrics-bridge", group("aggregate").logGroupName),
  });
}

it("one identity with two payloads and one id with two times are counted for their stream", async () => {
  const before = await points("IdentityConflicts", "stream", "transactions");
  const { tenant } = await createTenant();
  const codec = EventCodec.for("transactions.v1");
  const sendConflicts = async () => {
    const event = { ...transaction(), tenant, transaction_id: randomUUID() };
    const at = event["event_time" as never] as number;
    const packer = new KplPacker();
    // One record of the broker, so that all of it is one batch.
    for (const more of [{}, {}, { amount: 99 }, { event_time: at - 1_000 }]) {
      packer.add(tenant, codec.encode({ ...event, ...more } as unknown as EventFields));
    }
    const Data = packer.take();
    return kinesis.send(
      new PutRecordCommand({ StreamName: deployed().streams["transactions"], Data, PartitionKey: tenant }),
    );
  };
  // The emulator hands a function's log to its subscriber once, whether or not that succeeds: so it may take several.
  let sentMs = 0;
  let sent: PutRecordCommandOutput | undefined;
  const beganMs = Date.now();
  const found = await until(
    "the conflicts to be counted",
    async () => {
      if (Date.now() - sentMs > 5_000) {
        sent = await sendConflicts();
        sentMs = Date.now();
      }
      const { sum } = await points("IdentityConflicts", "stream", "transactions");
      return sum >= before.sum + 2 && sum - before.sum;
    },
    60_000,
  ).catch(async (error: Error) => {
    throw new Error(`${error.message}; of the last: ${await wayOf(sent!, beganMs)}`, { cause: error.cause });
  });
  expect(found).toBeGreaterThanOrEqual(2);
});

it("control says how many buckets are not ok", async () => {
  await invoke("control");
  const { count } = await until("the metric to arrive", async () => {
    const found = await points("BucketsNotOk", "service", "control");
    return found.count > 0 && found;
  });
  expect(count).toBeGreaterThan(0);
});
