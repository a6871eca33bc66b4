import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { zstdCompressSync } from "node:zlib";
import { PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type ArchiveRow, ArchiveWriter } from "../../../adapters/archive/archive.ts";
import { encodeArchive } from "../../../adapters/archive/archive-format.ts";
import { mountArchive } from "../../../adapters/offline/archive-view.ts";
import { compactArchive } from "../../../adapters/offline/compact-archive.ts";
import { type CompactionReport, compactStream } from "../../../adapters/offline/compaction.ts";
import { DuckSession } from "../../../adapters/offline/duckdb.ts";
import { entityEventsSql } from "../../../adapters/offline/entity-events.ts";
import { ArchiveMirror } from "../../../adapters/offline/mirror.ts";
import { hourPath } from "../../../adapters/s3/object-path.ts";
import { createBucket, startEmulator, type TestEmulator, testClients } from "../../harness/emulator.ts";
import { plan } from "../../support/fixture-plan.ts";
import { killedAt } from "../../support/killed-client.ts";
import { archiveRows, HOUR_MS, START_MS } from "./archive-rows.ts";
import { naiveEntityEvents } from "./naive-entity-events.ts";

const stream = plan.streams[0]!;
const GRACE_MS = 24 * HOUR_MS;
const NOW_MS = START_MS + 30 * HOUR_MS;

let emulator: TestEmulator;
let s3: S3Client;
let bucket: string;
let buckets = 0;
let folder: string;
const sessions: DuckSession[] = [];

beforeAll(async () => {
  emulator = await startEmulator();
  s3 = testClients(emulator.url).s3;
});
afterAll(() => emulator?.stop());
beforeEach(async () => {
  await newBucket();
  folder = mkdtempSync(join(tmpdir(), "freshet-compaction-"));
});
afterEach(() => {
  for (const session of sessions.splice(0)) session.close();
  rmSync(folder, { recursive: true, force: true });
});

async function newBucket(): Promise<void> {
  bucket = `compaction-${buckets++}`;
  await createBucket(emulator.url, bucket);
}

let machines = 0;
/** What one process has: its own session and folders. */
async function machine(client: Pick<S3Client, "send"> = s3) {
  const own = join(folder, `machine-${machines++}`);
  const session = await DuckSession.open({ folder: own });
  sessions.push(session);
  return { session, s3: client, mirror: new ArchiveMirror({ s3: client, bucket, folder: own }), folder: own };
}

async function compact(nowMs = NOW_MS, client?: Pick<S3Client, "send">, more = {}): Promise<CompactionReport> {
  const own = await machine(client);
  return compactStream({ ...own, tenant: "default", stream, nowMs, graceMs: GRACE_MS, ...more });
}

const write = (rows: readonly ArchiveRow[]) =>
  new ArchiveWriter({ bucket, s3 }).write(rows, { stream: "payments", shard: "shardId-000000000000" });
const keys = async (prefix: string) =>
  (await new ArchiveMirror({ s3, bucket, folder }).list(prefix)).map(({ key }) => key);

/** What any reader is told, of both entities. */
async function read(): Promise<string[]> {
  const { session, mirror } = await machine();
  const range = { tenant: "default", stream, fromMs: 0, toMs: START_MS * 2 };
  await mountArchive(session, mirror, range, "archive");
  const found: string[] = [];
  for (const entity of ["card", "shop"]) {
    const rows = await session.rows(`SELECT * FROM (${entityEventsSql(plan, entity)}) ORDER BY identity || id`);
    found.push(...rows.map((row) => brief(entity, row)));
  }
  session.close();
  return found;
}
const brief = (entity: string, row: any): string =>
  [
    entity,
    row.id,
    row.identity,
    Number(row.event_time_ms),
    Number(row.visible_ms),
    row.fields.amount,
    row.fields.card,
  ].join(" ");
const naive = (rows: readonly ArchiveRow[]): string[] =>
  ["card", "shop"].flatMap((entity) => naiveEntityEvents(rows, entity, entity).map((row) => brief(entity, row)));

const row = (n: number, more: Partial<ArchiveRow> = {}): ArchiveRow => ({
  tenant: "default",
  stream: "payments",
  eventId: `e${n}`,
  eventTimeMs: START_MS + n,
  identity: String(n).padStart(16, "0"),
  arrivalMs: START_MS + n + 5,
  shard: "shardId-000000000000",
  sequence: String(n),
  subSequence: 0,
  fields: {
    tenant: "default",
    id: `e${n}`,
    at: START_MS + n,
    card: "c1",
    shop: "s1",
    amount: n,
    country: null,
    online: null,
  },
  fates: ["card", "shop"].map((entity) => ({
    entity,
    id: entity === "card" ? "c1" : "s1",
    fate: "applied",
    visibleMs: START_MS + n + 9,
  })),
  ...more,
});

describe("compaction", () => {
  it("moves rows to their hour of event time, and a second run finds nothing to do", async () => {
    const late = row(3, { eventTimeMs: START_MS - HOUR_MS, arrivalMs: START_MS + 2 * HOUR_MS });
    const rows = [row(1), row(2), late];
    await write(rows);
    expect(await compact()).toMatchObject({
      rawObjects: 2,
      rows: 3,
      hours: 2,
      left: 0,
      removed: 0,
      payloadConflicts: 0,
    });
    const compacted = await keys("compacted/");
    expect(compacted.map((key) => key.slice(0, key.lastIndexOf("/")))).toEqual(
      [START_MS - HOUR_MS, START_MS].map((ms) => `compacted/tenant=default/stream=payments/${hourPath(ms)}`),
    );
    expect(await compact()).toMatchObject({ rawObjects: 0, hours: 0 });
    expect(await keys("compacted/")).toEqual(compacted);
    expect(await read()).toEqual(naive(rows));
  });

  it("writes an hour again when new objects hold rows of it, and leaves the others", async () => {
    await write([row(1), row(2, { eventTimeMs: START_MS - HOUR_MS })]);
    await compact();
    const [other, before] = await keys("compacted/");
    const more = [row(7, { arrivalMs: START_MS + 9 * HOUR_MS })];
    await write(more);
    await compact();
    const after = await keys("compacted/");
    expect(after).toContain(other);
    expect(after).toHaveLength(3);
    expect(await read()).toEqual(naive([row(1), row(2, { eventTimeMs: START_MS - HOUR_MS }), ...more]));
    // The replaced object is there for readers that have listed it, and is read by no new one.
    const { session, mirror } = await machine();
    const range = { tenant: "default", stream, fromMs: 0, toMs: START_MS * 2 };
    const { compacted } = await mountArchive(session, mirror, range, "archive");
    expect(compacted.map(({ key }) => key)).not.toContain(before);
  });

  it("removes raw and replaced objects when the grace is over, and not a moment earlier", async () => {
    await write([row(1)]);
    await compact();
    await write([row(2)]);
    await compact();
    expect(await compact(NOW_MS + GRACE_MS - 1)).toMatchObject({ removed: 0 });
    expect([
      (await keys("raw/")).length,
      (await keys("compacted/")).length,
      (await keys("compaction/")).length,
    ]).toEqual([2, 2, 2]);
    expect(await compact(NOW_MS + GRACE_MS)).toMatchObject({ removed: 3 });
    expect([
      (await keys("raw/")).length,
      (await keys("compacted/")).length,
      (await keys("compaction/")).length,
    ]).toEqual([0, 1, 0]);
    expect(await read()).toEqual(naive([row(1), row(2)]));
  });

  it("is safe to be killed before each of its writes and removals: readers see every row, and the next run ends the work", async () => {
    const old = [row(1), row(2, { eventTimeMs: START_MS - HOUR_MS })];
    const fresh = [
      row(4),
      row(5, { eventTimeMs: START_MS - HOUR_MS, arrivalMs: START_MS + 1 }),
      row(1, { sequence: "99" }),
    ];
    let step = 1;
    for (let survived = false; !survived; step++) {
      await newBucket();
      await write(old);
      await compact(NOW_MS - GRACE_MS);
      await write(fresh);
      const client = killedAt(s3, step);
      const failure = await compact(NOW_MS, client).catch((error) => error);
      survived = client.survived();
      if (!survived) expect(failure).toMatchObject({ code: "archive_unavailable" });
      const expected = naive([...old, ...fresh]);
      expect([step, await read()]).toEqual([step, expected]);
      await compact();
      await compact(NOW_MS + GRACE_MS);
      await compact(NOW_MS + 2 * GRACE_MS);
      expect([step, await read()]).toEqual([step, expected]);
      expect([await keys("raw/"), await keys("compaction/"), (await keys("compacted/")).length]).toEqual([[], [], 2]);
    }
    // Two hours, the record, two removals: a loop that ended earlier would have tested nothing.
    expect(step - 1).toBeGreaterThanOrEqual(6);
  });

  it("two at once lose nothing and count nothing as missing, and a later run tidies up after them", async () => {
    const all = Array.from({ length: 40 }, (_, n) => row(n, { eventTimeMs: START_MS + (n % 3) * HOUR_MS }));
    await write(all.slice(0, 20));
    await Promise.all([compact(), compact(), write(all.slice(20))]);
    expect(await read()).toEqual(naive(all));
    await Promise.all([compact(), compact()]);
    expect(await read()).toEqual(naive(all));
    await compact();
    await compact(NOW_MS + GRACE_MS);
    expect(await keys("raw/")).toEqual([]);
    expect(await keys("compacted/")).toHaveLength(3);
    expect(await read()).toEqual(naive(all));
  });

  it("begins a batch again when another compactor removed what it was about to read", async () => {
    await write([row(1)]);
    await compact(NOW_MS - 2 * GRACE_MS);
    await write([row(2)]);
    const own = await machine();
    const fetch = own.mirror.fetch.bind(own.mirror);
    let interfered = false;
    own.mirror.fetch = async (objects, options) => {
      if (!interfered && objects.some(({ key }) => key.startsWith("compacted/"))) {
        interfered = true;
        await write([row(3)]);
        await compact(NOW_MS - GRACE_MS);
        await compact(NOW_MS);
      }
      return fetch(objects, options);
    };
    await compactStream({ ...own, tenant: "default", stream, nowMs: NOW_MS, graceMs: GRACE_MS });
    expect(interfered).toBe(true);
    expect(await read()).toEqual(naive([row(1), row(2), row(3)]));
  });

  it("stops at an object of a later version by its name, with nothing of it done", async () => {
    await write([row(1)]);
    const key = `raw/tenant=default/stream=payments/${hourPath(START_MS)}/9999999999999-x.ndjson.zst`;
    const body = zstdCompressSync(Buffer.from('{"v":2}\n'));
    await s3.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: body }));
    const refused = { code: "archive_version", message: expect.stringContaining(key) };
    await expect(compact()).rejects.toMatchObject(refused);
    await expect(compact(NOW_MS, s3, { skipCorrupt: true })).rejects.toMatchObject(refused);
    expect(await keys("compacted/")).toEqual([]);
  });

  it("stops at a damaged object by its name, and goes round it when told to", async () => {
    await write([row(1)]);
    const key = `raw/tenant=default/stream=payments/${hourPath(START_MS)}/0000000000000-x.ndjson.zst`;
    await s3.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: encodeArchive([row(2)]).subarray(0, 40) }));
    await expect(compact()).rejects.toMatchObject({ code: "archive_corrupt", message: expect.stringContaining(key) });
    expect(await compact(NOW_MS, s3, { skipCorrupt: true })).toMatchObject({ corrupt: 1, rawObjects: 1, left: 0 });
    expect(await keys("raw/")).toContain(key);
  });

  it("leaves nothing on the disk", async () => {
    await write([row(1)]);
    const own = await machine();
    await compactStream({ ...own, tenant: "default", stream, nowMs: NOW_MS, graceMs: GRACE_MS });
    own.session.close();
    const files = readdirSync(own.folder, { recursive: true, encoding: "utf8", withFileTypes: true }).filter((entry) =>
      entry.isFile(),
    );
    expect(files.map(({ name }) => name)).toEqual([]);
  });

  it("of an archive goes through every tenant and stream, those of nobody's too, and one that fails holds no other up", async () => {
    await write([
      row(1),
      { ...row(2), tenant: "acme" },
      { ...row(3), tenant: null, reason: "avro_truncated", identity: null, fates: [] },
    ]);
    const own = await machine();
    const reports = await compactArchive({ ...own, plan, nowMs: NOW_MS, graceMs: GRACE_MS });
    expect(reports["payments"]).toMatchObject({ rawObjects: 3, rows: 3, hours: 3 });
    await expect(
      compactArchive({ ...own, plan, stream: "nothing", nowMs: NOW_MS, graceMs: GRACE_MS }),
    ).rejects.toMatchObject({
      code: "stream_unknown",
      repair: "use one of payments, _values",
    });
  });

  it("of any archive, in any portions, changes nothing that readers see", async () => {
    const portions = fc.array(fc.nat({ max: 2 }), { minLength: 200, maxLength: 200 });
    await fc.assert(
      fc.asyncProperty(archiveRows, portions, async (rows, places) => {
        await newBucket();
        const at = (place: number) => rows.filter((_, i) => places[i % places.length] === place);
        await write(at(0));
        await compact(NOW_MS - GRACE_MS);
        await write(at(1));
        await compact(NOW_MS);
        await write(at(2));
        expect(await read()).toEqual(naive(rows));
      }),
      { numRuns: 3, seed: 20261121 },
    );
  });
});
