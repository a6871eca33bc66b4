/** Historical jobs on the plain server, over the emulator's S3 and DynamoDB; and what the function does with the table's changes. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PutObjectCommand } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodeArchive } from "../../../adapters/archive-format.ts";
import { HistoricalJobs } from "../../../adapters/historical-jobs.ts";
import { hourPath } from "../../../adapters/object-path.ts";
import { DuckSession } from "../../../adapters/offline/duckdb.ts";
import { createHistoricalPorts } from "../../../functions/api/historical-ports.ts";
import { createKey, type Scope } from "../../../functions/api/keys.ts";
import { listen, type RunningServer } from "../../../functions/api/server.ts";
import { ENVIRONMENT } from "../../../functions/shared/environment.ts";
import { runHistorical } from "../../../functions/shared/historical-run.ts";
import { createBucket, createTable, startEmulator, type TestEmulator, testClients } from "../../harness/emulator.ts";
import { FRAUD_START, labelRow, paymentRow } from "../../support/fraud-archive.ts";
import { type ContractTarget, caller } from "./contract-calls.ts";
import { describeHistorical, ended } from "./contract-historical.ts";
import { plan, testDependencies } from "./doubles.ts";

const BUCKET = "historical-archive";
const TABLE = "historical-jobs";
const folder = mkdtempSync(join(tmpdir(), "freshet-historical-test-"));
const before = { ...process.env };
const keys = { first: "", second: "", readOnly: "", expired: "" };
let emulator: TestEmulator;
let server: RunningServer;
const target: ContractTarget = { baseUrl: () => server.url, keys: () => keys, plan, exactBytes: true };

beforeAll(async () => {
  emulator = await startEmulator();
  await createBucket(emulator.url, BUCKET);
  await createTable(emulator.url, TABLE);
  Object.assign(process.env, {
    AWS_ENDPOINT_URL: emulator.url,
    AWS_REGION: "us-east-1",
    AWS_ACCESS_KEY_ID: "test",
    AWS_SECRET_ACCESS_KEY: "test",
    [ENVIRONMENT.archiveBucket]: BUCKET,
    [ENVIRONMENT.jobsTable]: TABLE,
  });
  const { dependencies, keys: table } = testDependencies();
  const make = async (tenant: string, scopes: Scope[]) => (await createKey(table, { tenant, scopes, nowMs: 0 })).key;
  keys.first = await make("team-a", ["read", "write", "score"]);
  keys.second = await make("team-b", ["read"]);
  keys.readOnly = await make("team-a", ["read"]);
  const historical = createHistoricalPorts({ run: runHistorical, log: () => {} });
  server = await listen({ port: 0, dependencies: { ...dependencies, clock: Date.now, historical } });
});
afterAll(async () => {
  await server?.close();
  await emulator?.stop();
  process.env = before;
  rmSync(folder, { recursive: true });
});

describeHistorical(target);

describe("a job over the archive", () => {
  it("reads its own tenant's labels and events, and no other's", async () => {
    const payment = (id: string, minute: number, amount: number) =>
      paymentRow({ id, timeMs: FRAUD_START + minute * 60_000, card: "c1", amount });
    const verdict = labelRow({ id: "l1", payment: "p2", timeMs: FRAUD_START + 3_600_000, fraud: true });
    const { s3 } = testClients(emulator.url);
    for (const [tenant, rows] of [
      ["team-a", [payment("p1", 0, 10), payment("p2", 2, 20), verdict]],
      ["team-b", [payment("q1", 1, 1_000)]],
    ] as const) {
      for (const row of rows) {
        const Key = `raw/tenant=${tenant}/stream=${row.stream}/${hourPath(row.arrivalMs)}/${row.arrivalMs}-${row.eventId}.ndjson.zst`;
        await s3.send(new PutObjectCommand({ Bucket: BUCKET, Key, Body: encodeArchive([{ ...row, tenant }]) }));
      }
    }
    const range = { from: new Date(FRAUD_START).toISOString(), to: FRAUD_START + 86_400_000 };
    const { body } = await caller(target)("/v1/features/historical", { body: { service: "fraud", ...range } });
    const job = await ended(target, body.job_id);
    expect(job).toMatchObject({ state: "done", manifest: { row_count: 1, positives: 1, tenant: "team-a" } });
    const file = join(folder, "part.parquet");
    writeFileSync(file, Buffer.from(await (await fetch(job.files[1].url)).arrayBuffer()));
    const session = await DuckSession.open({ folder });
    const rows = await session.rows(`SELECT * FROM read_parquet('${file}')`);
    session.close();
    expect(rows).toMatchObject([
      {
        event_id: "p2",
        "card_activity:tx_count_1h": 1n,
        "card_activity:amount_sum_1h": 10,
        "request:amount": 20,
        label: 1,
      },
    ]);
  });
});

describe("the function that the table wakes", () => {
  it("runs a job of its own once, and leaves a server's alone", async () => {
    const { handler } = await import("../../../functions/historical.ts");
    const jobs = new HistoricalJobs({ table: TABLE, dynamodb: testClients(emulator.url).dynamodb });
    const job = (id: string, runner: "function" | "process") => ({
      ...{
        tenant: "team-a",
        id,
        runner,
        state: "queued" as const,
        progress: 0,
        createdMs: Date.now(),
        updatedMs: Date.now(),
      },
      request: {
        service: "fraud",
        labels: "labels",
        asOf: "event_time" as const,
        fromMs: null,
        toMs: null,
        spineKey: null,
      },
      ...{ files: [], manifest: null, error: null },
    });
    const woken = async (id: string, runner: "function" | "process") => {
      const image = { pk: { S: "job#team-a" }, sk: { S: id }, runner: { S: runner } };
      const record = { eventName: "INSERT" as const, dynamodb: { NewImage: image } };
      await handler({ Records: [record] }, { memoryLimitInMB: "2048" });
      return (await jobs.get("team-a", id))!;
    };
    await jobs.create(job("mine", "function"));
    await jobs.create(job("theirs", "process"));
    expect(await woken("mine", "function")).toMatchObject({ state: "done", manifest: { row_count: 1 } });
    expect(await woken("theirs", "process")).toMatchObject({ state: "queued" });
    const { updatedMs } = (await jobs.get("team-a", "mine"))!;
    expect((await woken("mine", "function")).updatedMs).toBe(updatedMs);
  });
});
