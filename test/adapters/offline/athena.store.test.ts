/** The point-in-time queries as Athena runs them, here the emulator's, which is DuckDB behind Athena's API. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AthenaClient } from "@aws-sdk/client-athena";
import { PutObjectCommand } from "@aws-sdk/client-s3";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AthenaSource } from "../../../adapters/offline/athena.ts";
import { DuckSession } from "../../../adapters/offline/duckdb.ts";
import { featureAt, joinPointInTime } from "../../../adapters/offline/point-in-time.ts";
import { createBucket, startEmulator, type TestEmulator, testClients } from "../../harness/emulator.ts";
import { everything, fixtureContract } from "../../support/fixture-plan.ts";
import { viewPlan } from "../../support/group-plans.ts";
import { entityEventsTable, spineTable } from "../../support/offline-tables.ts";
import { instants, past } from "../../support/past.ts";

const BUCKET = "athena-test";
const folder = mkdtempSync(join(tmpdir(), "freshet-athena-"));
const plan = viewPlan(everything.features);
let emulator: TestEmulator;
let session: DuckSession;
let athena: AthenaClient;
let source: AthenaSource;

beforeAll(async () => {
  emulator = await startEmulator();
  await createBucket(emulator.url, BUCKET);
  session = await DuckSession.open({ folder });
  athena = new AthenaClient({
    endpoint: emulator.url,
    region: "us-east-1",
    credentials: { accessKeyId: "test", secretAccessKey: "test" },
  });
  source = new AthenaSource({ athena, database: "freshet", output: `s3://${BUCKET}/results/`, pollMs: 20 });
  // The emulator's Athena knows no CREATE DATABASE; its Glue does, and no client of Glue is at hand.
  const answer = await fetch(emulator.url, {
    method: "POST",
    headers: {
      "content-type": "application/x-amz-json-1.1",
      "x-amz-target": "AWSGlue.CreateDatabase",
      authorization:
        "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/glue/aws4_request, SignedHeaders=host, Signature=0",
    },
    body: JSON.stringify({ DatabaseInput: { Name: "freshet" } }),
  });
  expect(answer.status).toBe(200);
});
afterAll(async () => {
  session?.close();
  athena?.destroy();
  await emulator?.stop();
  rmSync(folder, { recursive: true });
});

/** Puts a table of the session into the bucket, and declares it to Athena. */
async function publish(table: string, run: number, columns: string): Promise<string> {
  const file = join(folder, `${table}.parquet`);
  await session.run(`COPY ${table} TO '${file}' (FORMAT parquet)`);
  const key = `${table}/run=${run}/part.parquet`;
  await testClients(emulator.url).s3.send(new PutObjectCommand({ Bucket: BUCKET, Key: key, Body: readFileSync(file) }));
  const name = `${table}_${run}`;
  await source.run(
    `CREATE EXTERNAL TABLE freshet.${name} (${columns}) STORED AS PARQUET LOCATION 's3://${BUCKET}/${table}/run=${run}/'`,
  );
  return `freshet.${name}`;
}

describe("Athena", () => {
  it("runs the text that DuckDB runs, with the same answers", async () => {
    const [view] = plan.views;
    const features = view.features.map(({ name }) => name);
    const fields = Object.entries(fixtureContract.fields).map(
      ([name, { type }]) => `${name}:${{ long: "bigint", map: "map<string,string>" }[type as string] ?? type}`,
    );
    let run = 0;
    await fc.assert(
      fc.asyncProperty(past, past, instants, async (one, two, times) => {
        run++;
        const rows = times.flatMap((t) => ["c1", "c2", null].map((card) => ({ t, keys: { card } })));
        await session.run(entityEventsTable("events_card", fixtureContract.fields, { c1: one, c2: two }));
        await session.run(spineTable("spine", rows));
        const spine = { rows: rows.length, fromMs: times[0], toMs: times[times.length - 1] };
        const own = await joinPointInTime(session, {
          plan,
          features,
          spine: { relation: "spine", ...spine },
          events: () => "events_card",
        });
        const events = await publish(
          "events_card",
          run,
          `id string, identity string, event_time_ms bigint, visible_ms bigint, fields struct<${fields.join(",")}>`,
        );
        const relation = await publish("spine", run, "`row id` bigint, `as of` bigint, `key card` string");
        const theirs = await joinPointInTime(source, {
          plan,
          features,
          spine: { relation, ...spine },
          events: () => events,
        });
        features.forEach((name, f) => {
          for (let row = 0; row < rows.length; row++) {
            expect({ name, row, ...featureAt(theirs[f], row) }).toEqual({ name, row, ...featureAt(own[f], row) });
          }
        });
      }),
      { numRuns: 6, endOnFailure: true },
    );
  });

  it("tells what Athena says of a query that fails", async () => {
    await expect(source.run("SELECT nothing FROM freshet.nowhere")).rejects.toMatchObject({
      code: "offline_query",
      message: expect.stringMatching(/^Athena ended query \S+ as FAILED: ./),
    });
  });
});
