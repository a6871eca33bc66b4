/** Metrics that alarms stand on and no other test makes: through the functions' logs into CloudWatch. */
import { randomUUID } from "node:crypto";
import { CloudWatchClient, GetMetricStatisticsCommand } from "@aws-sdk/client-cloudwatch";
import { PutRecordCommand } from "@aws-sdk/client-kinesis";
import { afterAll, expect, it } from "vitest";
import { EventCodec, type EventFields } from "../../adapters/avro/event-codec.ts";
import { createKinesisClient } from "../../adapters/kinesis-client.ts";
import { KplPacker } from "../../adapters/kpl.ts";
import { transaction } from "../functions/api/contract/contract-calls.ts";
import { createTenant, deployed, deployedClientConfig } from "../support/deployed.ts";
import { invoke, until } from "./app.ts";

const cloudwatch = new CloudWatchClient(deployedClientConfig());
const kinesis = createKinesisClient(deployedClientConfig());
afterAll(() => {
  cloudwatch.destroy();
  kinesis.destroy();
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
    await kinesis.send(
      new PutRecordCommand({ StreamName: deployed().streams["transactions"], Data, PartitionKey: tenant }),
    );
  };
  // The emulator hands a function's log to its subscriber once, whether or not that succeeds: so it may take several.
  let sentMs = 0;
  const found = await until(
    "the conflicts to be counted",
    async () => {
      if (Date.now() - sentMs > 5_000) {
        await sendConflicts();
        sentMs = Date.now();
      }
      const { sum } = await points("IdentityConflicts", "stream", "transactions");
      return sum >= before.sum + 2 && sum - before.sum;
    },
    60_000,
  );
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
