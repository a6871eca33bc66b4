/** A real emulator for one test file: own port, own folder, gone with the test. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { CreateTableCommand, DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { CreateBucketCommand, type S3Client } from "@aws-sdk/client-s3";
import { DURABLE_CLIENT } from "../../adapters/aws/durable-call.ts";
import { s3Client } from "../../adapters/s3/client.ts";
import { emulatorProcess, emulatorUrl, pingEmulator } from "../../local/emulator.ts";
import { anyFreePort } from "../../local/ports.ts";

export interface TestEmulator {
  readonly url: string;
  readonly port: number;
  stop(): Promise<void>;
}

const START_TIMEOUT_MS = 60_000;
const running = new Set<ChildProcess>();
// A worker that ends without its afterAll must not leave emulators behind.
process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

export async function startEmulator(): Promise<TestEmulator> {
  const home = mkdtempSync(join(tmpdir(), "freshet-emulator-"));
  const port = await anyFreePort();
  const spec = emulatorProcess(home, { emulator: port, valkey: 0 });
  const child = spawn(spec.command, spec.args, {
    cwd: spec.cwd,
    env: { ...spec.env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  running.add(child);
  child.once("exit", () => running.delete(child));
  let output = "";
  const keep = (chunk: Buffer) => {
    output = (output + chunk).slice(-4_000);
  };
  child.stdout.on("data", keep);
  child.stderr.on("data", keep);
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (!(await pingEmulator(port).catch(() => false))) {
    if (child.exitCode !== null || Date.now() > deadline) {
      child.kill("SIGKILL");
      throw new Error(`the emulator did not start on port ${port}:\n${output}`);
    }
    await sleep(25);
  }
  return {
    url: emulatorUrl(port),
    port,
    // Nothing of it is kept, so there is nothing to end in order.
    async stop() {
      if (child.exitCode === null && child.signalCode === null) {
        const ended = once(child, "exit");
        child.kill("SIGKILL");
        await ended;
      }
      rmSync(home, { recursive: true, force: true });
    },
  };
}

const CREDENTIALS = { accessKeyId: "test", secretAccessKey: "test" };

/** Clients with the settings of the functions, for an emulator or a proxy before it. */
export function testClients(endpoint: string): { s3: S3Client; dynamodb: DynamoDBClient } {
  const options = { ...DURABLE_CLIENT, endpoint, region: "us-east-1", credentials: CREDENTIALS };
  return { s3: s3Client(options), dynamodb: new DynamoDBClient(options) };
}

export async function createBucket(endpoint: string, bucket: string): Promise<void> {
  await made(testClients(endpoint).s3.send(new CreateBucketCommand({ Bucket: bucket })));
}

/** A database of Glue: the emulator's Athena knows no CREATE DATABASE, and no client of Glue is at hand. */
export async function createCatalogue(endpoint: string, name: string): Promise<void> {
  const answer = await fetch(endpoint, {
    method: "POST",
    headers: {
      "content-type": "application/x-amz-json-1.1",
      "x-amz-target": "AWSGlue.CreateDatabase",
      authorization:
        "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/glue/aws4_request, SignedHeaders=host, Signature=0",
    },
    body: JSON.stringify({ DatabaseInput: { Name: name } }),
  });
  if (answer.status !== 200) throw new Error(`the emulator made no database: ${await answer.text()}`);
}

/** Clients try again when an answer is late, as on a busy machine, and may then be told of what their own first attempt has made. */
async function made(creation: Promise<unknown>): Promise<void> {
  try {
    await creation;
  } catch (error) {
    const { name, $metadata } = error as { name: string; $metadata?: { attempts?: number } };
    const exists = name === "ResourceInUseException" || name === "BucketAlreadyOwnedByYou";
    if (!exists || ($metadata?.attempts ?? 1) === 1) throw error;
  }
}

/** As the deployment's table of API keys. */
export async function createKeysTable(endpoint: string, table: string): Promise<void> {
  await made(
    testClients(endpoint).dynamodb.send(
      new CreateTableCommand({
        TableName: table,
        BillingMode: "PAY_PER_REQUEST",
        AttributeDefinitions: ["id", "tenant"].map((AttributeName) => ({ AttributeName, AttributeType: "S" })),
        KeySchema: [{ AttributeName: "id", KeyType: "HASH" }],
        GlobalSecondaryIndexes: [
          {
            IndexName: "tenant",
            KeySchema: [{ AttributeName: "tenant", KeyType: "HASH" }],
            Projection: {
              ProjectionType: "INCLUDE",
              NonKeyAttributes: ["name", "scopes", "created_at_ms", "expires_at_ms", "rotated_from", "rotated_to"],
            },
          },
        ],
      }),
    ),
  );
}

/** A table with the keys that all of ours have. */
export async function createTable(endpoint: string, table: string): Promise<void> {
  await made(
    testClients(endpoint).dynamodb.send(
      new CreateTableCommand({
        TableName: table,
        BillingMode: "PAY_PER_REQUEST",
        AttributeDefinitions: [
          { AttributeName: "pk", AttributeType: "S" },
          { AttributeName: "sk", AttributeType: "S" },
        ],
        KeySchema: [
          { AttributeName: "pk", KeyType: "HASH" },
          { AttributeName: "sk", KeyType: "RANGE" },
        ],
      }),
    ),
  );
}
