/** Compacted objects and compaction's log as they were first shipped: readable for ever. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { encodeArchive } from "../../../adapters/archive/archive-format.ts";
import { archiveSelect } from "../../../adapters/offline/archive-view.ts";
import { parseCompactionRecord } from "../../../adapters/offline/compaction-log.ts";
import { loadFresh, mergeHour } from "../../../adapters/offline/compaction-merge.ts";
import { DuckSession } from "../../../adapters/offline/duckdb.ts";
import type { Stream } from "../../../core/plan.ts";
import { goldenRows, goldenStream } from "./golden-archive.ts";

const GOLDEN = join(import.meta.dirname, "..", "..", "fixtures", "golden", "compacted");
let folder: string;
let session: DuckSession;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "freshet-golden-"));
  session = await DuckSession.open({ folder });
});
afterAll(() => {
  session?.close();
  rmSync(folder, { recursive: true, force: true });
});

async function read(file: string, stream: Stream = goldenStream): Promise<unknown[]> {
  const rows = await session.rows(
    `SELECT * FROM (${archiveSelect(stream, [], [file])}) ORDER BY event_time_ms, arrival_ms, sequence`,
  );
  return JSON.parse(JSON.stringify(rows, (_, value) => (typeof value === "bigint" ? Number(value) : value)));
}

it("a compacted object of version 1 gives the rows that went in", async () => {
  expect(await read(join(GOLDEN, "v1.parquet"))).toEqual(
    JSON.parse(readFileSync(join(GOLDEN, "v1.rows.json"), "utf8")),
  );
});

it("compaction writes those rows today", async () => {
  const raw = join(folder, "raw.ndjson.zst");
  const file = join(folder, "merged.parquet");
  writeFileSync(raw, encodeArchive(goldenRows));
  const { hours } = await loadFresh(session, archiveSelect(goldenStream, [raw], []));
  expect(hours).toHaveLength(1);
  const merged = await mergeHour(session, goldenStream, hours[0]!, archiveSelect(goldenStream, [], []), () => file);
  expect(merged).toEqual({ files: 1, rows: 8, payloadConflicts: 1 });
  expect(await read(file)).toEqual(await read(join(GOLDEN, "v1.parquet")));
});

it("a contract that has grown reads null for what an older object lacks, and one that has shrunk leaves it out", async () => {
  const { labels, ...fields } = goldenStream.fields;
  const grown: Stream = { ...goldenStream, fields: { ...fields, later: labels! } };
  const [first] = (await read(join(GOLDEN, "v1.parquet"), grown)) as { fields: Record<string, unknown> }[];
  expect(first!.fields).toEqual({
    tenant: "default",
    id: "e1",
    at: Date.UTC(2026, 10, 21, 9) + 1,
    amount: 1.1,
    online: false,
    later: null,
  });
});

it("a log record of version 1 names what it named; another version is refused by the object's name", () => {
  const text = readFileSync(join(GOLDEN, "log.v1.json"), "utf8");
  expect(parseCompactionRecord(text, "k")).toEqual({
    v: 1,
    writtenMs: 1_795_255_200_000,
    raw: ["raw/tenant=default/stream=payments/dt=2026-11-21/hh=09/1795251600101-shardId-000000000001-x.ndjson.zst"],
    superseded: ["compacted/tenant=default/stream=payments/dt=2026-11-21/hh=09/x.0.parquet"],
  });
  expect(() => parseCompactionRecord(text.replace(/"v": 1/, '"v": 2'), "compaction/k.json")).toThrow(
    "compaction/k.json has a version that this reader does not know",
  );
  expect(() => parseCompactionRecord("{", "compaction/k.json")).toThrow("compaction/k.json is not JSON");
});
