import { existsSync, mkdtempSync, readdirSync, rmSync, utimesSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DeleteObjectCommand, PutObjectCommand } from "@aws-sdk/client-s3";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type ArchiveRow, encodeArchive } from "../../../adapters/archive/archive-format.ts";
import { archiveSelect, listArchive, mountArchive } from "../../../adapters/offline/archive-view.ts";
import { DuckSession, sqlText } from "../../../adapters/offline/duckdb.ts";
import { ArchiveMirror } from "../../../adapters/offline/mirror.ts";
import { hourPath } from "../../../adapters/s3/object-path.ts";
import { createBucket, startEmulator, type TestEmulator, testClients } from "../../harness/emulator.ts";
import { plan } from "../../support/fixture-plan.ts";

const HOUR_MS = 3_600_000;
const NINE = Date.UTC(2026, 10, 21, 9);
const BUCKET = "offline-test";
const stream = plan.streams[0]!;

let emulator: TestEmulator;
let folder: string;
let session: DuckSession;
let mirror: ArchiveMirror;
let tenants = 0;
let tenant: string;

beforeAll(async () => {
  emulator = await startEmulator();
  await createBucket(emulator.url, BUCKET);
});
afterAll(() => emulator?.stop());
beforeEach(async () => {
  // Own names instead of an emptied bucket.
  tenant = `t${tenants++}`;
  folder = mkdtempSync(join(tmpdir(), "freshet-archive-view-"));
  session = await DuckSession.open({ folder });
  mirror = new ArchiveMirror({ s3: testClients(emulator.url).s3, bucket: BUCKET, folder });
});
afterEach(() => {
  session.close();
  rmSync(folder, { recursive: true, force: true });
});

const row = (id: string, eventTimeMs: number, arrivalMs = eventTimeMs + 5): ArchiveRow => ({
  tenant,
  stream: "payments",
  eventId: id,
  eventTimeMs,
  identity: id.padStart(16, "0"),
  arrivalMs,
  shard: "shardId-000000000000",
  sequence: "1",
  subSequence: 0,
  fields: { tenant, id, at: eventTimeMs, card: "c1", amount: 1 },
  fates: [{ entity: "card", id: "c1", fate: "applied", visibleMs: arrivalMs + 1 }],
});

const put = (key: string, body: Buffer | string) =>
  testClients(emulator.url).s3.send(new PutObjectCommand({ Bucket: BUCKET, Key: key, Body: body }));
const remove = (key: string) =>
  testClients(emulator.url).s3.send(new DeleteObjectCommand({ Bucket: BUCKET, Key: key }));
const rawKey = (name: string, arrivalMs: number) =>
  `raw/tenant=${tenant}/stream=payments/${hourPath(arrivalMs)}/${name}.ndjson.zst`;

async function putRaw(name: string, rows: readonly ArchiveRow[]): Promise<string> {
  const key = rawKey(name, rows[0]!.arrivalMs);
  await put(key, encodeArchive(rows));
  return key;
}

async function compactedBody(rows: readonly ArchiveRow[]): Promise<Buffer> {
  const { writeFile, readFile } = await import("node:fs/promises");
  const raw = join(folder, "made.ndjson.zst");
  const file = join(folder, "made.parquet");
  await writeFile(raw, encodeArchive(rows));
  await session.run(
    `COPY (${archiveSelect(stream, [raw], [])}) TO ${sqlText(file)} (FORMAT parquet, COMPRESSION zstd)`,
  );
  return readFile(file);
}

async function putCompacted(name: string, rows: readonly ArchiveRow[]): Promise<string> {
  const key = `compacted/tenant=${tenant}/stream=payments/${hourPath(rows[0]!.eventTimeMs!)}/${name}.parquet`;
  await put(key, await compactedBody(rows));
  return key;
}

const range = (fromMs = NINE, toMs = NINE + HOUR_MS) => ({ tenant, stream, fromMs, toMs });
const ids = async () => (await session.rows("SELECT event_id FROM archive ORDER BY 1")).map(({ event_id }) => event_id);
const mount = (options = {}, limits = range()) => mountArchive(session, mirror, limits, "archive", options);

describe("the archive's relation", () => {
  it("lets files go that the archive holds no longer, a day after their last use", async () => {
    const kept = await putRaw("kept", [row("a", NINE)]);
    const early = await putRaw("early", [row("b", NINE - 5 * HOUR_MS)]);
    const replaced = await putCompacted("replaced", [row("c", NINE + 1)]);
    const removed = await putRaw("removed", [row("d", NINE + 2)]);
    const recent = await putRaw("recent", [row("e", NINE + 3)]);
    const other = removed.replace(`tenant=${tenant}/`, `tenant=${tenant}0/`);
    await put(other, encodeArchive([row("f", NINE)]));
    const all = [kept, early, replaced, removed, recent, other];
    await mirror.fetch(all.map((key) => ({ key, bytes: 1 })));
    for (const key of all) if (key !== recent) utimesSync(mirror.path(key), 0, Date.now() / 1000 - 2 * 86_400);
    for (const key of [early, replaced, removed, recent, other]) await remove(key);
    await mount();
    expect(await ids()).toEqual(["a"]);
    // Of the range's beginning and of the other tenant nothing was listed.
    expect(all.filter((key) => existsSync(mirror.path(key)))).toEqual([kept, early, recent, other]);
    await remove(kept);
    await mount();
    expect(existsSync(mirror.path(kept))).toBe(true);
  });

  it("takes event times from start to before the end out of raw and compacted objects", async () => {
    await putRaw("a", [row("before", NINE - 1), row("first", NINE)]);
    await putRaw("b", [row("end", NINE + HOUR_MS)]);
    await putCompacted("c", [row("old", NINE + 7)]);
    await mount();
    expect(await ids()).toEqual(["first", "old"]);
    expect(await session.rows("SELECT * FROM archive WHERE event_id = 'first'")).toEqual([
      {
        event_id: "first",
        event_time_ms: BigInt(NINE),
        identity: "00000000000first",
        arrival_ms: BigInt(NINE + 5),
        shard: "shardId-000000000000",
        sequence: "1",
        sub_sequence: 0,
        reason: null,
        fields: {
          tenant,
          id: "first",
          at: BigInt(NINE),
          card: "c1",
          shop: null,
          amount: 1,
          country: null,
          online: null,
        },
        fates: [{ entity: "card", id: "c1", fate: "applied", visible_ms: BigInt(NINE + 6) }],
      },
    ]);
  });

  it("is empty and typed when the archive has nothing", async () => {
    expect(await mount()).toEqual({ raw: [], compacted: [], corrupt: [] });
    expect(await session.rows("SELECT sum(fields.amount) AS total, sum(len(fates)) AS n FROM archive")).toEqual([
      { total: null, n: null },
    ]);
  });

  it("finds what arrived a minute before its time or hours after it, and fetches nothing older", async () => {
    await putRaw("older", [row("x", NINE - 2 * HOUR_MS)]);
    const early = await putRaw("early", [row("early", NINE + 30_000, NINE - 30_000)]);
    const late = await putRaw("late", [row("late", NINE + 1, NINE + 9 * HOUR_MS)]);
    await putCompacted("hour-before", [row("y", NINE - HOUR_MS)]);
    await putCompacted("hour-after", [row("z", NINE + HOUR_MS)]);
    const { raw, compacted } = await mount();
    expect(raw.map(({ key }) => key)).toEqual([early, late]);
    expect(compacted).toEqual([]);
    expect(await ids()).toEqual(["early", "late"]);
  });

  it("leaves out what compaction says is in other objects", async () => {
    const raw = await putRaw("a", [row("a", NINE)]);
    const replaced = await putCompacted("b", [row("a", NINE)]);
    await putCompacted("c", [row("a", NINE)]);
    const log = { v: 1, writtenMs: 0, raw: [raw], superseded: [replaced] };
    await put(`compaction/tenant=${tenant}/stream=payments/1-x.json`, JSON.stringify(log));
    const listing = await listArchive(mirror, range());
    expect([listing.raw.length, listing.compacted.length]).toEqual([0, 1]);
  });

  it("lists again when an object has gone between listing and fetching", async () => {
    await putRaw("a", [row("a", NINE)]);
    const replaced = await putCompacted("b", [row("b", NINE)]);
    const listed = mirror.list.bind(mirror);
    let first = true;
    mirror.list = async (prefix, after) => {
      const found = await listed(prefix, after);
      if (first && prefix.startsWith("compacted/")) {
        first = false;
        await remove(replaced);
        await putCompacted("c", [row("b", NINE), row("c", NINE)]);
      }
      return found;
    };
    await mount();
    expect(await ids()).toEqual(["a", "b", "c"]);
  });

  it("fetches an object once", async () => {
    await putRaw("a", [row("a", NINE)]);
    await mount();
    const shares: number[] = [];
    await mount({ onProgress: (share: number) => shares.push(share) });
    expect(shares).toEqual([]);
    expect(readdirSync(join(folder, BUCKET, "raw", `tenant=${tenant}`, "stream=payments", hourPath(NINE)))).toEqual([
      "a.ndjson.zst",
    ]);
  });

  const whole = () => encodeArchive([row("a", NINE), row("b", NINE)]);
  const flipped = () => {
    const bytes = whole();
    bytes[bytes.length - 20]! ^= 0xff;
    return bytes;
  };
  it.each([
    ["cut", () => whole().subarray(0, 60)],
    ["changed", flipped],
    ["not zstd", () => Buffer.from("nothing")],
    ["with bytes after its frame", () => Buffer.concat([whole(), Buffer.from("x")])],
  ])("names a raw object that is %s, and goes on without it when told to", async (_, body) => {
    await putRaw("good", [row("good", NINE)]);
    await put(rawKey("bad", NINE), body());
    await expect(mount()).rejects.toMatchObject({
      code: "archive_corrupt",
      message: expect.stringContaining(rawKey("bad", NINE)),
      repair: expect.stringContaining("--skip-corrupt"),
    });
    const { corrupt } = await mount({ skipCorrupt: true });
    expect(corrupt.map(({ key }) => key)).toEqual([rawKey("bad", NINE)]);
    expect(await ids()).toEqual(["good"]);
  });

  it("names a raw object whose rows are not of the contract when a query meets them", async () => {
    const bad = { ...row("bad", NINE), fields: { tenant, id: "bad", at: NINE, amount: "much" } };
    await put(rawKey("bad", NINE), encodeArchive([bad]));
    await mount();
    await expect(session.rows("SELECT sum(fields.amount) FROM archive")).rejects.toMatchObject({
      code: "archive_corrupt",
      message: expect.stringContaining(rawKey("bad", NINE)),
    });
    const { corrupt } = await mount({ skipCorrupt: true });
    expect(corrupt.map(({ key }) => key)).toEqual([rawKey("bad", NINE)]);
  });

  it.each([
    ["cut", (body: Buffer) => body.subarray(0, body.length - 9)],
    [
      "changed inside a page",
      (body: Buffer) => Buffer.concat([body.subarray(0, 4), Buffer.alloc(400, 0xaa), body.subarray(404)]),
    ],
  ])("names a Parquet object that is %s, and goes on without it when told to", async (_, damage) => {
    await putCompacted("good", [row("good", NINE)]);
    const key = `compacted/tenant=${tenant}/stream=payments/${hourPath(NINE)}/bad.parquet`;
    await put(key, damage(await compactedBody([row("bad", NINE)])));
    const read = async () => {
      await mount();
      return session.rows("SELECT * FROM archive");
    };
    await expect(read()).rejects.toMatchObject({ code: "archive_corrupt", message: expect.stringContaining(key) });
    const { corrupt } = await mount({ skipCorrupt: true });
    expect(corrupt.map((each) => each.key)).toEqual([key]);
    expect(await ids()).toEqual(["good"]);
  });

  it("refuses a compacted object of a later version by its name", async () => {
    const key = await putCompacted("0.v2", [row("a", NINE)]);
    await expect(mount({ skipCorrupt: true })).rejects.toMatchObject({
      code: "archive_version",
      message: expect.stringContaining(key),
    });
  });

  it("refuses an object of a later version by its name, even when damaged ones may be skipped", async () => {
    const { zstdCompressSync } = await import("node:zlib");
    await put(rawKey("future", NINE), zstdCompressSync(Buffer.from('{"v":2,"rows":[]}\n')));
    await expect(mount({ skipCorrupt: true })).rejects.toMatchObject({
      code: "archive_version",
      message: expect.stringContaining(rawKey("future", NINE)),
    });
  });
});
