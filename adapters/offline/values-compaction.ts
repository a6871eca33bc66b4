/**
 * Compaction and retention of pushed values (docs/decisions/0048-values-compaction.md). The objects of a day that is over become few, in the same
 * format: every row stays, since a training set may ask for any instant. Steps, in this order, for each merged object:
 *
 *   1 write `…/dt=<day>/merged/<first visible>-<needed until>-<hash>.ndjson.zst`  2 write a log record that names what it was made of
 *   3 after the grace, remove what the record names, then the record
 *
 * So each row is at any time in an object that nobody is about to remove. A row that is there twice is the same push twice, which
 * changes nothing for any reader. A name is a function of what was merged: repeated or done by two at once, it is one object.
 */
import { hash } from "node:crypto";
import { PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import { RecordError } from "../../core/errors.ts";
import type { Plan } from "../../core/plan.ts";
import { durably, forEachLimited } from "../aws/durable-call.ts";
import { compressedValues, readValues, VALUES_PREFIX, valuesFolder, valuesLines } from "../pushed/values-format.ts";
import { type CompactionReport, nothingCompacted } from "./compaction.ts";
import { type LogPort, readLogOf, removeObjects, removeReplaced, replacedBy, writeRecord } from "./compaction-log.ts";
import { type ArchiveMirror, type ArchiveObjectInfo, corruptObject } from "./mirror.ts";

export interface ValuesCompactionOptions {
  readonly plan: Plan;
  readonly s3: Pick<S3Client, "send">;
  readonly mirror: ArchiveMirror;
  readonly nowMs: number;
  /** Longer than any reader runs. */
  readonly graceMs: number;
  /** For how long training sets may reach back: a value is kept as long after its last use. Null: for ever. */
  readonly retentionMs: number | null;
  /** Asked before each object that is written; the rest is left to the next run. @default never */
  readonly outOfTime?: () => boolean;
  /** Leaves damaged objects as they are, and counts them. @default false */
  readonly skipCorrupt?: boolean;
}

/** A merged object's text: a restore takes several of them apart at once, in the memory of a function. */
const MERGED_BYTES = 8 * 1024 * 1024;
const CONCURRENT_GETS = 16;
const DAY_MS = 86_400_000;
/** What became visible in a day is written by then; what comes still later is merged by a later run. */
const SETTLED_MS = 3_600_000;
/** Of values that nothing says the end of: past the year 9999. */
const ALWAYS_MS = 99_999_999_999_999;

interface View extends ValuesCompactionOptions {
  /** `values/tenant=…/view=…/`. */
  readonly folder: string;
  readonly log: LogPort;
  /** How long after its event time a row is known. */
  readonly reachOf: (row: ReturnType<typeof readValues>[number]) => number;
}

/**
 * All tenants and views. One that fails holds no other up: all are tried, and then the first failure is thrown.
 * @throws RecordError `archive_corrupt`, `archive_version` naming the object; InfrastructureError `archive_unavailable`
 */
export async function compactValues(options: ValuesCompactionOptions): Promise<CompactionReport> {
  const report = nothingCompacted();
  const failures: unknown[] = [];
  for (const tenant of await options.mirror.folders(VALUES_PREFIX)) {
    for (const view of await options.mirror.folders(`${VALUES_PREFIX}${tenant}/`)) {
      try {
        await compactView(viewOf(options, tenant.slice("tenant=".length), view.slice("view=".length)), report);
      } catch (error) {
        failures.push(error);
      }
    }
  }
  if (failures.length > 0) throw failures[0];
  return report;
}

function viewOf(options: ValuesCompactionOptions, tenant: string, name: string): View {
  const { plan, s3, mirror, nowMs } = options;
  const declared = plan.batchViews.find((each) => each.name === name)?.reachMs;
  return {
    ...options,
    folder: valuesFolder(tenant, name),
    log: { s3, mirror, nowMs, folder: `compaction/tenant=${tenant}/view=${name}/` },
    // Rows of callers say it themselves. A view that is not declared any more may be again.
    reachOf: (row) => ("packed" in row ? row.reachMs : (declared ?? ALWAYS_MS)),
  };
}

async function compactView(view: View, report: CompactionReport): Promise<void> {
  const { mirror, nowMs, retentionMs, graceMs } = view;
  const objects = await mirror.list(view.folder);
  const done = replacedBy(await readLogOf(mirror, view.log.folder));
  for (const [day, waiting] of waitingDays(objects, done, nowMs)) {
    report.hours++;
    await compactDay(view, day, waiting, report);
  }
  report.removed += await removeReplaced(view.log, await readLogOf(mirror, view.log.folder), graceMs);
  const old = retentionMs === null ? [] : objects.filter(({ key }) => neededUntil(key) + retentionMs <= nowMs);
  if (old.length === 0) return;
  await removeObjects(
    view.log,
    old.map(({ key }) => key),
  );
  report.removed += old.length;
}

/** Objects that no record names, of days that are over, by day. */
function waitingDays(
  objects: readonly ArchiveObjectInfo[],
  done: ReadonlySet<string>,
  nowMs: number,
): Map<string, ArchiveObjectInfo[]> {
  const days = new Map<string, ArchiveObjectInfo[]>();
  for (const object of objects) {
    const day = /\/dt=(\d{4}-\d{2}-\d{2})\/[^/]+$/.exec(object.key)?.[1];
    if (day === undefined || done.has(object.key) || Date.parse(day) + DAY_MS + SETTLED_MS > nowMs) continue;
    const waiting = days.get(day) ?? [];
    waiting.push(object);
    days.set(day, waiting);
  }
  return days;
}

async function compactDay(
  view: View,
  day: string,
  waiting: readonly ArchiveObjectInfo[],
  report: CompactionReport,
): Promise<void> {
  let open = emptyBatch();
  const flush = async () => {
    if (open.keys.length > 0) report.writtenBytes += await writeMerged(view, day, open);
    report.rawObjects += open.keys.length;
    report.rows += open.rows;
    open = emptyBatch();
  };
  for (let from = 0; from < waiting.length; from += CONCURRENT_GETS) {
    if (view.outOfTime?.()) {
      report.left += waiting.length - from;
      break;
    }
    for (const each of await readObjects(view, waiting.slice(from, from + CONCURRENT_GETS), report)) {
      const bytes = each.lines.reduce((sum, line) => sum + line.length + 1, 0);
      if (open.keys.length > 0 && open.bytes + bytes > MERGED_BYTES) await flush();
      open.keys.push(each.key);
      for (const line of each.lines) open.lines.push(line);
      open.bytes += bytes;
      open.rows += each.lines.length;
      open.firstMs = Math.min(open.firstMs, each.firstMs);
      open.untilMs = Math.max(open.untilMs, each.untilMs);
    }
  }
  await flush();
}

const emptyBatch = () => ({
  keys: [] as string[],
  lines: [] as string[],
  ...{ bytes: 0, rows: 0, firstMs: ALWAYS_MS, untilMs: 0 },
});

/** In their order. What is gone was removed by another run, after its rows were in a merged object. */
async function readObjects(view: View, objects: readonly ArchiveObjectInfo[], report: CompactionReport) {
  const found = new Map<string, { key: string; lines: string[]; firstMs: number; untilMs: number }>();
  await forEachLimited(objects, CONCURRENT_GETS, async ({ key }) => {
    const bytes = await view.mirror.get(key);
    if (bytes === null) return;
    try {
      const rows = readValues(bytes);
      found.set(key, {
        ...{ key, lines: valuesLines(bytes) },
        firstMs: rows.reduce((least, { visibleMs }) => Math.min(least, visibleMs), ALWAYS_MS),
        untilMs: rows.reduce((most, row) => Math.max(most, row.eventTimeMs + view.reachOf(row)), 0),
      });
    } catch (error) {
      if (!(error instanceof RecordError)) throw error;
      const version = error.code === "values_version";
      if (view.skipCorrupt && !version) report.corrupt++;
      else throw corruptObject(key, error.message, version ? "archive_version" : undefined, error);
    }
  });
  return objects.flatMap(({ key }) => found.get(key) ?? []);
}

/** @returns its bytes */
async function writeMerged(view: View, day: string, open: ReturnType<typeof emptyBatch>): Promise<number> {
  const { s3, mirror } = view;
  const [first, until] = [open.firstMs, Math.min(open.untilMs, ALWAYS_MS)].map((ms, i) =>
    String(Math.floor(ms)).padStart(13 + i, "0"),
  );
  const name = hash("sha256", open.keys.join("\n")).slice(0, 32);
  const key = `${view.folder}dt=${day}/merged/${first}-${until}-${name}.ndjson.zst`;
  const Body = compressedValues(open.lines.map((line) => `${line}\n`));
  await durably("archive_unavailable", `writing ${key} to bucket ${mirror.bucket}`, () =>
    s3.send(new PutObjectCommand({ Bucket: mirror.bucket, Key: key, Body, ContentType: "application/zstd" })),
  );
  await writeRecord(view.log, { raw: open.keys, superseded: [] });
  return Body.length;
}

/** Of a merged object by its name; others are not looked at before they are merged. */
const neededUntil = (key: string): number => Number(/\/merged\/\d{13}-(\d{14})-/.exec(key)?.[1] ?? ALWAYS_MS);
