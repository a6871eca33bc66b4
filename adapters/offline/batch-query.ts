/** A batch view's query over the streams' visible events: its columns checked, its rows in the order of keys and times. */
import { FreshetError } from "../../core/errors.ts";
import { KEY_LIMIT } from "../../core/event.ts";
import type { BatchFeature, BatchView, Entity, Plan, Scalar, Stream } from "../../core/plan.ts";
import { keyOf } from "../../core/pushed-feature.ts";
import { MAX_TEXT_BYTES } from "../valkey/packed.ts";
import { type DuckSession, sqlName } from "./duckdb.ts";
import { streamEventsSql } from "./entity-events.ts";

export interface BatchRow {
  readonly id: string;
  readonly eventTimeMs: number;
  /** In the order of the view's features. */
  readonly values: readonly Scalar[];
}

/** Event times and visible times that a run may see: below `toMs`, and not older than `sinceMs`. */
export interface RunRange {
  readonly fromMs: number;
  readonly toMs: number;
  readonly sinceMs: number;
}

export const runRange = ({ lookbackMs }: BatchView, fromMs: number, toMs: number): RunRange => ({
  fromMs,
  toMs,
  sinceMs: lookbackMs === null ? 0 : Math.max(0, fromMs - lookbackMs),
});

/** Each visible event once, its contract's fields as columns, under the stream's name. @param archive relation of archive-view.ts */
export function streamRelationSql(stream: Stream, archive: string, { sinceMs, toMs }: RunRange): string {
  const own = ["event_time_ms", "visible_ms", "event_identity"];
  const fields = Object.keys(stream.fields).filter((name) => !own.includes(name));
  return `
CREATE OR REPLACE TEMP VIEW ${sqlName(stream.name)} AS
SELECT ${fields.map((name) => `fields.${sqlName(name)} AS ${sqlName(name)}`).join(", ")},
  event_time_ms, visible_ms, identity AS event_identity
FROM (${streamEventsSql({ archive })}) AS event
WHERE event_time_ms >= ${sinceMs} AND event_time_ms < ${toMs} AND visible_ms < ${toMs}`.trim();
}

const INTEGERS = "(TINY|SMALL|BIG|HUGE|UTINY|USMALL|UBIG|UHUGE|U)?INT(EGER)?";
const ACCEPTED: Readonly<Record<BatchFeature["dtype"] | "key", RegExp>> = {
  key: new RegExp(`^(VARCHAR|${INTEGERS})$`),
  int64: new RegExp(`^${INTEGERS}$`),
  double: new RegExp(`^(${INTEGERS}|FLOAT|DOUBLE|DECIMAL\\(.*\\))$`),
  string: /^VARCHAR$/,
  boolean: /^BOOLEAN$/,
};
const CAST = { int64: "DOUBLE", double: "DOUBLE", string: "VARCHAR", boolean: "BOOLEAN" } as const;

/**
 * Runs the query once, into the table `batch_result`.
 * @param latestMs no row may be true later than this
 * @returns rows that have a key, and those that have none and are left out
 * @throws FreshetError `batch_column`, `batch_time`, `batch_value`, and those of the session
 */
export async function runBatchQuery(
  session: DuckSession,
  plan: Plan,
  view: BatchView,
  { fromMs, toMs }: RunRange,
  latestMs: number,
): Promise<{ readonly rows: number; readonly withoutKey: number }> {
  const { joinKey } = plan.entities.find(({ name }) => name === view.entity) as Entity;
  const sql = view.sql.replaceAll("{from_ms}", String(fromMs)).replaceAll("{to_ms}", String(toMs));
  const described = await session.rows(`DESCRIBE ${sql}`);
  checkColumns(
    view,
    joinKey,
    new Map(described.map((row) => [String(row["column_name"]), String(row["column_type"])])),
  );
  const key = `CAST(${sqlName(joinKey)} AS VARCHAR)`;
  const columns = view.features.map(
    (feature) => `CAST(${sqlName(keyOf(feature))} AS ${CAST[feature.dtype]}) AS ${sqlName(keyOf(feature))}`,
  );
  await session.run(
    `CREATE OR REPLACE TEMP TABLE batch_result AS SELECT ${key} AS "entity id", CAST(event_time_ms AS DOUBLE) AS "event time", ${columns.join(", ")} FROM (${sql}) AS result`,
  );
  const checks = view.features.map((feature, i) => `count(*) FILTER (${unfit(feature)}) AS "unfit ${i}"`);
  const [found] = await session.rows(`
SELECT count(*) AS total, count(*) FILTER ("entity id" IS NULL OR "entity id" = '') AS without_key,
  count(*) FILTER (length("entity id") > ${KEY_LIMIT}) AS long_key,
  count(*) FILTER ("event time" IS NULL OR "event time" < 0) AS without_time, max("event time") AS latest${checks.map((check) => `, ${check}`).join("")}
FROM batch_result`);
  const refuse = (code: string, message: string, repair: string, field: string): never => {
    throw new FreshetError(code, `batch view ${view.name}: ${message}`, { field, repair });
  };
  if (Number(found["long_key"]) > 0) {
    refuse(
      "batch_value",
      `${found["long_key"]} rows have a ${joinKey} of more than ${KEY_LIMIT} characters`,
      "leave them out",
      joinKey,
    );
  }
  if (Number(found["without_time"]) > 0) {
    refuse(
      "batch_time",
      `${found["without_time"]} rows have no event_time_ms`,
      "yield one for each row, as {to_ms}",
      "event_time_ms",
    );
  }
  if (Number(found["latest"] ?? 0) > latestMs) {
    refuse(
      "batch_time",
      `event_time_ms is up to ${found["latest"]}, later than ${latestMs}`,
      "let no value be true in the future: use {to_ms}",
      "event_time_ms",
    );
  }
  view.features.forEach((feature, i) => {
    const count = Number(found[`unfit ${i}`]);
    if (count === 0) return;
    refuse(
      "batch_value",
      `${keyOf(feature)} of ${count} rows ${UNFIT[feature.dtype]}`,
      "let the query yield null for them",
      keyOf(feature),
    );
  });
  const withoutKey = Number(found["without_key"]);
  return { rows: Number(found["total"]) - withoutKey, withoutKey };
}

/** Rows of `batch_result`, some thousand at a time. */
export async function* batchRows(session: DuckSession, view: BatchView): AsyncGenerator<BatchRow[]> {
  const names = view.features.map((feature) => sqlName(keyOf(feature)));
  const order = ['"entity id"', '"event time"', ...names].join(", ");
  const sql = `SELECT ${order} FROM batch_result WHERE "entity id" <> '' ORDER BY ${order}`;
  for await (const { rows, columns } of session.columns(sql)) {
    yield Array.from({ length: rows }, (_, row) => ({
      id: columns[0][row],
      eventTimeMs: columns[1][row],
      values: columns.slice(2).map((column) => column[row]),
    }));
  }
}

const UNFIT = {
  int64: "lies beyond 2^53",
  double: "is no finite number",
  string: `has more than ${MAX_TEXT_BYTES} bytes`,
  boolean: "is no boolean",
} as const;

function unfit(feature: BatchFeature): string {
  const column = sqlName(keyOf(feature));
  if (feature.dtype === "int64") return `abs(${column}) > 9007199254740991`;
  if (feature.dtype === "double") return `NOT isfinite(${column})`;
  return feature.dtype === "string" ? `strlen(${column}) > ${MAX_TEXT_BYTES}` : "FALSE";
}

function checkColumns(view: BatchView, joinKey: string, columns: ReadonlyMap<string, string>): void {
  const wanted: (readonly [string, BatchFeature["dtype"] | "key"])[] = [
    [joinKey, "key"],
    ["event_time_ms", "int64"],
    ...view.features.map((feature) => [keyOf(feature), feature.dtype] as const),
  ];
  const refuse = (message: string, repair: string, field: string): never => {
    throw new FreshetError("batch_column", `the query of batch view ${view.name} ${message}`, { field, repair });
  };
  for (const [name, type] of wanted) {
    const given = columns.get(name);
    if (given === undefined)
      refuse(`yields ${[...columns.keys()].join(", ")}, and no ${name}`, `name a column ${name}`, name);
    if (!ACCEPTED[type].test(given!)) {
      const words = type === "key" ? "a text or whole number" : `a ${type}`;
      const cast = `cast it: CAST(… AS ${type === "key" ? "varchar" : CAST_WORDS[type]})`;
      refuse(`yields ${name} as ${given}, which is not ${words}`, cast, name);
    }
  }
  const extra = [...columns.keys()].filter((name) => !wanted.some(([known]) => known === name));
  if (extra.length > 0)
    refuse(
      `yields ${extra.join(", ")}, which are no features of the view`,
      "leave them out, or declare them under features",
      extra[0],
    );
}

const CAST_WORDS = { int64: "bigint", double: "double", string: "varchar", boolean: "boolean" } as const;
