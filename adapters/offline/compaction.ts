/**
 * Compaction: raw objects become Parquet by event time (docs/decisions/0023-compaction.md). The order of steps is the protocol:
 *
 *   1 list, fetch  2 write every hour's new object  3 write the log record  4 after the grace, remove what the record names
 *
 * An object is named in a record only when all its rows are in objects written before the record, and removed only when such
 * a record has stood for the grace. So at each point, and however many compactors run or die, every row is in an object
 * that nobody is about to remove; rows that are there twice cost room and are deduplicated by readers.
 */
import { randomUUID } from "node:crypto";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import type { Stream } from "../../core/plan.ts";
import { durably } from "../aws/durable-call.ts";
import { hourPath } from "../s3/object-path.ts";
import { archiveSelect, hourOfKey } from "./archive-view.ts";
import {
  compactionLogFolder,
  type LoggedCompaction,
  type LogPort,
  readCompactionLog,
  removeReplaced,
  replacedBy,
  writeRecord,
} from "./compaction-log.ts";
import { loadFresh, mergeHour, timeConflicts } from "./compaction-merge.ts";
import type { DuckSession } from "./duckdb.ts";
import { type ArchiveMirror, type ArchiveObjectInfo, corruptObject } from "./mirror.ts";

/** Stored bytes of raw objects in one batch: some 300,000 rows. What the rows need is spilled beyond the session's memory. */
const BATCH_BYTES = 32 * 1024 * 1024;
const BATCH_OBJECTS = 2_000;
/** Listings that found objects gone at once: another compactor's clean-up, which is rare and short. */
const MAX_LISTINGS = 5;

export interface CompactionOptions {
  readonly session: DuckSession;
  readonly mirror: ArchiveMirror;
  readonly s3: Pick<S3Client, "send">;
  /** The partition's name as in paths, `_unattributed` too. */
  readonly tenant: string;
  readonly stream: Stream;
  readonly nowMs: number;
  /** Longer than any reader runs: objects stay this long after newer ones have taken their place. */
  readonly graceMs: number;
  /** Asked before each batch; the rest is left to the next run. @default never */
  readonly outOfTime?: () => boolean;
  /** Leaves damaged raw objects as they are, and counts them. @default false */
  readonly skipCorrupt?: boolean;
  /** @param share 0 to 1, of the raw objects that wait */
  readonly onProgress?: (share: number) => void;
  /** Below it files lie for as long as they are needed. */
  readonly folder: string;
}

export interface CompactionReport {
  rawObjects: number;
  rows: number;
  hours: number;
  writtenBytes: number;
  payloadConflicts: number;
  timeConflicts: number;
  corrupt: number;
  removed: number;
  /** Raw objects that wait for the next run. */
  left: number;
}

export const nothingCompacted = (): CompactionReport => ({
  ...{ rawObjects: 0, rows: 0, hours: 0, writtenBytes: 0, payloadConflicts: 0, timeConflicts: 0 },
  ...{ corrupt: 0, removed: 0, left: 0 },
});

const logOf = ({ s3, mirror, tenant, stream, nowMs }: CompactionOptions): LogPort => ({
  ...{ s3, mirror, nowMs },
  folder: compactionLogFolder(tenant, stream.name),
});

interface Listing {
  readonly waiting: readonly ArchiveObjectInfo[];
  readonly compacted: readonly ArchiveObjectInfo[];
  readonly log: readonly LoggedCompaction[];
}

/**
 * Compacts what waits, batch by batch, and removes what earlier runs have replaced.
 * @throws RecordError `archive_corrupt`, `archive_version` naming the object: nothing of its batch was done then;
 *   InfrastructureError `archive_unavailable`
 */
export async function compactStream(options: CompactionOptions): Promise<CompactionReport> {
  const report = nothingCompacted();
  const skipped = new Set<string>();
  let changed = 0;
  let total: number | null = null;
  for (let round = 0; ; round++) {
    const listing = await list(options);
    const waiting = listing.waiting.filter(({ key }) => !skipped.has(key));
    report.left = waiting.length;
    total ??= waiting.length;
    options.onProgress?.(total === 0 ? 1 : 1 - waiting.length / Math.max(total, waiting.length));
    // Once a run: two compactors that tidy the same hours would give each other work without an end.
    const untidy = round === 0 ? hoursWithSeveral(listing.compacted) : [];
    if ((waiting.length === 0 && untidy.length === 0) || options.outOfTime?.()) break;
    const batch = firstOf(waiting);
    const { gone, corrupt } = await options.mirror.fetch(batch, { skipCorrupt: options.skipCorrupt });
    for (const { key } of corrupt) skipped.add(key);
    report.corrupt = skipped.size;
    const sound = batch.filter(({ key }) => !skipped.has(key) && !gone.includes(key));
    if (sound.length === 0 && untidy.length === 0) continue;
    const done = await compactBatch(options, listing, sound, untidy);
    if (done === null && ++changed >= MAX_LISTINGS)
      throw corruptObject("", "objects are removed faster than they are read");
    for (const [name, count] of Object.entries(done ?? {})) report[name as keyof CompactionReport] += count;
  }
  report.removed = await removeReplaced(logOf(options), (await list(options)).log, options.graceMs);
  return report;
}

/** @returns null when another compactor removed an hour's object meanwhile: what replaced it is in the next listing */
async function compactBatch(
  options: CompactionOptions,
  listing: Listing,
  batch: readonly ArchiveObjectInfo[],
  untidy: readonly number[],
): Promise<Partial<CompactionReport> | null> {
  const { session, mirror, stream, folder } = options;
  const paths = (objects: readonly ArchiveObjectInfo[]) => objects.map(({ key }) => mirror.path(key));
  const endBlame = session.onDataError(async (message) => {
    const found = [...batch, ...listing.compacted].find(({ key }) => message.includes(mirror.path(key)));
    return found === undefined ? null : corruptObject(found.key, message.split("\n", 1)[0]!);
  });
  mkdirSync(folder, { recursive: true });
  const done = { rawObjects: batch.length, rows: 0, hours: 0, writtenBytes: 0, payloadConflicts: 0, timeConflicts: 0 };
  try {
    const fresh = await loadFresh(session, archiveSelect(stream, paths(batch), []));
    done.rows = fresh.rows;
    const superseded: string[] = [];
    for (const hourMs of new Set([...fresh.hours, ...untidy])) {
      const before = listing.compacted.filter(({ key }) => hourOfKey(key) === hourMs);
      const { gone } = await mirror.fetch(before);
      if (gone.length > 0) return null;
      const name = randomUUID();
      const fileOf = (slice: number) => join(folder, `${name}.${slice}.parquet`);
      let files = 0;
      try {
        const merged = await mergeHour(session, stream, hourMs, archiveSelect(stream, [], paths(before)), (slice) => {
          files = slice + 1;
          return fileOf(slice);
        });
        done.payloadConflicts += merged.payloadConflicts;
        for (let slice = 0; slice < merged.files; slice++) {
          done.writtenBytes += await putCompacted(options, hourMs, fileOf(slice));
        }
      } finally {
        for (let slice = 0; slice < files; slice++) rmSync(fileOf(slice), { force: true });
      }
      superseded.push(...before.map(({ key }) => key));
      done.hours++;
      await mirror.forget(before);
    }
    done.timeConflicts = await timeConflicts(session);
    await writeRecord(logOf(options), { raw: batch.map(({ key }) => key), superseded });
    await mirror.forget(batch);
    return done;
  } finally {
    endBlame();
  }
}

/** As a buffer, which a retry can send again. A file holds at most a slice of rows. */
async function putCompacted(
  { s3, mirror, tenant, stream }: CompactionOptions,
  hourMs: number,
  file: string,
): Promise<number> {
  const key = `compacted/tenant=${tenant}/stream=${stream.name}/${hourPath(hourMs)}/${basename(file)}`;
  const Body = readFileSync(file);
  await durably("archive_unavailable", `writing ${key} to bucket ${mirror.bucket}`, () =>
    s3.send(new PutObjectCommand({ Bucket: mirror.bucket, Key: key, Body })),
  );
  return Body.length;
}

async function list({ mirror, tenant, stream }: CompactionOptions): Promise<Listing> {
  const folder = (kind: string) => `${kind}/tenant=${tenant}/stream=${stream.name}/`;
  const raw = await mirror.list(folder("raw"));
  const log = await readCompactionLog(mirror, tenant, stream.name);
  const done = replacedBy(log);
  const compacted = await mirror.list(folder("compacted"));
  const live = ({ key }: ArchiveObjectInfo) => !done.has(key);
  return { waiting: raw.filter(live), compacted: compacted.filter(live), log };
}

/** What two compactors that ran at once, or one that died, have left. The slices of one writing share a name. */
function hoursWithSeveral(compacted: readonly ArchiveObjectInfo[]): number[] {
  const writings = new Map<number, Set<string>>();
  for (const { key } of compacted) {
    const hour = hourOfKey(key)!;
    writings.set(hour, (writings.get(hour) ?? new Set()).add(basename(key).replace(/\.\d+\.parquet$/, "")));
  }
  return [...writings].filter(([, names]) => names.size > 1).map(([hour]) => hour);
}

/** In order of arrival, so that a batch touches few hours. At least one object. */
function firstOf(waiting: readonly ArchiveObjectInfo[]): ArchiveObjectInfo[] {
  let bytes = 0;
  return waiting.slice(0, BATCH_OBJECTS).filter((object, i) => (bytes += object.bytes) <= BATCH_BYTES || i === 0);
}
