import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { S3Client } from "@aws-sdk/client-s3";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { LateItem } from "../../../../adapters/late-queue/late-queue.ts";
import { LateQueue } from "../../../../adapters/late-queue/late-queue.ts";
import { mountArchive } from "../../../../adapters/offline/archive-view.ts";
import { DuckSession, sqlText } from "../../../../adapters/offline/duckdb.ts";
import { entityEventsSql } from "../../../../adapters/offline/entity-events.ts";
import {
  type BadRow,
  formatOf,
  type ImportOptions,
  importFile,
} from "../../../../adapters/offline/import/import-file.ts";
import { ArchiveMirror } from "../../../../adapters/offline/mirror.ts";
import { plan } from "../../../../features/plan.ts";
import { createBucket, createTable, startEmulator, type TestEmulator, testClients } from "../../../harness/emulator.ts";

const START_MS = Date.UTC(2026, 8, 1);
const NOW_MS = START_MS + 30 * 86_400_000;
const SEAL_MS = NOW_MS - 720_000;
const stream = plan.streams.find(({ name }) => name === "transactions")!;

let emulator: TestEmulator;
let bucket: string;
let buckets = 0;
let folder: string;
let bad: BadRow[];

beforeAll(async () => {
  emulator = await startEmulator();
});
afterAll(() => emulator?.stop());
beforeEach(async () => {
  bucket = `import-${buckets++}`;
  await createBucket(emulator.url, bucket);
  await createTable(emulator.url, bucket);
  folder = mkdtempSync(join(tmpdir(), "freshet-import-"));
  bad = [];
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const fields = (n: number, more: Record<string, unknown> = {}) => ({
  transaction_id: `t${n}`,
  card_id: `c${n % 3}`,
  merchant_id: "m1",
  device_id: n % 2 === 0 ? "d1" : null,
  amount: 10.5 + n,
  currency: "EUR",
  country: "NO",
  merchant_category: "fuel",
  status: "approved",
  event_time: START_MS + n * 1_000,
  ...more,
});

function fileOf(name: string, rows: readonly Record<string, unknown>[]): string {
  const file = join(folder, name);
  if (name.endsWith(".csv")) {
    const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
    const cell = (value: unknown) => (value === null || value === undefined ? "" : String(value));
    writeFileSync(
      file,
      [columns, ...rows.map((row) => columns.map((name) => cell(row[name])))].map((row) => row.join(",")).join("\n"),
    );
  } else writeFileSync(file, rows.map((row) => JSON.stringify(row)).join("\n"));
  return file;
}

const late = (items: LateItem[] = []) => ({ put: async (more: readonly LateItem[]) => void items.push(...more) });

const note = async () => {};
const run = (file: string, more: Partial<ImportOptions> = {}) =>
  importFile({
    ...{
      plan,
      stream,
      file,
      folder,
      format: formatOf(file),
      tenant: "default",
      arrival: { delayMs: 0 },
      sealMs: SEAL_MS,
    },
    ...{ nowMs: NOW_MS, minEventTimeMs: Date.UTC(2000, 0, 1), ignoreUnknown: false, onBadRow: (row) => bad.push(row) },
    target: { s3: testClients(emulator.url).s3, bucket, late: late(), note },
    ...more,
  });

const keys = async () =>
  (await new ArchiveMirror({ s3: testClients(emulator.url).s3, bucket, folder }).list("")).map(({ key }) => key);

async function events(entity = "card"): Promise<unknown[][]> {
  const session = await DuckSession.open({ folder });
  const mirror = new ArchiveMirror({ s3: testClients(emulator.url).s3, bucket, folder });
  try {
    await mountArchive(session, mirror, { tenant: "default", stream, fromMs: 0, toMs: NOW_MS * 2 }, "archive");
    const rows = await session.rows(`SELECT * FROM (${entityEventsSql(plan, entity)}) ORDER BY event_time_ms`);
    return rows.map(({ id, event_time_ms, visible_ms, fields }) => [
      id,
      Number(event_time_ms) - START_MS,
      Number(visible_ms) - START_MS,
      fields.amount,
    ]);
  } finally {
    session.close();
  }
}

describe("import", () => {
  const three = [fields(1), fields(2), fields(3)];
  const seen = three.map((row, i) => [row.card_id, (i + 1) * 1_000, (i + 1) * 1_000, row.amount]);

  it.each(["rows.csv", "rows.ndjson"])("of %s makes events that are visible when they arrived", async (name) => {
    expect(await run(fileOf(name, three))).toMatchObject({
      rows: 3,
      bad: 0,
      imported: 3,
      late: 0,
      objects: 1,
      fromMs: START_MS + 1_000,
      toMs: START_MS + 3_000,
    });
    expect(await events()).toEqual(seen);
    // A null join key is no event of that entity.
    expect((await events("device")).length).toBe(1);
  });

  it("of Parquet does the same, with timestamps and wide integers as they are there", async () => {
    const session = await DuckSession.open({ folder });
    const json = fileOf("source.ndjson", three);
    const file = join(folder, "rows.parquet");
    await session.run(
      `COPY (SELECT * REPLACE (make_timestamp_ms(event_time) AS event_time) FROM read_json(${sqlText(json)})) TO ${sqlText(file)} (FORMAT parquet)`,
    );
    session.close();
    expect(await run(file)).toMatchObject({ rows: 3, imported: 3 });
    expect(await events()).toEqual(seen);
  });

  it("of Parquet takes decimals, enumerations and unmarked texts for what they say, and refuses lists by their row", async () => {
    const session = await DuckSession.open({ folder });
    const json = fileOf("source.ndjson", three);
    const file = join(folder, "rows.parquet");
    await session.run("CREATE TYPE money AS ENUM ('EUR', 'SEK')");
    const columns =
      "CAST(amount AS DECIMAL(12, 2)) AS amount, CAST(currency AS money) AS currency, encode(country) AS country, " +
      "CASE WHEN transaction_id = 't2' THEN [currency] END AS device_id";
    await session.run(
      `COPY (SELECT * REPLACE (${columns}) FROM read_json(${sqlText(json)})) TO ${sqlText(file)} (FORMAT parquet)`,
    );
    session.close();
    expect(await run(file, { skipInvalid: true })).toMatchObject({ rows: 3, bad: 1, imported: 2 });
    expect(bad.map(({ line, code, field }) => [line, code, field])).toEqual([[2, "wrong_type", "device_id"]]);
    expect(await events()).toEqual([seen[0], seen[2]]);
  });

  it.each([
    ["a duration after the event", { delayMs: 5_000 }, {}, 6_000],
    ["a column in milliseconds", { column: "seen" }, { seen: START_MS + 9_000 }, 9_000],
    ["a column in ISO 8601", { column: "seen" }, { seen: "2026-09-01T00:00:09.000Z" }, 9_000],
  ])("takes the arrival from %s", async (_, arrival, more, visible) => {
    await run(fileOf("rows.csv", [fields(1, more)]), { arrival });
    expect((await events()).map(([, , seenMs]) => seenMs)).toEqual([visible]);
  });

  it("leaves nothing when one row is bad, and tells line, field, rule and repair of each", async () => {
    const rows = [
      fields(1),
      fields(2, { amount: "a lot" }),
      fields(3),
      fields(4, { card_id: null }),
      fields(5, { event_time: 1_700_000_000 }),
    ];
    expect(await run(fileOf("rows.ndjson", rows))).toMatchObject({ rows: 5, bad: 3, imported: 0, objects: 0 });
    expect(bad.map(({ line, code, field }) => [line, code, field])).toEqual([
      [2, "wrong_type", "amount"],
      [4, "field_missing", "card_id"],
      [5, "event_time_invalid", "event_time"],
    ]);
    expect(JSON.stringify(bad)).not.toContain("a lot");
    expect(await keys()).toEqual([]);
    expect(readdirSync(folder).filter((name) => name.startsWith("import-"))).toEqual([]);
  });

  it("imports the good rows when told to", async () => {
    const rows = [fields(1), fields(2, { amount: "a lot" }), fields(3)];
    expect(await run(fileOf("rows.ndjson", rows), { skipInvalid: true })).toMatchObject({ bad: 1, imported: 2 });
    expect(await events()).toEqual([seen[0], seen[2]]);
  });

  it.each([
    ["an unknown column", { amout: 1 }, "field_unknown", {}],
    ["another tenant", { tenant: "acme" }, "tenant_mismatch", {}],
    ["an arrival in the future", { event_time: NOW_MS + 1 }, "arrival_future", {}],
    ["an arrival before its event", { seen: START_MS - 100_000 }, "event_time_future", { arrival: { column: "seen" } }],
    ["no arrival where a column says it", {}, "arrival_invalid", { arrival: { column: "seen" } }],
    ["an arrival without a zone", { seen: "2026-09-01T12:00:09" }, "arrival_invalid", { arrival: { column: "seen" } }],
    ["an arrival on no day", { seen: "2026-02-30T12:00:09Z" }, "arrival_invalid", { arrival: { column: "seen" } }],
    ["a number that is too large for its scale", { amount: 1e14 }, "number_too_large", {}],
  ])("refuses a row with %s", async (_, more, code, options) => {
    await run(fileOf("rows.ndjson", [fields(1, more)]), options as Partial<ImportOptions>);
    expect(bad.map((row) => row.code)).toEqual([code]);
  });

  it("leaves unknown columns out when told to, and rows that say they are of another stream always", async () => {
    const rows = [fields(1, { amout: 1, stream: "transactions" }), { stream: "clicks", click_id: "x" }];
    expect(await run(fileOf("rows.ndjson", rows), { ignoreUnknown: true })).toMatchObject({
      rows: 2,
      bad: 0,
      others: 1,
      imported: 1,
    });
    expect(await events()).toEqual([seen[0]]);
  });

  it("frees what an import left behind that was killed, and nothing of one that lives", async () => {
    const dead = spawnSync(process.execPath, ["-e", ""]).pid;
    for (const pid of [dead, process.ppid])
      mkdirSync(join(folder, `import-0123456789ab-${pid}`, "raw"), { recursive: true });
    mkdirSync(join(folder, `duckdb-${dead}-0`));
    await run(fileOf("rows.csv", three));
    (await DuckSession.open({ folder })).close();
    expect(readdirSync(folder).filter((name) => /^(import|duckdb)-/.test(name))).toEqual([
      `import-0123456789ab-${process.ppid}`,
    ]);
  });

  it("again makes the same objects", async () => {
    const file = fileOf("rows.csv", three);
    await run(file);
    const before = await keys();
    await run(file);
    expect(await keys()).toEqual(before);
  });

  it("puts hours apart, so that readers may prune by arrival", async () => {
    await run(fileOf("rows.csv", [fields(1), fields(4_000), fields(2)]));
    expect((await keys()).map((key) => /dt=.*hh=\d\d/.exec(key)![0])).toEqual([
      "dt=2026-09-01/hh=00",
      "dt=2026-09-01/hh=01",
    ]);
  });

  it("in a dry run checks everything and changes nothing", async () => {
    expect(await run(fileOf("rows.csv", three), { target: null })).toMatchObject({ imported: 3, objects: 1 });
    expect(await keys()).toEqual([]);
  });

  it("lets events at or above the seal wait in the late queue, one item for each entity", async () => {
    const n = (SEAL_MS - START_MS) / 1_000;
    const items: LateItem[] = [];
    const { s3, dynamodb } = testClients(emulator.url);
    const queue = new LateQueue({ table: bucket, dynamodb });
    const target = {
      s3,
      bucket,
      note,
      late: {
        async put(more: readonly LateItem[]) {
          await queue.put(more);
          items.push(...more);
        },
      },
    };
    const rows = [fields(n - 1, { device_id: null }), fields(n, { device_id: null })];
    expect(await run(fileOf("rows.ndjson", rows), { target })).toMatchObject({ imported: 2, late: 1 });
    expect(items.map(({ entity, id, baseIndex }) => [entity, id, baseIndex])).toEqual([
      ["card", `c${n % 3}`, Math.floor(SEAL_MS / stream.baseMs)],
      ["merchant", "m1", Math.floor(SEAL_MS / stream.baseMs)],
    ]);
    expect(await queue.count("transactions")).toEqual({ pending: 2, complete: true });
    expect((await events()).length).toBe(1);
  });

  it("that is killed among its objects is completed by the next", async () => {
    const rows = Array.from({ length: 5 }, (_, hour) => fields(hour * 3_600));
    const file = fileOf("rows.csv", rows);
    const { s3 } = testClients(emulator.url);
    let puts = 0;
    const dying = {
      send: (command: any) => (++puts > 2 ? Promise.reject(new Error("killed")) : s3.send(command)),
    } as Pick<S3Client, "send">;
    await expect(run(file, { target: { s3: dying, bucket, late: late(), note } })).rejects.toMatchObject({
      code: "archive_unavailable",
    });
    const notes: number[] = [];
    await run(file, {
      target: { s3, bucket, late: late(), note: async () => void notes.push((await keys()).length) },
    });
    // Before its first object, beside the two of the one that died, and after the last.
    expect(notes).toEqual([2, 5]);
    expect((await events()).length).toBe(5);
    expect((await keys()).length).toBe(5);
  });

  it.each([
    ["rows.parquet", "nothing"],
    ["missing.csv", null],
  ])("names a file that cannot be read: %s", async (name, content) => {
    const file = join(folder, name);
    if (content !== null) writeFileSync(file, content);
    await expect(run(file)).rejects.toMatchObject({ code: "file_unreadable", message: expect.stringContaining(name) });
  });

  it.each(["rows.csv", "rows.ndjson", "rows.parquet"])("of an empty file is refused: %s", async (name) => {
    const file = join(folder, name);
    writeFileSync(file, "");
    await expect(run(file)).rejects.toMatchObject({ code: "file_empty", message: `${file} is empty` });
  });

  it("of a file that is no UTF-8 says so", async () => {
    const file = join(folder, "rows.csv");
    writeFileSync(file, Buffer.from("\ufeffcard_id,amount\n", "utf16le"));
    await expect(run(file)).rejects.toMatchObject({ code: "text_invalid", repair: "save the file as UTF-8" });
  });

  it("asks for the format of a file whose name does not tell", () => {
    expect(() => formatOf("rows.txt")).toThrow("the name rows.txt does not tell the file's format");
  });
});
