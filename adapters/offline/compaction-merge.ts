/**
 * The SQL of compaction: rows of one hour of event time, from new raw objects and from the hour's compacted ones, become one
 * row for each identity and payload (nearly always, see `mergedRows`). What `entity-events.ts` reads from the merged rows is what it reads from the others.
 */
import type { Stream } from "../../core/plan.ts";
import { archiveColumns } from "./archive-view.ts";
import { type DuckSession, sqlName, sqlText } from "./duckdb.ts";

const HOUR_MS = 3_600_000;
/** End of the year 9999: later times, and those before 1970, are of refused records, and filed by arrival. */
const LAST_TIME_MS = 253_402_300_799_999;

/** The row's hour: of its event time, or of its arrival where it has none that means anything. */
const HOUR = `CASE WHEN event_time_ms BETWEEN 0 AND ${LAST_TIME_MS} THEN event_time_ms ELSE arrival_ms END // ${HOUR_MS}`;
/** What makes rows the same event. A refused record is the same only when it is the same delivery. */
const SAME =
  "CASE WHEN reason IS NULL AND identity IS NOT NULL THEN identity ELSE concat('-', shard, '/', sequence, '/', sub_sequence) END";

/** What was found out while merging, newly: rows that were compacted before have been counted. */
export interface Conflicts {
  /** Further payloads of an identity. */
  readonly payload: number;
  /** Further event times of an event id, within the hours of one run. */
  readonly time: number;
}

/** Loads the new rows, and prepares what is told of them. @param select a query with the archive's columns */
export async function loadFresh(session: DuckSession, select: string): Promise<{ rows: number; hours: number[] }> {
  await session.run(`CREATE OR REPLACE TABLE fresh AS SELECT *, ${HOUR} AS hour, ${SAME} AS same FROM (${select})`);
  await session.run("CREATE OR REPLACE TABLE known (event_id VARCHAR, identity VARCHAR)");
  const hours = await session.rows("SELECT hour, count(*) AS rows FROM fresh GROUP BY hour ORDER BY hour");
  return {
    rows: hours.reduce((total, { rows }) => total + Number(rows), 0),
    hours: hours.map(({ hour }) => Number(hour) * HOUR_MS),
  };
}

/** Rows that are merged at once: with a fat payload some 500 MB. */
const SLICE_ROWS = 250_000;

/**
 * Writes an hour's rows, new and compacted, to Parquet files: one, or for a big hour one for each slice of identities, so that
 * memory is bounded however many rows there are.
 * @param compacted a query with the archive's columns over what is compacted of this hour
 * @param fileOf path of the n-th file
 * @returns how many files there are, rows in them, and payload conflicts that the new rows brought
 */
export async function mergeHour(
  session: DuckSession,
  stream: Stream,
  hourMs: number,
  compacted: string,
  fileOf: (slice: number) => string,
  sliceRows = SLICE_ROWS,
): Promise<{ files: number; rows: number; payloadConflicts: number }> {
  const hour = hourMs / HOUR_MS;
  const [{ rows }] = await session.rows(
    `SELECT (SELECT count(*) FROM fresh WHERE hour = ${hour}) + (SELECT count(*) FROM (${compacted})) AS rows`,
  );
  const total = { files: Math.max(1, Math.ceil(Number(rows) / sliceRows)), rows: 0, payloadConflicts: 0 };
  for (let slice = 0; slice < total.files; slice++) {
    const within = total.files === 1 ? "" : ` AND hash(same) % ${total.files} = ${slice}`;
    const merged = await mergeSlice(session, stream, { hour, within, compacted }, fileOf(slice));
    total.rows += merged.rows;
    total.payloadConflicts += merged.payloadConflicts;
  }
  return total;
}

async function mergeSlice(
  session: DuckSession,
  stream: Stream,
  { hour, within, compacted }: { hour: number; within: string; compacted: string },
  file: string,
): Promise<{ rows: number; payloadConflicts: number }> {
  const names = archiveColumns(stream)
    .map(([name]) => name)
    .join(", ");
  await session.run(`
    CREATE OR REPLACE TABLE merging AS
    SELECT ${names}, same, FALSE AS old FROM fresh WHERE hour = ${hour}${within}
    UNION ALL
    SELECT ${names}, ${SAME} AS same, TRUE AS old FROM (${compacted}) WHERE TRUE${within}`);
  // Few events come twice: the costly part of merging is for those alone.
  await session.run("CREATE OR REPLACE TABLE repeated AS SELECT same FROM merging GROUP BY same HAVING count(*) > 1");
  await session.run(`
    INSERT INTO known SELECT DISTINCT event_id, identity FROM merging
    WHERE old AND reason IS NULL AND event_id IN (SELECT event_id FROM fresh WHERE reason IS NULL)`);
  await session.run(`
    COPY (
      SELECT ${names} FROM merging WHERE same NOT IN (SELECT same FROM repeated)
      UNION ALL
      SELECT ${names} FROM (${mergedRows()})
      ORDER BY event_time_ms, identity
    ) TO ${sqlText(file)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 30720)`);
  const [{ conflicts }] = await session.rows(`
    SELECT COALESCE(sum(payloads - greatest(1, before)), 0)::BIGINT AS conflicts FROM (
      SELECT count(*) AS payloads, count(*) FILTER (WHERE before) AS before FROM (
        SELECT same, bool_or(old) AS before FROM merging
        WHERE reason IS NULL AND same IN (SELECT same FROM repeated) GROUP BY same, ${payloadOf(stream)}
      ) GROUP BY same
    )`);
  await session.run("DROP TABLE merging");
  const [{ rows }] = await session.rows(`SELECT count(*) AS rows FROM read_parquet(${sqlText(file)})`);
  return { rows: Number(rows), payloadConflicts: Number(conflicts) };
}

/** What a producer is held to repeat: ingest may have looked the others up twice, and found something else. */
function payloadOf({ fields, enrich }: Stream): string {
  if (enrich === undefined) return "fields";
  const own = Object.keys(fields).filter((name) => !enrich.some(({ field }) => field === name));
  return own.map((name) => `fields.${sqlName(name)}`).join(", ");
}

/**
 * Rows of events that occur more than once. What a row doesn't name is news to entities that the plan got later, so rows stand for each
 * other only when they have the payload and name the same entities. Of these a delivery stays, whole, if entity events would take
 * any entity's fate from it. So an event that was applied and sent again is one row, that of its apply; and a delivery's row
 * and its repair's are one, with the better fate of each entity.
 */
function mergedRows(): string {
  return `
    WITH claims AS (
      SELECT same, event_id, event_time_ms, identity, reason, fields, list_sort(list_transform(fates, lambda each: each.entity)) AS named,
        f.entity AS entity, f.id AS id, {
          hidden: f.visible_ms IS NULL, visible_ms: f.visible_ms, rank: CASE f.fate WHEN 'duplicate' THEN 1 WHEN 'late' THEN 2 ELSE 0 END,
          arrival_ms: arrival_ms, shard: shard, digits: length(sequence), sequence: sequence, sub_sequence: sub_sequence, fate: f.fate
        } AS claim
      FROM merging, UNNEST(CASE WHEN len(fates) = 0 THEN [NULL] ELSE fates END) AS u(f)
      WHERE same IN (SELECT same FROM repeated)
    ), delivered AS (
      SELECT same, any_value(event_id) AS event_id, any_value(event_time_ms) AS event_time_ms, any_value(identity) AS identity,
        reason, fields, named, entity, id, min(claim) AS claim
      FROM claims
      GROUP BY same, reason, fields, named, entity, id, claim.arrival_ms, claim.shard, claim.sequence, claim.sub_sequence
    ), compared AS (
      SELECT *, claim IS NOT DISTINCT FROM min(claim) OVER (PARTITION BY same, reason, fields, named, entity, id) AS best FROM delivered
    )
    SELECT any_value(event_id) AS event_id, any_value(event_time_ms) AS event_time_ms, any_value(identity) AS identity,
      claim.arrival_ms AS arrival_ms, claim.shard AS shard, claim.sequence AS sequence, claim.sub_sequence AS sub_sequence,
      reason, fields,
      COALESCE(list({entity: entity, id: id, fate: claim.fate, visible_ms: claim.visible_ms} ORDER BY entity, id) FILTER (WHERE entity IS NOT NULL), []) AS fates
    FROM compared
    GROUP BY same, reason, fields, named, claim.arrival_ms, claim.shard, claim.sequence, claim.sub_sequence
    HAVING bool_or(best)`;
}

/** Once after the run's hours. Event ids with more identities than before. */
export async function timeConflicts(session: DuckSession): Promise<number> {
  const [{ conflicts }] = await session.rows(`
    SELECT COALESCE(sum(identities - greatest(1, before)), 0)::BIGINT AS conflicts FROM (
      SELECT event_id, count(*) AS identities, count(*) FILTER (WHERE old) AS before FROM (
        SELECT event_id, identity, bool_or(old) AS old FROM (
          SELECT event_id, identity, TRUE AS old FROM known
          UNION ALL SELECT event_id, identity, FALSE AS old FROM fresh WHERE reason IS NULL AND identity IS NOT NULL
        ) GROUP BY event_id, identity
      ) GROUP BY event_id
    )`);
  return Number(conflicts);
}
