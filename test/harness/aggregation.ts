/**
 * The whole aggregation path for a test, of real parts: Valkey, an emulator's S3 and DynamoDB, and the bundled functions,
 * each reached through a proxy that can break it. Only the mapping is ours, since no emulator's follows the documented rules.
 */
import { GetObjectCommand, ListObjectsV2Command } from "@aws-sdk/client-s3";
import { type ArchiveRow, readArchive } from "../../adapters/archive/archive.ts";
import { EventCodec, type EventFields } from "../../adapters/avro/event-codec.ts";
import { plan } from "../../features/plan.ts";
import { type FaultProxy, startAwsFaultProxy } from "../../local/faults/aws-proxy.ts";
import { startTcpFaultProxy, type TcpFaultProxy } from "../../local/faults/tcp-proxy.ts";
import { startValkey, type TestValkey } from "../support/valkey.ts";
import { createBucket, createTable, startEmulator, type TestEmulator, testClients } from "./emulator.ts";
import { bundleHandler, type FunctionBundle, type FunctionHost, processHost } from "./function-host.ts";
import { InMemoryStream } from "./kinesis-stream.ts";
import { VirtualClock } from "./virtual-clock.ts";

export const BUCKETS = { archive: "freshet-archive", quarantine: "freshet-quarantine" };
export const TABLES = { quarantine: "freshet-quarantine", late: "freshet-late", control: "freshet-control" };
const FUNCTION_TIMEOUT_MS = 60_000;

export interface TestAggregation {
  readonly valkey: TestValkey;
  /** Between the functions and Valkey. */
  readonly valkeyFaults: TcpFaultProxy;
  readonly emulator: TestEmulator;
  /** Between the functions and S3 and DynamoDB. */
  readonly awsFaults: FaultProxy;
  /** Of the functions: for a host of another one. */
  readonly environment: Readonly<Record<string, string>>;
  /** The aggregate function, each invocation in a process of its own. */
  readonly aggregate: FunctionHost;
  readonly clock: VirtualClock;
  readonly stream: InMemoryStream;
  /** Puts one event of the stream's contract, encoded as producers encode it. */
  put(partitionKey: string, fields: EventFields, copies?: number): void;
  /** Runs the control function, as the heartbeat does, with the stream's shards. */
  tick(): Promise<any>;
  /** Every row of the stream's archive. */
  archived(): Promise<ArchiveRow[]>;
  stop(): Promise<void>;
}

/**
 * @param streamName of the plan, as `transactions`
 * @param more of the functions' environment
 */
export async function startAggregation(
  streamName: string,
  shards = 2,
  more: Readonly<Record<string, string>> = {},
): Promise<TestAggregation> {
  const [valkey, emulator, aggregateBundle, controlBundle] = await Promise.all([
    startValkey(),
    startEmulator(),
    bundleHandler("functions/aggregate.ts"),
    bundleHandler("functions/control.ts"),
  ]);
  const valkeyFaults = await startTcpFaultProxy(valkey);
  const awsFaults = await startAwsFaultProxy(emulator.url);
  for (const bucket of Object.values(BUCKETS)) await createBucket(emulator.url, bucket);
  for (const table of Object.values(TABLES)) await createTable(emulator.url, table);
  // Virtual, but from now on: the store's and control's clocks are real.
  const clock = new VirtualClock(Date.now());
  const stream = new InMemoryStream({ name: `freshet-local-${streamName}`, clock, shards });
  const environment = { ...functionEnvironment(streamName, stream, valkeyFaults, awsFaults), ...more };
  const aggregate = processHost(aggregateBundle, environment);
  const control = processHost(controlBundle, environment);
  const codec = EventCodec.for(plan.streams.find(({ name }) => name === streamName)!.contract);

  return {
    valkey,
    valkeyFaults,
    emulator,
    awsFaults,
    environment,
    aggregate,
    clock,
    stream,
    put: (partitionKey, fields, copies = 1) => stream.put({ partitionKey, data: codec.encode(fields), copies }),
    tick: () =>
      control.invoke(
        { kind: "tick", streams: { [streamName]: { createdAtMs: stream.createdAtMs, shards: stream.shardList() } } },
        {
          awsRequestId: "tick",
          functionName: "control",
          invokedFunctionArn: "arn:control",
          timeoutMs: FUNCTION_TIMEOUT_MS,
        },
      ),
    archived: () => archivedRows(emulator.url, streamName),
    async stop() {
      await Promise.all([aggregate.close(), control.close()]);
      for (const bundle of [aggregateBundle, controlBundle] satisfies FunctionBundle[]) bundle.remove();
      await Promise.all([valkeyFaults.stop(), awsFaults.stop()]);
      await Promise.all([valkey.stop(), emulator.stop()]);
    },
  };
}

const functionEnvironment = (
  streamName: string,
  stream: InMemoryStream,
  valkey: { host: string; port: number },
  aws: { url: string },
): Record<string, string> => ({
  AWS_REGION: "us-east-1",
  AWS_ACCESS_KEY_ID: "test",
  AWS_SECRET_ACCESS_KEY: "test",
  AWS_ENDPOINT_URL: aws.url,
  POWERTOOLS_LOG_LEVEL: "SILENT",
  FRESHET_TARGET: "local",
  FRESHET_VALKEY_HOST: valkey.host,
  FRESHET_VALKEY_PORT: String(valkey.port),
  FRESHET_VALKEY_TLS: "0",
  FRESHET_VALKEY_CLUSTER: "0",
  FRESHET_ARCHIVE_BUCKET: BUCKETS.archive,
  FRESHET_QUARANTINE_BUCKET: BUCKETS.quarantine,
  FRESHET_QUARANTINE_TABLE: TABLES.quarantine,
  FRESHET_LATE_TABLE: TABLES.late,
  FRESHET_CONTROL_TABLE: TABLES.control,
  FRESHET_AGGREGATE_TIMEOUT_MS: String(FUNCTION_TIMEOUT_MS),
  FRESHET_STREAMS: JSON.stringify({ [streamName]: stream.name }),
});

async function archivedRows(url: string, streamName: string): Promise<ArchiveRow[]> {
  const { s3 } = testClients(url);
  const rows: ArchiveRow[] = [];
  let token: string | undefined;
  do {
    const page = await s3.send(
      new ListObjectsV2Command({ Bucket: BUCKETS.archive, Prefix: "raw/", ContinuationToken: token }),
    );
    for (const { Key } of page.Contents ?? []) {
      if (!Key!.includes(`/stream=${streamName}/`)) continue;
      const object = await s3.send(new GetObjectCommand({ Bucket: BUCKETS.archive, Key }));
      rows.push(...readArchive(await object.Body!.transformToByteArray()));
    }
    token = page.NextContinuationToken;
  } while (token !== undefined);
  return rows;
}
