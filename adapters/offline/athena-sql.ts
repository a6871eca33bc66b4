/**
 * What a point-in-time join has Athena do: read the archive of a range once, leave out what no row can see, bring an entity's events together,
 * and write them as Parquet in chunks, each of which has whole entities and fits on one machine. What an event gives to a feature is worked out
 * by DuckDB and core from there, as for smaller ranges: so text and numbers go through Athena as they are.
 *
 * Columns of fields are `f0`, `f1`, …: no contract's name has to suit another writer of Parquet.
 */
import type { FieldType, Plan, Stream } from "../../core/plan.ts";
import { tenantPartition } from "../s3/object-path.ts";
import { sqlName, sqlText } from "./duckdb.ts";
import { entityEventsSql, olderThanEntitySql } from "./entity-events.ts";

/** Athena writes to no more partitions in one statement. */
export const MAX_CHUNKS = 100;

const TYPES: Readonly<Record<FieldType, string>> = {
  string: "varchar",
  double: "double",
  long: "bigint",
  boolean: "boolean",
  map: "map(varchar, varchar)",
};

export interface CataloguedRange {
  readonly database: string;
  readonly tenant: string;
  readonly stream: Stream;
  /** Event times, half-open. */
  readonly fromMs: number;
  readonly toMs: number;
  /** Fields of the contract that are read; what is not named is not scanned. */
  readonly fields: readonly string[];
  /** Days of the objects that there are, `2026-11-21`, first and last; null where there are none. */
  readonly rawDays: readonly [string, string] | null;
  readonly compactedDays: readonly [string, string] | null;
}

/**
 * The archive of a tenant's stream as archive-view.ts describes it, `fields` with those of the range alone. It may repeat rows: of objects that
 * compaction has replaced and not removed yet, too. @returns a FROM item
 */
function cataloguedArchive(range: CataloguedRange): string {
  const { database, tenant, stream, fromMs, toMs, fields } = range;
  const values = fields.map((name) => `fields.${sqlName(name)}`);
  const types = fields.map((name) => `${sqlName(name)} ${TYPES[stream.fields[name]!.type]}`);
  const parts = (["raw", "compacted"] as const).flatMap((kind) => {
    const days = kind === "raw" ? range.rawDays : range.compactedDays;
    if (days === null) return [];
    const [first, last] = days;
    return [
      `SELECT event_id, event_time_ms, identity, arrival_ms, shard, sequence, sub_sequence, reason, CAST(ROW(${values.join(", ")}) AS ROW(${types.join(", ")})) AS fields, fates
FROM ${sqlName(database)}.${sqlName(`${kind}_${stream.name}`)}
WHERE tenant = ${sqlText(tenantPartition(tenant))} AND dt >= ${sqlText(first)} AND dt <= ${sqlText(last)}
  AND event_time_ms >= ${fromMs} AND event_time_ms < ${toMs}`,
    ];
  });
  return `(${parts.join("\nUNION ALL\n")})`;
}

/** Ids that a job has laid below its prefix, as Athena's table of them; see `KeysTable` in lib. */
export interface JobKeys {
  readonly database: string;
  readonly tenant: string;
  readonly job: string;
  /** An entity, or `label`. */
  readonly kind: string;
}

const keysSql = ({ database, tenant, job, kind }: JobKeys): string =>
  `SELECT id FROM ${sqlName(database)}."job_keys" WHERE tenant = ${sqlText(tenantPartition(tenant))} AND job = ${sqlText(job)} AND kind = ${sqlText(kind)}`;

/** Events of the entities that a spine names, each once. Columns: id, identity, event_time_ms, visible_ms, the fields, chunk. */
export function chunkedEventsSql(
  plan: Plan,
  entity: string,
  range: CataloguedRange,
  { keys, visibleMs, chunks, older }: { keys: JobKeys; visibleMs: number; chunks: number; older: boolean },
): string {
  const events = entityEventsSql(plan, entity, { archive: cataloguedArchive(range), dialect: "trino", older });
  const fields = range.fields.map((name, i) => `, event.fields.${sqlName(name)} AS f${i}`);
  return `SELECT event.id AS id, event.identity AS identity, event.event_time_ms AS event_time_ms, event.visible_ms AS visible_ms${fields.join("")},
  CAST(mod(crc32(to_utf8(event.id)), ${chunks}) AS integer) AS chunk
FROM (${events}) AS event
WHERE event.visible_ms <= ${visibleMs} AND event.id IN (${keysSql(keys)})`;
}

/** Rows without a fate for the entity, as one row with the column `rows`. */
export const olderSql = (entity: string, range: CataloguedRange): string =>
  olderThanEntitySql(entity, {
    archive: cataloguedArchive({ ...range, fields: range.fields.slice(0, 1) }),
    dialect: "trino",
  });

/** Which of the spine's ids any event names, visible or not. @param joinKey a field of the range */
export const foundSql = (joinKey: string, range: CataloguedRange, keys: JobKeys): string =>
  `SELECT DISTINCT CAST(a.fields.${sqlName(joinKey)} AS varchar) AS id FROM ${cataloguedArchive({ ...range, fields: [joinKey] })} AS a
WHERE a.reason IS NULL AND CAST(a.fields.${sqlName(joinKey)} AS varchar) IN (${keysSql(keys)})`;

/**
 * Deliveries as the archive has them, but for what nobody reads: what the rows of a set are made of. Columns as `deliveriesView` reads them.
 * @param labelled keeps only events with an id among these
 */
export function deliveriesSql(range: CataloguedRange, labelled: JobKeys | null): string {
  const fields = range.fields.map((name, i) => `, a.fields.${sqlName(name)} AS f${i}`);
  const visible = "array_min(filter(transform(a.fates, each -> each.visible_ms), each -> each IS NOT NULL))";
  return `SELECT a.event_id AS event_id, a.event_time_ms AS event_time_ms, a.identity AS identity, a.arrival_ms AS arrival_ms, a.shard AS shard,
  a.sequence AS sequence, a.sub_sequence AS sub_sequence, ${visible} AS visible_ms${fields.join("")}
FROM ${cataloguedArchive(range)} AS a
WHERE a.reason IS NULL AND a.identity IS NOT NULL${labelled === null ? "" : ` AND a.event_id IN (${keysSql(labelled)})`}`;
}

/** Writes a query's rows below an address where nothing is yet. @param chunked its last column is `chunk`, and each has a folder of its own */
export const unloadSql = (query: string, address: string, chunked: boolean): string =>
  `UNLOAD (${query}) TO ${sqlText(address)} WITH (format = 'PARQUET', compression = 'ZSTD'${chunked ? ", partitioned_by = ARRAY['chunk']" : ""})`;
