/** The point-in-time queries as Athena runs them, here the emulator's, which is DuckDB behind Athena's API. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AthenaClient } from "@aws-sdk/client-athena";
import { PutObjectCommand } from "@aws-sdk/client-s3";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodeArchive } from "../../../adapters/archive/archive-format.ts";
import { archiveSelect } from "../../../adapters/offline/archive-view.ts";
import { AthenaSource } from "../../../adapters/offline/athena.ts";
import { DuckSession } from "../../../adapters/offline/duckdb.ts";
import { entityEventsSql, olderThanEntitySql } from "../../../adapters/offline/entity-events.ts";
import { featureAt, joinPointInTime } from "../../../adapters/offline/point-in-time.ts";
import {
  createBucket,
  createCatalogue,
  startEmulator,
  type TestEmulator,
  testClients,
} from "../../harness/emulator.ts";
import { everything, plan as fixture, fixtureContract } from "../../support/fixture-plan.ts";
import { viewPlan } from "../../support/group-plans.ts";
import { entityEventsTable, spineTable } from "../../support/offline-tables.ts";
import { instants, past } from "../../support/past.ts";
import { inDuckWords } from "../../support/trino-words.ts";
import { archiveRows, withRegion } from "./archive-rows.ts";
import { naiveEntityEvents } from "./naive-entity-events.ts";

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
  await createCatalogue(emulator.url, "freshet");
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

  it("gives entity events by the text for Trino, whatever the archive holds", async () => {
    const [stream] = fixture.streams;
    const fields = Object.entries(stream!.fields).map(
      ([name, { type }]) => `${name}:${{ long: "bigint", map: "map<string,string>" }[type as string] ?? type}`,
    );
    const columns = [
      "event_id string, event_time_ms bigint, identity string, arrival_ms bigint, shard string, sequence string",
      `sub_sequence int, reason string, fields struct<${fields.join(",")}>`,
      "fates array<struct<entity:string,id:string,fate:string,visible_ms:bigint>>",
    ].join(", ");
    const file = join(folder, "raw.ndjson.zst");
    let run = 0;
    await fc.assert(
      fc.asyncProperty(archiveRows, async (rows) => {
        run++;
        writeFileSync(file, encodeArchive(rows));
        await session.run(`CREATE OR REPLACE TABLE archive_rows AS ${archiveSelect(stream!, [file], [])}`);
        const archive = await publish("archive_rows", run, columns);
        for (const [entity, joinKey] of [
          ["card", "card"],
          ["shop", "shop"],
          ["region", "country"],
        ] as const) {
          const events = inDuckWords(entityEventsSql(withRegion, entity, { archive, dialect: "trino" }));
          const older = inDuckWords(olderThanEntitySql(entity, { archive, dialect: "trino" }));
          const found: unknown[][] = [];
          const text = `SELECT hex(id) AS id, identity, event_time_ms, visible_ms, fields.amount AS amount FROM (${events}) AS event`;
          for await (const { columns: page, rows: count } of source.columns(text)) {
            for (let row = 0; row < count; row++) found.push(page.map((column) => column[row]));
          }
          const naive = naiveEntityEvents(rows, entity, joinKey).map((event) => [
            Buffer.from(event.id).toString("hex").toUpperCase(),
            ...[event.identity, event.event_time_ms, event.visible_ms],
            // JSON has one zero only.
            event.fields["amount"] === null ? null : Number(event.fields["amount"]) + 0,
          ]);
          const key = (row: readonly unknown[]) => `${row[1]}${row[0]}`;
          const sorted = (all: unknown[][]) => all.sort((a, b) => (key(a) < key(b) ? -1 : 1));
          expect(sorted(found)).toEqual(sorted(naive));
          const counted: unknown[] = [];
          for await (const page of source.columns(older)) counted.push(page.columns[0]![0]);
          const without = rows.filter(
            ({ reason, fates }) => reason === undefined && !fates.some((f) => f.entity === entity),
          );
          expect(counted).toEqual([without.length]);
        }
      }),
      { numRuns: 6, seed: 20261121, endOnFailure: true },
    );
  });

  it("tells what Athena says of a query that fails", async () => {
    await expect(source.run("SELECT nothing FROM freshet.nowhere")).rejects.toMatchObject({
      code: "offline_query",
      message: expect.stringMatching(/^Athena ended query \S+ as FAILED: ./),
    });
  });
});
