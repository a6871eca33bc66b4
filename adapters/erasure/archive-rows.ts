/** Rows of the archive, raw and compacted, without what is erased. What a row becomes is core's to say (`core/erasure.ts`). */

import { randomUUID } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { RowEraser } from "../../core/erasure.ts";
import type { Stream } from "../../core/plan.ts";
import { type ArchiveRow, type EntityFate, encodeArchive, readArchive } from "../archive/archive-format.ts";
import { archiveColumns, archiveSelect } from "../offline/archive-view.ts";
import { type DuckSession, sqlName, sqlText } from "../offline/duckdb.ts";
import type { Rewritten } from "./rewrite.ts";

/** Told of each row before it is changed. */
export type OnErased = (row: ArchiveRow) => void;

/** @returns null where nothing is erased. @throws RecordError as `readArchive` */
export function eraseRaw(body: Buffer, erase: RowEraser, onErased: OnErased): Rewritten | null {
  const left: ArchiveRow[] = [];
  let rows = 0;
  for (const row of readArchive(body)) {
    const after = erase(row);
    if (after !== row) {
      rows++;
      onErased(row);
    }
    if (after !== null) left.push(after);
  }
  if (rows === 0) return null;
  return { body: left.length === 0 ? null : encodeArchive(left), rows };
}

/**
 * Which rows may be meant: SQL over the archive's columns. More may match than are erased.
 * @param fates of entities that are erased
 * @param values ids by the field that may hold them
 */
export function suspectSql(
  stream: Stream,
  fates: readonly { readonly entity: string; readonly id: string }[],
  values: ReadonlyMap<string, Iterable<string>>,
): string {
  const parts = fates.map(
    ({ entity, id }) =>
      `len(list_filter(fates, lambda fate: fate.entity = ${sqlText(entity)} AND fate.id = ${sqlText(id)})) > 0`,
  );
  for (const [field, ids] of values) {
    const list = [...ids].map(sqlText);
    if (field in stream.fields && list.length > 0) {
      parts.push(`COALESCE(CAST(fields.${sqlName(field)} AS VARCHAR) IN (${list.join(", ")}), FALSE)`);
    }
  }
  return parts.length === 0 ? "FALSE" : parts.join(" OR ");
}

export interface ParquetErasure {
  readonly session: DuckSession;
  readonly stream: Stream;
  readonly tenant: string;
  /** SQL by `suspectSql`. */
  readonly suspects: string;
  readonly erase: RowEraser;
  readonly onErased: OnErased;
  /** Below it files lie for as long as they are needed. */
  readonly folder: string;
}

/** @returns null where nothing is erased. @throws FreshetError of DuckDB for a file that it cannot read */
export async function eraseParquet(body: Buffer, options: ParquetErasure): Promise<Rewritten | null> {
  const { session, stream, suspects, erase, onErased, folder } = options;
  mkdirSync(folder, { recursive: true });
  const name = join(folder, randomUUID());
  const [given, changed, result] = [`${name}.parquet`, `${name}.ndjson.zst`, `${name}.out.parquet`];
  try {
    writeFileSync(given, body);
    const before = await suspectRows(options, archiveSelect(stream, [], [given]));
    const after: ArchiveRow[] = [];
    const erased = new Set<ArchiveRow>();
    for (const row of before) {
      const left = erase(row);
      if (left !== row) {
        erased.add(row);
        onErased(row);
      }
      if (left !== null) after.push(left);
    }
    if (erased.size === 0) return null;
    writeFileSync(changed, encodeArchive(after));
    const columns = archiveColumns(stream).map(([column]) => column);
    await session.run(`
      COPY (
        SELECT ${columns.join(", ")} FROM (${archiveSelect(stream, [], [given])}) WHERE NOT (${suspects})
        ${after.length === 0 ? "" : `UNION ALL SELECT ${columns.join(", ")} FROM (${archiveSelect(stream, [changed], [])})`}
        ORDER BY event_time_ms, identity
      ) TO ${sqlText(result)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 30720)`);
    const [{ rows }] = await session.rows(`SELECT count(*) AS rows FROM read_parquet(${sqlText(result)})`);
    return { body: Number(rows) === 0 ? null : readFileSync(result), rows: erased.size };
  } finally {
    for (const file of [given, changed, result]) rmSync(file, { force: true });
  }
}

/** Suspects as the raw archive has them. */
async function suspectRows(
  { session, stream, tenant, suspects }: ParquetErasure,
  select: string,
): Promise<ArchiveRow[]> {
  const rows = await session.rows(`
    SELECT event_id, event_time_ms, identity, arrival_ms, shard, sequence, sub_sequence, reason,
      to_json(fields) AS fields, to_json(fates) AS fates
    FROM (${select}) WHERE ${suspects}`);
  return rows.map((row): ArchiveRow => {
    const fates = JSON.parse(row["fates"]) as Record<string, any>[];
    return {
      tenant,
      stream: stream.name,
      eventId: row["event_id"],
      eventTimeMs: row["event_time_ms"] === null ? null : Number(row["event_time_ms"]),
      identity: row["identity"],
      arrivalMs: Number(row["arrival_ms"]),
      shard: row["shard"],
      sequence: row["sequence"],
      subSequence: Number(row["sub_sequence"]),
      ...(row["reason"] === null ? {} : { reason: row["reason"] as string }),
      fields: row["fields"] === null ? null : JSON.parse(row["fields"]),
      fates: fates.map(
        ({ entity, id, fate, visible_ms }): EntityFate => ({ entity, id, fate, visibleMs: visible_ms ?? null }),
      ),
    };
  });
}
