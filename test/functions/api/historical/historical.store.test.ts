/** Historical jobs on the plain server, over the emulator's S3 and DynamoDB; and what the function does with the table's changes. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ListObjectsV2Command, PutObjectCommand } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodeArchive } from "../../../../adapters/archive/archive-format.ts";
import {
  encodeInferenceLog,
  type InferenceRow,
  inferenceLine,
} from "../../../../adapters/inference-log/inference-log-format.ts";
import { type HistoricalJob, HistoricalJobs, jobId } from "../../../../adapters/jobs/historical-jobs.ts";
import { DuckSession } from "../../../../adapters/offline/duckdb.ts";
import { packedLine, writeLines } from "../../../../adapters/pushed/values-format.ts";
import { hourPath } from "../../../../adapters/s3/object-path.ts";
import { packValues } from "../../../../adapters/valkey/packed.ts";
import { type PushedFeature, storedView } from "../../../../core/pushed-feature.ts";
import { definitions } from "../../../../features/index.ts";
import { createHistoricalPorts } from "../../../../functions/api/historical/historical-ports.ts";
import { createJobQueue } from "../../../../functions/api/historical/historical-queue.ts";
import { createKey, type Scope } from "../../../../functions/api/keys/keys.ts";
import type { PushedPorts } from "../../../../functions/api/registered/pushed-ports.ts";
import { listen, type RunningServer } from "../../../../functions/api/server.ts";
import { ENVIRONMENT } from "../../../../functions/shared/environment.ts";
import { runHistorical } from "../../../../functions/shared/training/historical-run.ts";
import { createBucket, createTable, startEmulator, type TestEmulator, testClients } from "../../../harness/emulator.ts";
import { FRAUD_START, labelRow, paymentRow } from "../../../support/fraud-archive.ts";
import { inferenceRow } from "../../../support/inference-row.ts";
import { type ContractTarget, caller } from "../contract/contract-calls.ts";
import { describeHistorical, ended } from "../contract/contract-historical.ts";
import { plan, testDependencies } from "../doubles.ts";

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
  const historical = createHistoricalPorts({ queueOf: createJobQueue, log: () => {} });
  const pushed: PushedPorts = {
    registry: {
      load: async (_, known) =>
        known === 1 ? null : { revision: 1, features: [age, elsewhere], current: new Map([["profile:age", 1]]) },
      register: () => Promise.reject(new Error("nobody registers here")),
    },
    store: { push: async () => [] },
    archive: { append: async () => {} },
    close: async () => {},
  };
  server = await listen({ port: 0, dependencies: { ...dependencies, clock: Date.now, historical, pushed } });
});
afterAll(async () => {
  await server?.close();
  await emulator?.stop();
  process.env = before;
  rmSync(folder, { recursive: true });
});

describeHistorical(target);

const age: PushedFeature = {
  ...{ view: "profile", key: "age", version: 1, entity: "card", dtype: "double", ttlMs: 86_400_000, id: 3 },
  ...{ description: "", unit: "", owner: "", tags: [], deprecated: null, registeredMs: 0 },
};
const elsewhere: PushedFeature = { ...age, key: "taste", entity: "item" };

describe("registered features beside the service's own", () => {
  it.each([
    ["profile:age", 400, "wrong_type", "features"],
    [["profile:size"], 404, "feature_unknown", "features[0]"],
    [["profile:age", "profile:taste@1"], 400, "entities_differ", "features[1]"],
  ])("%j → %i %s", async (features, status, code, field) => {
    const reply = await caller(target)("/v1/features/historical", { body: { service: "fraud", features } });
    expect([reply.status, reply.body.code, reply.body.field]).toEqual([status, code, field]);
  });
});

describe("jobs that wait or run", () => {
  it("are ten for a tenant, whoever else has how many; those that ended, are lost or forgotten do not count", async () => {
    const jobs = table();
    const now = Date.now();
    const make = (n: number, change: Partial<HistoricalJob> = {}, atMs = now) =>
      jobs.create({ ...queued(jobId(atMs, String(n)), "function"), tenant: "team-b", ...change });
    for (let n = 0; n < 9; n++) await make(n);
    await make(10, { state: "done" });
    await make(11, { state: "failed" });
    await make(12, { state: "running", updatedMs: now - 17 * 60_000 });
    await make(13, {}, now - 3_700_000);
    const start = (key: string) => caller(target)("/v1/features/historical", { body: { service: "fraud" }, key });
    expect((await start(keys.second)).status).toBe(202);
    // The one that was begun may be done by now.
    await make(9);
    const refused = await start(keys.second);
    expect([refused.status, refused.body.code, refused.headers.get("retry-after")]).toEqual([
      ...[429, "too_many_jobs", "30"],
    ]);
    expect(refused.body.detail).toMatch(/^1[01] jobs of the tenant wait or run, the limit is 10$/);
    expect((await start(keys.readOnly)).status).toBe(202);
  });
});

const queued = (id: string, runner: HistoricalJob["runner"]): HistoricalJob => ({
  ...{ tenant: "team-a", id, runner, state: "queued", progress: 0, createdMs: Date.now(), updatedMs: Date.now() },
  request: { service: "fraud", labels: "labels", asOf: "event_time", fromMs: null, toMs: null, spineKey: null },
  ...{ files: [], manifest: null, error: null },
});
/** Processes that are begun from here on meet an archive that is connected to and never answers, and so stay where they read. */
async function silentArchive() {
  let asked = 0;
  const server = createServer(() => asked++);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  process.env["AWS_ENDPOINT_URL_S3"] = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const end = () => void delete process.env["AWS_ENDPOINT_URL_S3"];
  const close = () => {
    end();
    server.closeAllConnections();
    server.close();
  };
  return { asked: () => asked, end, close };
}
const until = async (isSo: () => boolean | Promise<boolean>) => {
  const deadline = Date.now() + 60_000;
  while (!(await isSo())) {
    if (Date.now() > deadline) throw new Error(`not so after 60 s: ${isSo}`);
    await sleep(20);
  }
};
const table = () => new HistoricalJobs({ table: TABLE, dynamodb: testClients(emulator.url).dynamodb });

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
    // What became visible between the two payments, and what did after both.
    const { view, key, id } = age;
    for (const [visibleMs, value] of [
      [FRAUD_START + 60_000, 31],
      [FRAUD_START + 600_000, 99],
    ]) {
      const packed = packValues([{ id, dtype: "double", value }], visibleMs);
      const row = { tenant: "team-a", entity: "card", id: "c1", view: storedView(view) };
      const line = packedLine({ ...row, eventTimeMs: visibleMs, visibleMs, reachMs: 86_400_000, packed });
      await writeLines({ s3, bucket: BUCKET }, row, visibleMs, [line]);
    }
    const range = { from: new Date(FRAUD_START).toISOString(), to: FRAUD_START + 86_400_000 };
    const request = { service: "fraud", features: [`${view}:${key}`], ...range };
    const { body } = await caller(target)("/v1/features/historical", { body: request });
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
        "profile:age@1": 31,
        label: 1,
      },
    ]);
  });
});

it("a job from the log has a row for what was scored, of its own tenant alone, at the instant of the score", async () => {
  const { s3 } = testClients(emulator.url);
  const asOfMs = FRAUD_START + 110_000;
  const score = (tenant: string, more: Partial<InferenceRow>) =>
    inferenceRow({
      ...{ tenant, eventId: "p2", asOfMs, keys: { card_id: "c1" }, request: { amount: 21, country: "NO" } },
      ...more,
    });
  for (const row of [score("team-a", { requestId: "mine" }), score("team-b", { asOfMs: asOfMs - 1 })]) {
    const Key = `inference-log/tenant=${row.tenant}/service=fraud/${hourPath(asOfMs)}/${row.requestId}.ndjson.zst`;
    const Body = await encodeInferenceLog(Buffer.from(inferenceLine(row)));
    await s3.send(new PutObjectCommand({ Bucket: BUCKET, Key, Body }));
  }
  const body = { service: "fraud", from_log: true, from: FRAUD_START, to: FRAUD_START + 86_400_000 };
  const job = await ended(target, (await caller(target)("/v1/features/historical", { body })).body.job_id);
  expect(job).toMatchObject({
    error: null,
    state: "done",
    manifest: { row_count: 1, positives: 1, as_of_rule: "log" },
  });
  const file = join(folder, "logged.parquet");
  writeFileSync(file, Buffer.from(await (await fetch(job.files[1].url)).arrayBuffer()));
  const session = await DuckSession.open({ folder });
  const rows = await session.rows(`SELECT * FROM read_parquet('${file}')`);
  session.close();
  expect(rows).toMatchObject([{ event_id: "p2", as_of_ms: BigInt(asOfMs), "request:amount": 21, label: 1 }]);
});

it("a job whose range is more than its machine takes says so, before it reads", async () => {
  const jobs = table();
  await jobs.create(queued("large", "function"));
  const { s3 } = testClients(emulator.url);
  const options = { plan, services: definitions.services, jobs, s3, bucket: BUCKET, memoryMb: 512, clock: Date.now };
  const engine = { use: "auto", athena: null } as const;
  await runHistorical(
    { ...options, engine, outOfTime: () => false, maxBytes: 10, onFault: (error) => expect.unreachable(String(error)) },
    queued("large", "function"),
  );
  expect(await jobs.get("team-a", "large")).toMatchObject({
    state: "failed",
    error: {
      code: "range_too_large",
      detail: expect.stringMatching(/^the range holds .* and there is room for 0\.0 MB$/),
    },
  });
});

describe("a job that is cancelled", () => {
  it("over HTTP ends its process, or is never begun, leaves nothing in the bucket, and the tenant's next job is done", async () => {
    const { s3 } = testClients(emulator.url);
    const call = caller(target);
    const rows = [{ as_of_ms: Date.now(), card_id: "c1", amount: 1 }];
    const start = async (): Promise<string> =>
      (await call("/v1/features/historical", { body: { service: "fraud", rows } })).body.job_id;
    // The server has found its bucket before the jobs of below are led to another.
    expect((await ended(target, await start())).state).toBe("done");
    const silent = await silentArchive();
    try {
      const [running, waiting] = [await start(), await start()];
      await until(() => silent.asked() > 0);
      silent.end();
      const last = await start();
      for (const id of [waiting, running]) {
        const reply = await call(`/v1/features/historical/${id}`, { method: "DELETE", key: keys.readOnly });
        expect([reply.status, reply.body.state, reply.body.files]).toEqual([200, "cancelled", []]);
      }
      expect((await ended(target, last)).state).toBe("done");
      for (const id of [waiting, running]) {
        expect((await ended(target, id)).state).toBe("cancelled");
        const Prefix = `historical/tenant=team-a/job=${id}/`;
        expect((await s3.send(new ListObjectsV2Command({ Bucket: BUCKET, Prefix }))).Contents ?? []).toEqual([]);
      }
    } finally {
      silent.close();
    }
  });

  it("is cancelled once, whatever was read before: the run that has it now decides", async () => {
    const jobs = table();
    await jobs.create(queued("raced", "function"));
    const waiting = (await jobs.get("team-a", "raced"))!;
    const running = { ...waiting, state: "running", run: "r1" } as const;
    expect(await jobs.claim(running)).toBe(true);
    expect(await jobs.cancel(waiting, 5)).toBe(false);
    expect(await jobs.cancel({ ...running, run: "r0" }, 5)).toBe(false);
    expect(await jobs.cancel(running, 5)).toBe(true);
    expect(await jobs.cancel(running, 6)).toBe(false);
    await expect(jobs.update({ ...running, state: "done" })).rejects.toMatchObject({ code: "jobs_unavailable" });
    expect(await jobs.takeOver({ ...running, run: "r2" }, running)).toBe(false);
    expect(await jobs.get("team-a", "raced")).toMatchObject({ state: "cancelled", updatedMs: 5 });
    await jobs.create({ ...queued("ended", "function"), run: "r1" });
    await jobs.update({ ...queued("ended", "function"), state: "done", run: "r1" });
    expect(await jobs.cancel({ ...queued("ended", "function"), state: "running", run: "r1" }, 5)).toBe(false);
  });
});

describe("the function that the table wakes", () => {
  it("runs a job of its own once, and leaves a server's alone", async () => {
    const { handler } = await import("../../../../functions/historical.ts");
    const jobs = table();
    const woken = async (id: string, runner: "function" | "process") => {
      const image = { pk: { S: "job#team-a" }, sk: { S: id }, runner: { S: runner } };
      const record = { eventName: "INSERT" as const, dynamodb: { NewImage: image } };
      await handler({ Records: [record] }, { memoryLimitInMB: "2048", getRemainingTimeInMillis: () => 900_000 });
      return (await jobs.get("team-a", id))!;
    };
    await jobs.create(queued("mine", "function"));
    await jobs.create(queued("theirs", "process"));
    expect(await woken("mine", "function")).toMatchObject({ state: "done", manifest: { row_count: 1 } });
    expect(await woken("theirs", "process")).toMatchObject({ state: "queued" });
    const { updatedMs } = (await jobs.get("team-a", "mine"))!;
    expect((await woken("mine", "function")).updatedMs).toBe(updatedMs);
  });
});

describe("the server's queue of jobs", () => {
  const faults: unknown[] = [];
  const onFault = (error: unknown) => faults.push(error);
  const stateOf = async (id: string) => {
    const { state, error } = (await table().get("team-a", id))!;
    return [state, error?.code, error?.detail];
  };
  const own = () => readdirSync(tmpdir()).filter((name) => name.startsWith("freshet-job-"));
  const cleared: string[] = [];
  const clear = async ({ id }: HistoricalJob) => void cleared.push(id);

  it("ends the process of a job that is cancelled, never begins one that was cancelled while it waited, and does the next", async () => {
    const marks = join(folder, "marks");
    mkdirSync(marks);
    const program = join(folder, "marks.mjs");
    // The one that is called last ends by itself.
    writeFileSync(
      program,
      `import { writeFileSync } from "node:fs";
       process.once("disconnect", () => process.exit());
       const id = process.argv[3];
       writeFileSync(${JSON.stringify(marks)} + "/" + id, "");
       if (id !== "last") setInterval(() => {}, 1e6); else process.disconnect();`,
    );
    const jobs = table();
    const queue = createJobQueue({ jobs, clear, clock: Date.now, onFault, program });
    const made = ["unwanted", "unwanted-too", "last"].map((id) => queued(id, "process"));
    for (const job of made) {
      await jobs.create(job);
      queue.add(job);
    }
    await until(() => readdirSync(marks).includes("unwanted"));
    for (const job of [made[1], made[0]]) {
      expect(await jobs.cancel(job, Date.now())).toBe(true);
      queue.stop(job);
    }
    await until(() => readdirSync(marks).includes("last"));
    await queue.close();
    expect(readdirSync(marks).sort()).toEqual(["last", "unwanted"]);
    expect(cleared.sort()).toEqual(["unwanted", "unwanted-too"]);
    for (const id of ["unwanted", "unwanted-too"]) {
      expect(await stateOf(id)).toEqual(["cancelled", "job_cancelled", "the job was cancelled"]);
    }
    expect(faults).toEqual([]);
  });

  it("ends with the server: the job under way is cut off in its process, those that wait are told, no file stays", async () => {
    const silent = await silentArchive();
    const jobs = table();
    const queue = createJobQueue({ jobs, clear, clock: Date.now, onFault });
    try {
      const before = own();
      for (const id of ["under-way", "waiting"]) {
        await jobs.create(queued(id, "process"));
        queue.add(queued(id, "process"));
      }
      while (silent.asked() === 0) await sleep(20);
      expect([await stateOf("under-way"), await stateOf("waiting")]).toEqual([
        ["running", undefined, undefined],
        ["queued", undefined, undefined],
      ]);
      await queue.close();
      const told = ["failed", "job_lost", "the server stopped before the job was done"];
      expect([await stateOf("under-way"), await stateOf("waiting")]).toEqual([told, told]);
      expect(own()).toEqual(before);
      expect(faults).toEqual([]);
    } finally {
      await queue.close();
      silent.close();
    }
  });

  it("tells a job whose process died, and does the next", async () => {
    const program = join(folder, "dies.mjs");
    writeFileSync(program, 'process.kill(process.pid, "SIGKILL"); setInterval(() => {}, 1e6);');
    const jobs = table();
    const queue = createJobQueue({ jobs, clear, clock: Date.now, onFault, program });
    for (const id of ["killed", "next"]) {
      await jobs.create(queued(id, "process"));
      queue.add(queued(id, "process"));
    }
    const told = ["failed", "job_lost", "the job's process ended early (SIGKILL)"];
    for (const id of ["killed", "next"]) {
      while ((await stateOf(id))[0] === "queued") await sleep(20);
      expect(await stateOf(id)).toEqual(told);
    }
  });
});
