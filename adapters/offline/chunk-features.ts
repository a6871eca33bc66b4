/**
 * Features of the spine's rows that one chunk of entities has, folded by core from the chunk's events and kept as Parquet by the spine's row ids
 * until all chunks are done; and those files read again, part of the spine by part.
 *
 * A file's columns: `row` DOUBLE, the spine's row id; of feature i in the order of the plan `v<i>` (its value), `s<i>` (index into STATUSES) and `t<i>`
 * (its view's newest event time, NaN for none). Rows whose entity has no event are in none: they are NOT_FOUND.
 */
import { FreshetError } from "../../core/errors.ts";
import type { Group, Plan } from "../../core/plan.ts";
import type { FeatureOfView } from "../../core/tiles/history.ts";
import { type DuckSession, sqlName, sqlText } from "./duckdb.ts";
import { type FeatureColumn, joinPointInTime, type Spine, seenRange } from "./point-in-time.ts";
import { keyColumn } from "./point-in-time-sql.ts";
import { ROWS_PER_PART } from "./training-part.ts";

/** Events of one entity that core holds at once, about 100 B each. */
const ENTITY_EVENTS = 5_000_000;

export interface ChunkOptions {
  readonly plan: Plan;
  readonly group: Group;
  readonly members: readonly FeatureOfView[];
  /** Files of the chunk's events, with the columns of `chunkedEventsSql`. */
  readonly events: readonly string[];
  /** Names of `f0`, `f1`, …. */
  readonly fields: readonly string[];
  /** File to write. */
  readonly out: string;
  /** @default ENTITY_EVENTS */
  readonly entityEvents?: number;
}

const isNumber = ({ feature }: FeatureOfView): boolean => feature.dtype === "int64" || feature.dtype === "double";
const typeOf = (member: FeatureOfView): string =>
  isNumber(member) ? "DOUBLE" : member.feature.dtype === "boolean" ? "BOOLEAN" : "VARCHAR";

/** Files of events or deliveries as a relation whose `fields` is a struct again. @param given columns beside the fields */
export const unloadedSql = (files: readonly string[], fields: readonly string[], given: string): string =>
  `SELECT ${given}, struct_pack(${fields.map((name, i) => `${sqlName(name)} := f${i}`).join(", ")}) AS fields
FROM read_parquet([${files.map(sqlText)}], hive_partitioning = false)`;

/** @returns rows written. @throws FreshetError `entity_too_large`, and those of the session */
export async function foldChunk(session: DuckSession, options: ChunkOptions): Promise<number> {
  const { plan, group, members, out } = options;
  const key = keyColumn(group.entity);
  await session.run(
    `CREATE OR REPLACE VIEW chunk_events AS ${unloadedSql(options.events, options.fields, "id, identity, event_time_ms, visible_ms")}`,
  );
  await session.run(`
CREATE OR REPLACE TABLE chunk_spine AS
SELECT row_number() OVER (ORDER BY "row id") - 1 AS "chunk row", "row id" AS "spine row", "as of", ${key}
FROM spine WHERE ${key} IN (SELECT id FROM chunk_events)`);
  const columns = members.map((member, i) => `v${i} ${typeOf(member)}, s${i} INTEGER, t${i} DOUBLE`);
  await session.run(`CREATE OR REPLACE TABLE chunk_features ("row" DOUBLE, ${columns.join(", ")})`);
  const [{ rows: total }] = await session.rows("SELECT count(*) AS rows FROM chunk_spine");
  // Rows are in the order of their instants: a slice of them sees events of a slice of time.
  for (let from = 0; from < Number(total); ) {
    const rows = await nextSlice(session, options, from, Math.min(ROWS_PER_PART, Number(total) - from));
    const joined = await joinPointInTime(session, {
      plan,
      features: members.map(({ feature }) => feature.name),
      spine: rows,
      events: () => "chunk_events",
    });
    const ids = new Float64Array(rows.rows);
    for await (const chunk of session.columns(
      'SELECT CAST("row id" AS DOUBLE), CAST("spine row" AS DOUBLE) FROM chunk_slice',
    )) {
      for (let row = 0; row < chunk.rows; row++) ids[chunk.columns[0][row]] = chunk.columns[1][row];
    }
    await session.append("chunk_features", [
      Array.from(ids),
      ...joined.flatMap(({ values, statuses, eventTimesMs }) => [
        Array.from(values),
        Array.from(statuses),
        Array.from(eventTimesMs),
      ]),
    ]);
    from += rows.rows;
  }
  await session.run(
    `COPY (SELECT * FROM chunk_features ORDER BY "row") TO ${sqlText(out)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 50000)`,
  );
  await session.run(
    "DROP TABLE chunk_features; DROP VIEW IF EXISTS chunk_slice; DROP TABLE chunk_spine; DROP VIEW chunk_events",
  );
  return Number(total);
}

/**
 * Makes the view `chunk_slice` of the rows from one on: as many as may be, of which no entity has more events in sight than core holds. An entity whose events within
 * its longest window are more has to be refused.
 */
async function nextSlice(
  session: DuckSession,
  { group, members, entityEvents = ENTITY_EVENTS }: ChunkOptions,
  from: number,
  most: number,
): Promise<Spine> {
  for (let rows = most; ; rows = Math.ceil(rows / 2)) {
    await session.run(`
CREATE OR REPLACE VIEW chunk_slice AS SELECT "chunk row" - ${from} AS "row id", * EXCLUDE ("chunk row") FROM chunk_spine
WHERE "chunk row" >= ${from} AND "chunk row" < ${from + rows}`);
    const [found] = await session.rows('SELECT min("as of") AS a, max("as of") AS b FROM chunk_slice');
    const spine = { relation: "chunk_slice", rows, fromMs: Number(found["a"]), toMs: Number(found["b"]) };
    const { fromMs, toMs } = seenRange(group, members, spine);
    const [{ most: events }] = await session.rows(`
SELECT max(events) AS most FROM (
  SELECT count(*) AS events FROM chunk_events WHERE event_time_ms >= ${fromMs} AND event_time_ms < ${toMs}
    AND id IN (SELECT ${keyColumn(group.entity)} FROM chunk_slice)
  GROUP BY id
) AS counted`);
    if (Number(events ?? 0) <= entityEvents) return spine;
    if (rows > 1) continue;
    throw new FreshetError(
      "entity_too_large",
      `one ${group.entity} has ${events} events of ${group.stream} in sight of one row, the limit is ${entityEvents}`,
      { repair: "leave out its rows, or the features of that entity with the longest windows" },
    );
  }
}

/**
 * Columns of a group's features for the rows of a part.
 * @param files of the group's chunks
 * @param from the part's first row id
 */
export async function readFeatures(
  session: DuckSession,
  members: readonly FeatureOfView[],
  files: readonly string[],
  { from, rows }: { readonly from: number; readonly rows: number },
): Promise<FeatureColumn[]> {
  const columns = members.map(
    (member): FeatureColumn => ({
      name: member.feature.name,
      values: isNumber(member) ? new Float64Array(rows).fill(Number.NaN) : new Array(rows).fill(null),
      statuses: new Uint8Array(rows),
      eventTimesMs: new Float64Array(rows).fill(Number.NaN),
    }),
  );
  if (files.length === 0) return columns;
  const names = members.flatMap((_, i) => [`v${i}`, `s${i}`, `t${i}`]);
  const sql = `SELECT "row" - ${from}, ${names.join(", ")} FROM read_parquet([${files.map(sqlText)}], hive_partitioning = false)
WHERE "row" >= ${from} AND "row" < ${from + rows}`;
  for await (const chunk of session.columns(sql)) {
    const [ids, ...given] = chunk.columns;
    for (let row = 0; row < chunk.rows; row++) {
      const at = ids[row];
      columns.forEach(({ values, statuses, eventTimesMs }, i) => {
        values[at] = given[3 * i][row] as number;
        statuses[at] = given[3 * i + 1][row];
        eventTimesMs[at] = given[3 * i + 2][row];
      });
    }
  }
  return columns;
}
