/** Historical jobs and training sets that one call of a function cannot make: Athena, further calls, calls that die, and jobs that are cancelled. */
import { mkdtempSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { QueryCommand } from "@aws-sdk/client-dynamodb";
import { CreateBucketCommand, GetObjectCommand, ListObjectsV2Command } from "@aws-sdk/client-s3";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type HistoricalJob, HistoricalJobs, jobFolder, jobOfItem } from "../../../../adapters/jobs/historical-jobs.ts";
import { WorkFolder } from "../../../../adapters/offline/work-folder.ts";
import { type RunHistorical, runHistorical } from "../../../../functions/shared/training/historical-run.ts";
import { buildSet } from "../../../../functions/shared/training/set-builder.ts";
import { buildForTraining } from "../../../../functions/shared/training/training-set-build.ts";
import { createTable, testClients } from "../../../harness/emulator.ts";
import { checkedArchive, checkedPlan, checks } from "../../../support/checked-payments.ts";
import { type BuiltSet, type LargeSetWorld, largeSetWorld } from "../../../support/large-set-world.ts";

const TENANT = "jobs";
const TABLE = "set-builder-jobs";
const [archive] = fc.sample(
  checkedArchive.filter(({ payments }) => payments.length > 12),
  { seed: 20261122, numRuns: 1 },
);
let world: LargeSetWorld;
let own: BuiltSet;
let options: RunHistorical;

beforeAll(async () => {
  world = await largeSetWorld();
  await createTable(world.emulator.url, TABLE);
  await world.s3.send(new CreateBucketCommand({ Bucket: "set-builder-training" }));
  const rows = [...archive!.payments, ...archive!.verdicts].map((row) => ({ ...row, tenant: TENANT }));
  const database = await world.publish(TENANT, checkedPlan, rows);
  const service = checkedPlan.services.find(({ name }) => name === "checks")!;
  own = await world.small({
    ...{ plan: checkedPlan, service, definition: checks, tenant: TENANT },
    ...{ fromMs: null, toMs: null, labelDelayMs: 86_400_000 },
    spine: { kind: "labels", stream: "verdicts", asOf: "event_time" },
  });
  options = {
    ...{ plan: checkedPlan, services: [checks], s3: world.s3, bucket: world.bucket, memoryMb: 512 },
    jobs: new HistoricalJobs({ table: TABLE, dynamodb: testClients(world.emulator.url).dynamodb }),
    ...{ maxBytes: Number.POSITIVE_INFINITY, clock: Date.now, outOfTime: () => false },
    engine: { use: "auto", athena: { athena: world.standIn.athena, database, output: null, pollMs: 5 } },
    onFault: (error) => expect.unreachable(String(error)),
  };
});
afterAll(() => world?.close());

async function begun(id: string): Promise<HistoricalJob> {
  const job: HistoricalJob = {
    ...{ tenant: TENANT, id, runner: "function", state: "queued", progress: 0 },
    ...{ createdMs: Date.now(), updatedMs: Date.now(), files: [], manifest: null, error: null },
    request: { service: "checks", labels: "verdicts", asOf: "event_time", fromMs: null, toMs: null, spineKey: null },
  };
  await options.jobs.create(job);
  return job;
}

const current = async (id: string): Promise<HistoricalJob> => (await options.jobs.get(TENANT, id))!;

/** How often the function is to be called again for a job. */
async function furtherCalls(id: string): Promise<number> {
  const { Items = [] } = await testClients(world.emulator.url).dynamodb.send(
    new QueryCommand({
      TableName: TABLE,
      KeyConditionExpression: "pk = :pk",
      ExpressionAttributeValues: { ":pk": { S: `call#${TENANT}` } },
    }),
  );
  return Items.filter(({ pk, sk }) => jobOfItem(pk!.S!, sk!.S!)?.id === id).length;
}

async function expectDone(id: string, by: "athena" | "duckdb"): Promise<void> {
  const job = await current(id);
  expect(job).toMatchObject({ state: "done", progress: 1, error: null });
  const { athena, ...manifest } = job.manifest!;
  expect(manifest).toEqual(own.manifest);
  expect(athena !== undefined).toBe(by === "athena");
  expect(job.files.map((key) => key.slice(key.lastIndexOf("/") + 1))).toEqual(["manifest.json", "part-00000.parquet"]);
  for (const Key of job.files) await world.s3.send(new GetObjectCommand({ Bucket: world.bucket, Key }));
}

describe("a historical job", () => {
  it("whose range is small is DuckDB's, and no query runs", async () => {
    const before = world.standIn.started.length;
    await runHistorical(options, await begun("small"));
    await expectDone("small", "duckdb");
    expect(world.standIn.started.length).toBe(before);
  });

  it("whose range is more than its machine takes goes through Athena", async () => {
    await runHistorical({ ...options, maxBytes: 10 }, await begun("large"));
    await expectDone("large", "athena");
  });

  it("is DuckDB's or Athena's where a stage says so", async () => {
    const use = (engine: "duckdb" | "athena") => ({ ...options.engine, use: engine });
    await runHistorical({ ...options, engine: use("athena") }, await begun("forced"));
    await expectDone("forced", "athena");
    await runHistorical({ ...options, engine: use("duckdb"), maxBytes: 10 }, await begun("refused"));
    expect(await current("refused")).toMatchObject({ state: "failed", error: { code: "range_too_large" } });
  });

  it("that takes longer than a call is gone on with by the next, until it is done", async () => {
    const job = await begun("long");
    let looks = 0;
    const timed = { ...options, maxBytes: 10, outOfTime: () => ++looks % 4 === 0 };
    let calls = 0;
    for (; (await current("long")).state !== "done"; calls++) {
      expect(calls).toBeLessThan(100);
      await runHistorical(timed, calls === 0 ? job : await current("long"));
    }
    expect(calls).toBeGreaterThan(1);
    expect(await furtherCalls("long")).toBe(calls - 1);
    await expectDone("long", "athena");
  });

  it("whose call of DuckDB died is gone on with by Athena when the table's change is delivered again", async () => {
    const job = await begun("died");
    expect(await options.jobs.claim({ ...job, state: "running", run: "of the dead" })).toBe(true);
    const at = { s3: world.s3, bucket: world.bucket };
    const prefix = `athena/tenant=${TENANT}/job=died/plan=${checkedPlan.hash}/`;
    await new WorkFolder({ ...at, prefix }).write("begun.json", {});
    await runHistorical(options, await current("died"));
    await expectDone("died", "athena");
  });

  it("that is taken over while its call still lives is done once, by the one that took it", async () => {
    const job = await begun("taken");
    world.standIn.holds = (sql) => sql.includes("crc32");
    const held = world.standIn.started.length;
    const first = runHistorical({ ...options, maxBytes: 10 }, job);
    while (!world.standIn.started.slice(held).some((sql) => sql.includes("crc32"))) await soon();
    const running = await current("taken");
    const second = runHistorical({ ...options, maxBytes: 10 }, running);
    while ((await current("taken")).run === running.run) await soon();
    const { run } = await current("taken");
    // The first finds out at its next look, and ends without a word.
    await first;
    expect(await current("taken")).toMatchObject({ state: "running", run });
    world.standIn.holds = () => false;
    await second;
    await expectDone("taken", "athena");
    expect((await current("taken")).run).toBe(run);
    expect(await furtherCalls("taken")).toBe(0);
  });

  const objectsOf = async (id: string): Promise<string[]> => {
    const prefixes = [`athena/tenant=${TENANT}/job=${id}/`, `athena-keys/tenant=${TENANT}/job=${id}/`];
    const found = await Promise.all(
      [...prefixes, `${jobFolder({ tenant: TENANT, id })}/`].map((Prefix) =>
        world.s3.send(new ListObjectsV2Command({ Bucket: world.bucket, Prefix })),
      ),
    );
    return found.flatMap(({ Contents = [] }) => Contents.map(({ Key }) => Key!));
  };
  const expectCancelled = async (id: string) => {
    expect(await current(id)).toMatchObject({ state: "cancelled", files: [], manifest: null });
    expect(await objectsOf(id)).toEqual([]);
  };
  const cancelNow = async (id: string) => expect(await options.jobs.cancel(await current(id), Date.now())).toBe(true);

  it("that is cancelled ends the queries that it has begun, and leaves nothing", async () => {
    const job = await begun("unwanted");
    const [started, stopped] = [world.standIn.started.length, world.standIn.stopped.length];
    world.standIn.holds = (sql) => sql.includes("crc32");
    const run = runHistorical({ ...options, maxBytes: 10 }, job);
    while (!world.standIn.started.slice(started).some((sql) => sql.includes("crc32"))) await soon();
    await cancelNow("unwanted");
    await run;
    world.standIn.holds = () => false;
    expect(world.standIn.stopped.length).toBeGreaterThan(stopped);
    await expectCancelled("unwanted");
    expect(await furtherCalls("unwanted")).toBe(0);
  });

  it("that is cancelled between two calls is cleared away by the next, and ends what the first has begun", async () => {
    const job = await begun("unwanted-later");
    world.standIn.holds = (sql) => sql.includes("crc32");
    const held = world.standIn.started.length;
    const begunOne = () => world.standIn.started.slice(held).some((sql) => sql.includes("crc32"));
    await runHistorical({ ...options, maxBytes: 10, outOfTime: begunOne }, job);
    expect(await furtherCalls("unwanted-later")).toBe(1);
    expect(await objectsOf("unwanted-later")).not.toEqual([]);
    await cancelNow("unwanted-later");
    const stopped = world.standIn.stopped.length;
    await runHistorical(options, await current("unwanted-later"));
    world.standIn.holds = () => false;
    expect(world.standIn.stopped.length).toBeGreaterThan(stopped);
    await expectCancelled("unwanted-later");
  });

  it.each([
    ["while it waits", /^$/],
    ["while DuckDB does it", /\/stream=payments\//],
    ["while its files are put", /^historical\/.*\.parquet$/],
    ["before its manifest is put", /^historical\/.*manifest\.json$/],
  ] as const)("that is cancelled %s leaves nothing", async (when, at) => {
    const id = `cancelled ${when}`.replaceAll(" ", "-");
    const job = await begun(id);
    if (when === "while it waits") await cancelNow(id);
    let cancelled = 0;
    const s3 = {
      send: async (command: any): Promise<any> => {
        if (at.test(command.input.Key ?? command.input.Prefix) && cancelled++ === 0) await cancelNow(id);
        return world.s3.send(command);
      },
    } as unknown as typeof world.s3;
    await runHistorical({ ...options, s3 }, job);
    expect(cancelled > 0).toBe(when !== "while it waits");
    await expectCancelled(id);
  });

  it("whose set nobody wants any more is not made: DuckDB is interrupted, and no file is put", async () => {
    const stop = new AbortController();
    const put: string[] = [];
    const s3 = {
      send: (command: any): Promise<any> => {
        if (!stop.signal.aborted) stop.abort(new Error("not wanted"));
        return world.s3.send(command);
      },
    } as unknown as typeof world.s3;
    const folder = mkdtempSync(join(world.folder, "unwanted-"));
    const service = checkedPlan.services.find(({ name }) => name === "checks")!;
    const built = buildSet(
      { ...options, s3, engine: { use: "duckdb", athena: null }, signal: stop.signal },
      {
        ...{ plan: checkedPlan, service, definition: checks, tenant: TENANT, job: "none", folder },
        ...{ fromMs: null, toMs: null, labelDelayMs: 86_400_000 },
        spine: { kind: "labels", stream: "verdicts", asOf: "event_time" },
        put: async (name) => void put.push(name),
      },
    );
    await expect(built).rejects.toThrow(/^(not wanted|the query was ended)$/);
    expect(put).toEqual([]);
    expect(readdirSync(folder)).toEqual([]);
  });

  it("where there is no Athena is left to the call that has it", async () => {
    const job = await begun("laptop");
    await options.jobs.claim({ ...job, state: "running", run: "another" });
    await runHistorical({ ...options, engine: { use: "auto", athena: null } }, await current("laptop"));
    expect(await current("laptop")).toMatchObject({ state: "running", run: "another" });
  });
});

it("an execution of the training machine is given its input back until its set is there", async () => {
  let looks = 0;
  const ports = {
    ...{ plan: checkedPlan, services: [checks], archiveBucket: world.bucket, trainingBucket: "set-builder-training" },
    ...{ s3: world.s3, memoryMb: 512, folder: world.folder, engine: { ...options.engine, use: "athena" as const } },
    outOfTime: () => ++looks % 3 === 0,
    registered: async () => [],
  };
  const input = { service: "checks", tenant: TENANT };
  let calls = 0;
  let built: object = input;
  for (; !("training_set" in built); calls++) {
    expect(calls).toBeLessThan(100);
    built = await buildForTraining(ports, input, "execution-1");
    if (!("training_set" in built)) expect(built).toEqual(input);
  }
  expect(calls).toBeGreaterThan(1);
  expect(built).toEqual({ ...input, training_set: "s3://set-builder-training/training-sets/execution-1/" });
  const { Body } = await world.s3.send(
    new GetObjectCommand({ Bucket: "set-builder-training", Key: "training-sets/execution-1/manifest.json" }),
  );
  const { athena, ...manifest } = JSON.parse(await Body!.transformToString());
  expect(manifest).toEqual(own.manifest);
  expect(athena.scanned_bytes).toBeGreaterThan(0);
});

const soon = () => new Promise((resolve) => setTimeout(resolve, 20));
