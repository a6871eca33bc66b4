/** The same small function behind a mapping of LocalStack's and behind the harness's: what was delivered, and what given up. */
import { randomUUID } from "node:crypto";
import { CloudWatchLogsClient, FilterLogEventsCommand } from "@aws-sdk/client-cloudwatch-logs";
import { CreateStreamCommand, DescribeStreamCommand, PutRecordsCommand } from "@aws-sdk/client-kinesis";
import {
  CreateEventSourceMappingCommand,
  CreateFunctionCommand,
  DeleteEventSourceMappingCommand,
  GetFunctionCommand,
  LambdaClient,
} from "@aws-sdk/client-lambda";
import { CreateBucketCommand } from "@aws-sdk/client-s3";
import { expect } from "vitest";
import { createKinesisClient } from "../../../adapters/kinesis/client.ts";
import { parseFailedBatch } from "../../../adapters/mapping/failed-batches.ts";
import { s3Client } from "../../../adapters/s3/client.ts";
import { inProcessHost } from "../../harness/function-host.ts";
import { KinesisMapping } from "../../harness/kinesis-mapping.ts";
import { InMemoryStream } from "../../harness/kinesis-stream.ts";
import { seededRandom } from "../../harness/random.ts";
import { VirtualClock } from "../../harness/virtual-clock.ts";
import { deployedClientConfig } from "../../support/deployed.ts";
import { zipped } from "../../support/zipped.ts";
import { until } from "../../system/app.ts";
import { objects } from "../../system/stored.ts";

interface Probe {
  /** Body of the handler; `calls` counts from 1, `id(i)` is the sequence number of the delivery's record. */
  readonly code: string;
  readonly retries: number;
  /** What both deliver, as positions of the five records. */
  readonly delivered: readonly (readonly number[])[];
  /** Of the records that were given up. */
  readonly givenUp: readonly number[];
}

const ALL = [0, 1, 2, 3, 4];
export const PROBES: Readonly<Record<string, Probe>> = {
  "a handler that throws twice": {
    code: `if (calls <= 2) throw new Error("not yet");`,
    retries: 5,
    delivered: [ALL, ALL, ALL],
    givenUp: [],
  },
  "one that reports single failures": {
    code: `if (calls <= 2) return { batchItemFailures: [3, 2].map((i) => ({ itemIdentifier: id(i - calls + 1) })) };`,
    retries: 5,
    delivered: [ALL, [2, 3, 4], [3, 4]],
    givenUp: [],
  },
  "one that names a record of no batch": {
    code: `if (calls === 1) return { batchItemFailures: [{ itemIdentifier: "1" }] };`,
    retries: 5,
    delivered: [ALL, ALL],
    givenUp: [],
  },
  "one that answers an empty list": {
    code: `return { batchItemFailures: [] };`,
    retries: 5,
    delivered: [ALL],
    givenUp: [],
  },
  "one that always throws": {
    code: `throw new Error("never");`,
    retries: 1,
    delivered: [ALL, ALL],
    givenUp: ALL,
  },
};

const sourceOf = ({ code }: Probe): string => `
let calls = 0;
export const handler = async ({ Records }) => {
  calls++;
  const id = (i) => Records[i].kinesis.sequenceNumber;
  console.log(JSON.stringify({ delivered: Records.map((_, i) => id(i)) }));
  ${code}
};
`;

/** Runs the probe on both, and holds both against what it says. */
export async function behaveAlike(probe: Probe): Promise<void> {
  const [ours, theirs] = [await onHarness(probe), await onLocalStack(probe)];
  const wanted = { delivered: probe.delivered, givenUp: probe.givenUp };
  expect(ours, "the harness").toEqual(wanted);
  expect(theirs, "LocalStack").toEqual(wanted);
}

type Seen = Pick<Probe, "delivered" | "givenUp">;

async function onHarness(probe: Probe): Promise<Seen> {
  const clock = new VirtualClock(Date.now());
  const stream = new InMemoryStream({ name: "probe", clock });
  const sequences = ALL.map((i) => stream.put({ partitionKey: "one", data: Buffer.from(String(i)) }).sequence);
  // A module of its own each time: it counts its calls.
  const source = `${sourceOf(probe)}// ${randomUUID()}`;
  const { handler } = await import(`data:text/javascript,${encodeURIComponent(source)}`);
  const mapping = new KinesisMapping({
    ...{ stream, clock, random: seededRandom(1), host: inProcessHost(handler) },
    settings: {
      batchSize: ALL.length,
      startingPosition: "TRIM_HORIZON",
      maximumRetryAttempts: probe.retries,
      bisectBatchOnFunctionError: false,
      reportBatchItemFailures: true,
    },
  });
  await mapping.run();
  const positions = (given: readonly string[]) => given.map((sequence) => sequences.indexOf(sequence));
  return {
    delivered: mapping.invocations.map((invocation) => positions(invocation.sequences)),
    givenUp: mapping.failures.flatMap(({ body }) => records(JSON.stringify(body))),
  };
}

/** Positions that a failure object holds, as the app itself reads it. */
const records = (text: string): number[] =>
  parseFailedBatch(text, Date.now()).flatMap((run) => run.records.map(({ bytes }) => Number(bytes.toString("utf8"))));

async function onLocalStack(probe: Probe): Promise<Seen> {
  const name = `probe-${randomUUID()}`;
  const kinesis = createKinesisClient(deployedClientConfig());
  const lambda = new LambdaClient(deployedClientConfig());
  const s3 = s3Client(deployedClientConfig());
  const logs = new CloudWatchLogsClient(deployedClientConfig());
  try {
    await s3.send(new CreateBucketCommand({ Bucket: name }));
    await kinesis.send(new CreateStreamCommand({ StreamName: name, ShardCount: 1 }));
    const stream = await until("the stream", async () => {
      const { StreamDescription } = await kinesis.send(new DescribeStreamCommand({ StreamName: name }));
      return StreamDescription!.StreamStatus === "ACTIVE" && StreamDescription;
    });
    // Before the mapping is there: what it reads first is one batch.
    const Records = ALL.map((i) => ({ Data: Buffer.from(String(i)), PartitionKey: "one" }));
    const put = await kinesis.send(new PutRecordsCommand({ StreamName: name, Records }));
    const sequences = put.Records!.map(({ SequenceNumber }) => SequenceNumber!);
    await lambda.send(
      new CreateFunctionCommand({
        FunctionName: name,
        Code: { ZipFile: zipped(sourceOf(probe)) },
        Handler: "index.handler",
        Runtime: "nodejs24.x",
        Role: "arn:aws:iam::000000000000:role/probe",
      }),
    );
    await until("the function", async () => {
      const { Configuration } = await lambda.send(new GetFunctionCommand({ FunctionName: name }));
      return Configuration!.State === "Active";
    });
    const { UUID } = await lambda.send(
      new CreateEventSourceMappingCommand({
        FunctionName: name,
        EventSourceArn: stream.StreamARN,
        StartingPosition: "TRIM_HORIZON",
        BatchSize: ALL.length,
        MaximumRetryAttempts: probe.retries,
        FunctionResponseTypes: ["ReportBatchItemFailures"],
        DestinationConfig: { OnFailure: { Destination: `arn:aws:s3:::${name}` } },
      }),
    );
    const delivered = async (): Promise<string[][]> => {
      const { events = [] } = await logs.send(new FilterLogEventsCommand({ logGroupName: `/aws/lambda/${name}` }));
      return events.flatMap(({ message = "" }) => (message.startsWith("{") ? [JSON.parse(message).delivered] : []));
    };
    const lost = async () => (await objects(name, "aws/lambda/")).flatMap(({ bytes }) => records(bytes.toString()));
    await until(
      "all that is to be delivered, and given up",
      async () => (await delivered()).length >= probe.delivered.length && (await lost()).length >= probe.givenUp.length,
      120_000,
      250,
    );
    await lambda.send(new DeleteEventSourceMappingCommand({ UUID }));
    const positions = (given: readonly string[]) => given.map((sequence) => sequences.indexOf(sequence));
    return { delivered: (await delivered()).map(positions), givenUp: await lost() };
  } finally {
    for (const client of [kinesis, lambda, s3, logs]) client.destroy();
  }
}
