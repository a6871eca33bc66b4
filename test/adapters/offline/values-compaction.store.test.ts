/** Compaction of pushed values on the emulator's S3: no row is lost, whoever dies or runs beside it, and what has no use any more goes. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { zstdCompressSync } from "node:zlib";
import { PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { compactArchive } from "../../../adapters/offline/compact-archive.ts";
import { DuckSession } from "../../../adapters/offline/duckdb.ts";
import { ArchiveMirror } from "../../../adapters/offline/mirror.ts";
import { featureAt } from "../../../adapters/offline/point-in-time.ts";
import { joinPushed, valuesMount } from "../../../adapters/offline/pushed-in-time.ts";
import { compactValues } from "../../../adapters/offline/values-compaction.ts";
import {
  packedLine,
  readValues,
  type ValuesRow,
  valuesFolder,
  writeLines,
  writeValues,
} from "../../../adapters/pushed/values-format.ts";
import { packValues } from "../../../adapters/valkey/packed.ts";
import { createBucket, startEmulator, type TestEmulator, testClients } from "../../harness/emulator.ts";
import { killedAt } from "../../support/killed-client.ts";
import { spineTable } from "../../support/offline-tables.ts";
import { pushedPlan, riskView } from "../../support/pushed-plan.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const START = Date.UTC(2026, 10, 2);
/** Two days are over, the third is not. */
const NOW = START + 2 * DAY + HOUR;
const GRACE = DAY;
const features = riskView.features.map(({ name }) => name);

let emulator: TestEmulator;
let s3: S3Client;
let bucket: string;
let buckets = 0;
const folder = mkdtempSync(join(tmpdir(), "freshet-values-compaction-"));

beforeAll(async () => {
  emulator = await startEmulator();
  s3 = testClients(emulator.url).s3;
});
afterAll(async () => {
  await emulator?.stop();
  rmSync(folder, { recursive: true, force: true });
});
beforeEach(async () => {
  bucket = `values-${buckets++}`;
  await createBucket(emulator.url, bucket);
});

const mirror = (client: Pick<S3Client, "send"> = s3) =>
  new ArchiveMirror({ s3: client, bucket, folder: join(folder, bucket) });
const compact = (nowMs = NOW, client: Pick<S3Client, "send"> = s3, more = {}) =>
  compactValues({
    ...{ plan: pushedPlan, s3: client, mirror: mirror(client), nowMs, graceMs: GRACE, retentionMs: null },
    ...more,
  });
const keys = async (prefix = "values/") => (await mirror().list(prefix)).map(({ key }) => key);
const isMerged = (key: string) => key.includes("/merged/");

/** Of the view `risk`: a value that changes with the visible time. */
const risk = (visibleMs: number, more: Partial<ValuesRow> = {}): ValuesRow => ({
  ...{ tenant: "team-a", entity: "shop", id: "s1", view: "risk", eventTimeMs: visibleMs - HOUR, visibleMs },
  values: Object.fromEntries(
    riskView.features
      .filter(({ dtype }) => dtype === "double")
      .map(({ name }) => [`${name.slice("risk:".length)}:double`, visibleMs / HOUR]),
  ),
  ...more,
});
const write = (...rows: ValuesRow[]) => writeValues({ s3, bucket }, rows);
const REACH = 12 * HOUR;
const pushed = (visibleMs: number, value: number) => {
  const packed = packValues([{ id: 3, dtype: "double", value }], visibleMs);
  const row = { tenant: "team-b", entity: "shop", view: "_profile", id: "s1", eventTimeMs: visibleMs, visibleMs };
  return writeLines({ s3, bucket }, row, visibleMs, [packedLine({ ...row, reachMs: REACH, packed })]);
};

/** Every row that a reader finds, each once. */
async function rows(prefix = "values/"): Promise<string[]> {
  const found = new Set<string>();
  for (const key of await keys(prefix)) {
    for (const row of readValues((await mirror().get(key))!)) found.add(JSON.stringify(row));
  }
  return [...found].sort();
}

/** Eight objects of two tenants, one of them of the day that is not over. */
async function fill(): Promise<void> {
  for (const hours of [1, 5, 23.5, 25, 30, 49]) await write(risk(START + hours * HOUR));
  await pushed(START + 2 * HOUR, 1);
  await pushed(START + 3 * HOUR, 2);
}

describe("compaction of pushed values", () => {
  it("makes one object of a view's day that is over, keeps every row, and finds nothing to do again", async () => {
    await fill();
    const before = await rows();
    expect(await compact()).toMatchObject({ rawObjects: 7, rows: 7, hours: 3, left: 0, removed: 0 });
    expect((await keys()).filter(isMerged).map((key) => key.slice(0, key.lastIndexOf("/")))).toEqual([
      "values/tenant=team-a/view=risk/dt=2026-11-02/merged",
      "values/tenant=team-a/view=risk/dt=2026-11-03/merged",
      "values/tenant=team-b/view=_profile/dt=2026-11-02/merged",
    ]);
    expect(await rows()).toEqual(before);
    expect(await compact()).toMatchObject({ rawObjects: 0, rows: 0, removed: 0 });
    expect(await compact(NOW + GRACE - 1)).toMatchObject({ removed: 0 });
    // A day later the third day is over, too.
    expect(await compact(NOW + GRACE)).toMatchObject({ rawObjects: 1, removed: 7 });
    expect(await rows()).toEqual(before);
    expect(await compact(NOW + 2 * GRACE)).toMatchObject({ rawObjects: 0, removed: 1 });
    expect((await keys()).every(isMerged)).toBe(true);
    expect(await rows()).toEqual(before);
    expect(await keys("compaction/")).toEqual([]);
  });

  it("a value is the same at every instant before, meanwhile and afterwards", async () => {
    await fill();
    const session = await DuckSession.open({ folder });
    const instants = Array.from({ length: 60 }, (_, hour) => ({ t: START + hour * HOUR, keys: { shop: "s1" } }));
    const read = async () => {
      await session.run(spineTable("spine", instants));
      const spine = { relation: "spine", rows: instants.length, fromMs: START, toMs: instants.at(-1)!.t };
      const mount = valuesMount(session, mirror(), "team-a");
      const columns = await joinPushed(session, { plan: pushedPlan, names: features, spine, mount });
      return instants.map((_, row) => columns.map((column) => featureAt(column, row)));
    };
    const before = await read();
    expect(new Set(before.map((row) => JSON.stringify(row))).size).toBeGreaterThan(5);
    for (const nowMs of [NOW, NOW + GRACE, NOW + 2 * GRACE]) {
      await compact(nowMs);
      expect(await read()).toEqual(before);
    }
    session.close();
  });

  it("killed before each of its writes and removals, and done again, has every row in one object", async () => {
    let deaths = 0;
    for (let n = 1; ; n++, deaths++) {
      if (n > 1) {
        bucket = `values-${buckets++}`;
        await createBucket(emulator.url, bucket);
      }
      await fill();
      const before = await rows();
      const client = killedAt(s3, n);
      // The second of these runs removes what the first has replaced.
      for (const nowMs of [NOW, NOW + GRACE]) await compact(nowMs, client).catch(() => {});
      expect(await rows(), `killed at change ${n}`).toEqual(before);
      for (const days of [1, 2, 3]) await compact(NOW + GRACE + days * DAY);
      expect(await rows(), `after death ${n}`).toEqual(before);
      expect((await keys()).length).toBe(4);
      expect(await keys("compaction/")).toEqual([]);
      if (client.survived()) break;
    }
    expect(deaths).toBeGreaterThan(10);
  }, 120_000);

  it("two at once make the same objects", async () => {
    await fill();
    const before = await rows();
    await Promise.all([compact(), compact(), compact()]);
    expect((await keys()).filter(isMerged).length).toBe(3);
    await Promise.all([compact(NOW + GRACE), compact(NOW + GRACE)]);
    await compact(NOW + 2 * GRACE);
    expect(await rows()).toEqual(before);
    expect((await keys()).length).toBe(4);
  });

  it("merges what comes late into an object of its own, after all others of its day and before the next", async () => {
    await fill();
    await compact();
    await write(risk(START + 6 * HOUR, { id: "late" }));
    expect(await compact(NOW + HOUR)).toMatchObject({ rawObjects: 1, rows: 1 });
    const own = await keys("values/tenant=team-a/view=risk/");
    const ofFirst = own.filter((key) => key.includes("dt=2026-11-02"));
    // A reader that goes on after the last key it has read misses no row: what replaced later objects comes after it.
    expect(ofFirst.map(isMerged)).toEqual([false, false, false, false, true, true]);
    expect(own.slice(0, 6)).toEqual(ofFirst);
  });

  it("a damaged object or an unknown version stops its view with its name, and no other", async () => {
    await fill();
    const damaged = `${valuesFolder("team-a", "risk")}dt=2026-11-02/0000000000001-x.ndjson.zst`;
    const put = (Body: Buffer) => s3.send(new PutObjectCommand({ Bucket: bucket, Key: damaged, Body }));
    await put(zstdCompressSync(Buffer.from('{"v":1,')));
    await expect(compact()).rejects.toMatchObject({
      code: "archive_corrupt",
      message: `archive object ${damaged} cannot be read: values object ends inside a row`,
    });
    expect((await keys()).filter(isMerged).map((key) => key.split("/")[2])).toEqual(["view=_profile"]);
    expect(await compact(NOW, s3, { skipCorrupt: true })).toMatchObject({ corrupt: 1, rawObjects: 5 });
    expect(await keys()).toContain(damaged);
    await put(zstdCompressSync(Buffer.from('{"v":9}\n')));
    await expect(compact(NOW, s3, { skipCorrupt: true })).rejects.toMatchObject({ code: "archive_version" });
  });

  it("leaves the rest to the next run when time is over", async () => {
    await fill();
    expect(await compact(NOW, s3, { outOfTime: () => true })).toMatchObject({ rawObjects: 0, left: 7 });
    expect((await keys()).filter(isMerged)).toEqual([]);
  });

  it("is part of the archive's, under a name of its own", async () => {
    await fill();
    const told: string[] = [];
    const session = await DuckSession.open({ folder });
    const options = { plan: pushedPlan, session, s3, folder, mirror: mirror(), nowMs: NOW, graceMs: GRACE };
    const done = await compactArchive({ ...options, onStream: (name) => told.push(name) });
    session.close();
    expect(told.at(-1)).toBe("_values");
    expect(done["_values"]).toMatchObject({ rawObjects: 7 });
  });
});

describe("retention of pushed values", () => {
  const RETENTION = 30 * DAY;
  const later = (nowMs: number) => compact(nowMs, s3, { retentionMs: RETENTION });

  it("removes what no training set of the archive's reach can see any more, and nothing before", async () => {
    await fill();
    for (const at of [NOW, NOW + GRACE, NOW + 2 * GRACE]) await compact(at);
    // The newest push of the day is known for its reach; sets go back by the retention from now.
    const end = START + 3 * HOUR + REACH + RETENTION;
    await later(end - 1);
    expect((await keys("values/tenant=team-b/")).length).toBe(1);
    expect(await later(end)).toMatchObject({ removed: 1 });
    expect(await keys("values/tenant=team-b/")).toEqual([]);
    const own = await keys("values/tenant=team-a/");
    const ends = (hours: number) => START + (hours - 1) * HOUR + riskView.reachMs + RETENTION;
    for (const [hours, left] of [
      [23.5, 2],
      [30, 1],
      [49, 0],
    ] as const) {
      await later(ends(hours) - 1);
      expect((await keys("values/tenant=team-a/")).length, `before hour ${hours}`).toBe(left + 1);
      await later(ends(hours));
      expect(await keys("values/tenant=team-a/")).toEqual(own.slice(3 - left));
    }
  });

  it("without one removes nothing, and of a view that is not declared any more neither", async () => {
    await write(risk(START + HOUR, { view: "gone" }));
    await pushed(START + HOUR, 1);
    await compact(NOW);
    await compact(NOW + GRACE);
    await compact(NOW + 4_000 * DAY);
    expect((await keys()).length).toBe(2);
    await later(NOW + 4_000 * DAY);
    expect((await keys()).map((key) => key.split("/")[2])).toEqual(["view=gone"]);
  });
});
