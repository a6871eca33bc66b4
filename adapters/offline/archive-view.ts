/**
 * The archive as one relation, whatever the mix of raw and compacted objects behind it. It may repeat an event (raw and
 * compacted, retries, zombies): `entity-events.ts` deduplicates, and nothing else does.
 *
 * Columns: event_id VARCHAR, event_time_ms BIGINT, identity VARCHAR, arrival_ms BIGINT, shard VARCHAR, sequence VARCHAR,
 * sub_sequence INTEGER, reason VARCHAR, fields STRUCT(the contract's fields), fates STRUCT(entity, id, fate VARCHAR,
 * visible_ms BIGINT)[]
 */
import { existsSync } from "node:fs";
import type { FreshetError } from "../../core/errors.ts";
import { FUTURE_LIMIT_MS } from "../../core/event.ts";
import type { FieldType, Stream } from "../../core/plan.ts";
import { hourPath, tenantPartition } from "../s3/object-path.ts";
import { readCompactionLog, replacedBy } from "./compaction-log.ts";
import { type DuckSession, sqlName, sqlText } from "./duckdb.ts";
import {
  type ArchiveMirror,
  type ArchiveObjectInfo,
  type Corruption,
  corruptObject,
  type FetchOptions,
} from "./mirror.ts";

/** Compaction may remove what a listing named; each further listing finds what took its place. */
const MAX_LISTINGS = 5;

/** Rows of one tenant and stream with `fromMs <= event time < toMs`. */
export interface ArchiveRange {
  readonly tenant: string;
  readonly stream: Stream;
  readonly fromMs: number;
  readonly toMs: number;
  /** Hours of event time that are wanted of what is compacted, by their starts. @default all of the range */
  readonly hours?: ReadonlySet<number>;
}

export interface ArchiveListing {
  readonly raw: readonly ArchiveObjectInfo[];
  readonly compacted: readonly ArchiveObjectInfo[];
}

export interface MountedArchive extends ArchiveListing {
  /** Damaged objects that were left out; empty unless `skipCorrupt`. */
  readonly corrupt: readonly Corruption[];
}

const SQL_TYPE: Readonly<Record<FieldType, string>> = {
  string: "VARCHAR",
  double: "DOUBLE",
  long: "BIGINT",
  boolean: "BOOLEAN",
  map: "MAP(VARCHAR, VARCHAR)",
};

/** The columns of the relation with their types, from the newest contract: older rows lack newer fields, which are null then. */
export const archiveColumns = (stream: Stream): readonly (readonly [name: string, type: string])[] => [
  ["event_id", "VARCHAR"],
  ["event_time_ms", "BIGINT"],
  ["identity", "VARCHAR"],
  ["arrival_ms", "BIGINT"],
  ["shard", "VARCHAR"],
  ["sequence", "VARCHAR"],
  ["sub_sequence", "INTEGER"],
  ["reason", "VARCHAR"],
  [
    "fields",
    `STRUCT(${Object.entries(stream.fields).map(([name, { type }]) => `${sqlName(name)} ${SQL_TYPE[type]}`)})`,
  ],
  ["fates", "STRUCT(entity VARCHAR, id VARCHAR, fate VARCHAR, visible_ms BIGINT)[]"],
];

/** Hour of a key's `dt=…/hh=…`, in ms; null when it has none. */
export function hourOfKey(key: string): number | null {
  const match = /\/dt=(\d{4}-\d{2}-\d{2})\/hh=(\d{2})\//.exec(key);
  return match === null ? null : Date.parse(`${match[1]}T${match[2]}:00:00Z`);
}

/**
 * The objects that hold a range. Raw ones first, then compaction's log, then compacted ones: what compaction does meanwhile
 * may show rows twice and can hide none. An event arrives at any time from 60 s before its own on, so raw objects have a lower bound only.
 * Of the mirror's files those go that the archive holds no longer.
 * @throws InfrastructureError `archive_unavailable`; RecordError `archive_version`, `archive_corrupt`
 */
export async function listArchive(mirror: ArchiveMirror, range: ArchiveRange): Promise<ArchiveListing> {
  const partition = tenantPartition(range.tenant);
  const folder = (kind: string) => `${kind}/tenant=${partition}/stream=${range.stream.name}/`;
  const from = (kind: string, ms: number) => `${folder(kind)}${hourPath(Math.max(0, ms))}`;
  const raw = await mirror.list(folder("raw"), from("raw", range.fromMs - FUTURE_LIMIT_MS));
  const done = replacedBy(await readCompactionLog(mirror, partition, range.stream.name));
  const compacted = await mirror.list(folder("compacted"), from("compacted", range.fromMs));
  const live = ({ key }: ArchiveObjectInfo) => !done.has(key);
  const [rawLive, compactedLive] = [raw.filter(live), compacted.filter(live)];
  await mirror.prune(folder("raw"), from("raw", range.fromMs - FUTURE_LIMIT_MS), rawLive);
  await mirror.prune(folder("compacted"), from("compacted", range.fromMs), compactedLive);
  const isWanted = (hourMs: number) => hourMs < range.toMs && range.hours?.has(hourMs) !== false;
  return { raw: rawLive, compacted: compactedLive.filter(({ key }) => isWanted(hourOfKey(key)!)) };
}

/**
 * Brings a range's objects to this machine and makes a view of them.
 * @param name of the view, as SQL
 * @throws RecordError `archive_corrupt`, `archive_version` naming the object; InfrastructureError `archive_unavailable`
 */
export async function mountArchive(
  session: DuckSession,
  mirror: ArchiveMirror,
  range: ArchiveRange,
  name: string,
  options: FetchOptions = {},
): Promise<MountedArchive> {
  for (let attempt = 1; ; attempt++) {
    const listing = await listArchive(mirror, range);
    const all = [...listing.raw, ...listing.compacted];
    const { gone, corrupt } = await mirror.fetch(all, options);
    if (gone.length > 0) {
      if (attempt < MAX_LISTINGS) continue;
      throw corruptObject(gone[0]!, "it is listed and cannot be fetched");
    }
    const left = new Set(corrupt.map(({ key }) => key));
    let raw = listing.raw.filter(({ key }) => !left.has(key));
    let compacted = listing.compacted.filter(({ key }) => !left.has(key));
    const deeper = options.skipCorrupt ? await unreadable(session, mirror, range.stream, [...raw, ...compacted]) : [];
    raw = raw.filter(({ key }) => !deeper.some((each) => each.key === key));
    compacted = compacted.filter(({ key }) => !deeper.some((each) => each.key === key));
    const files = (objects: readonly ArchiveObjectInfo[]) => objects.map(({ key }) => mirror.path(key));
    await session.run(
      `CREATE OR REPLACE VIEW ${name} AS ${archiveSelect(range.stream, files(raw), files(compacted), range)}`,
    );
    session.onDataError((message) => blame(session, mirror, range.stream, [...raw, ...compacted], message));
    return { raw, compacted, corrupt: [...corrupt, ...deeper] };
  }
}

/** A query over files with the relation's columns. @param range without one, rows of every time and of none */
export function archiveSelect(
  stream: Stream,
  rawFiles: readonly string[],
  compactedFiles: readonly string[],
  range?: { readonly fromMs: number; readonly toMs: number },
): string {
  const columns = archiveColumns(stream);
  const within = range === undefined ? "" : ` WHERE event_time_ms >= ${range.fromMs} AND event_time_ms < ${range.toMs}`;
  const parts: string[] = [];
  if (rawFiles.length > 0) {
    parts.push(`SELECT ${columns.map(([name]) => name).join(", ")} FROM ${readRaw(stream, rawFiles)}${within}`);
  }
  if (compactedFiles.length > 0) {
    const cast = columns.map(([name, type]) => `CAST(${name} AS ${type}) AS ${name}`);
    parts.push(`SELECT ${cast.join(", ")} FROM ${readCompacted(compactedFiles)}${within}`);
  }
  if (parts.length > 0) return parts.join(" UNION ALL ");
  return `SELECT ${columns.map(([name, type]) => `CAST(NULL AS ${type}) AS ${name}`).join(", ")} WHERE FALSE`;
}

function readRaw(stream: Stream, files: readonly string[]): string {
  const types = archiveColumns(stream).map(([name, type]) => `${name}: ${sqlText(type)}`);
  return `read_json([${files.map(sqlText)}], format = 'newline_delimited', hive_partitioning = false, columns = {${types}})`;
}

const readCompacted = (files: readonly string[]): string =>
  `read_parquet([${files.map(sqlText)}], union_by_name = true, hive_partitioning = false)`;

/** DuckDB names the file in most messages; for the others each file is read alone. */
async function blame(
  session: DuckSession,
  mirror: ArchiveMirror,
  stream: Stream,
  objects: readonly ArchiveObjectInfo[],
  message: string,
): Promise<FreshetError | null> {
  const reason = message.split("\n", 1)[0]!;
  // What was read in parts is not there any more.
  const there = objects.filter(({ key }) => existsSync(mirror.path(key)));
  const named = there.find(({ key }) => message.includes(mirror.path(key)));
  if (named !== undefined) return corruptObject(named.key, reason.replaceAll(mirror.path(named.key), "the file"));
  const [found] = await unreadable(session, mirror, stream, there, 1);
  return found === undefined ? null : corruptObject(found.key, found.reason);
}

async function unreadable(
  session: DuckSession,
  mirror: ArchiveMirror,
  stream: Stream,
  objects: readonly ArchiveObjectInfo[],
  limit = Number.POSITIVE_INFINITY,
): Promise<Corruption[]> {
  const found: Corruption[] = [];
  for (const { key } of objects) {
    const file = [mirror.path(key)];
    const select = key.endsWith(".parquet") ? archiveSelect(stream, [], file) : archiveSelect(stream, file, []);
    const reason = await session.firstError(`SELECT bit_xor(hash(all_columns)) FROM (${select}) AS all_columns`);
    if (reason !== null) found.push({ key, reason: reason.replaceAll(mirror.path(key), "the file") });
    if (found.length >= limit) break;
  }
  return found;
}
