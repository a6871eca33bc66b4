/**
 * A spine from a file or query of the user's. Ids are text: a reader that guesses types would make numbers of them, and no number finds
 * "007", a card of 20 digits, or a UUID in capitals again.
 */
import { basename } from "node:path";
import { FreshetError } from "../../core/errors.ts";
import type { Plan, Service } from "../../core/plan.ts";
import { type DuckSession, sqlName, sqlText } from "./duckdb.ts";
import { keyColumn } from "./point-in-time-sql.ts";
import { entitiesOf, measured, REQUEST_TYPES, requestColumn, type SpineTable } from "./spine.ts";

export type GivenSpine =
  | { readonly kind: "file"; readonly path: string; readonly format: "csv" | "parquet" | "json" }
  /** What DuckDB runs: `SELECT * FROM read_parquet('…')`. */
  | { readonly kind: "query"; readonly query: string };

export interface GivenSpineOptions {
  readonly plan: Plan;
  readonly service: Service;
  /** With columns under names of the user's. */
  readonly source: GivenSpine;
  readonly fromMs: number | null;
  readonly toMs: number | null;
}

/** Further columns of the table that is made of a spine. */
const INNER = ["row id", "as of", "event id", "own visible"];
const TIME_COLUMNS = ["as_of_ms", "as_of", "event_time_ms", "event_time", "timestamp"];

/** A file of the user's, by its ending. @throws FreshetError `spine_format` */
export function spineFile(path: string): GivenSpine {
  if (/\.parquet$/i.test(path)) return { kind: "file", path, format: "parquet" };
  if (/\.(csv|tsv)(\.gz)?$/i.test(path)) return { kind: "file", path, format: "csv" };
  throw new FreshetError("spine_format", `a spine is a .parquet or .csv file, given ${path}`, {
    field: "spine",
    repair: "convert it, or use --query",
  });
}

/** A query over the source. @param texts columns to read as text, where the file itself does not say what they are */
async function queryOf(session: DuckSession, source: GivenSpine, texts: ReadonlySet<string>): Promise<string> {
  if (source.kind === "query") return source.query;
  const path = sqlText(source.path);
  if (source.format === "parquet") return `SELECT * FROM read_parquet(${path})`;
  const csv = source.format === "csv";
  const reader = csv
    ? `read_csv(${path}, header = true`
    : `read_json(${path}, format = 'array', maximum_object_size = 67108864`;
  const found = await describe(session, `SELECT * FROM ${reader})`);
  const ids = csv ? await digitsKept(session, reader, found) : new Set<string>();
  const isText = (name: string) => texts.has(name) || ids.has(name);
  const typed = [...found].map(([name, type]) => [name, isText(name) ? "VARCHAR" : type] as const);
  // CSV takes the types of some columns, JSON those of all.
  const given = csv ? typed.filter(([name]) => isText(name)) : typed;
  if (given.length === 0) return `SELECT * FROM ${reader})`;
  const types = given.map(([name, type]) => `${sqlName(name)}: ${sqlText(type)}`).join(", ");
  return `SELECT * FROM ${reader}, ${csv ? "types" : "columns"} = {${types}})`;
}

/** Columns of a CSV that read as numbers and are none: a number has neither leading zeros nor more digits than 64 bits hold. */
async function digitsKept(
  session: DuckSession,
  reader: string,
  found: ReadonlyMap<string, string>,
): Promise<ReadonlySet<string>> {
  const numbers = [...found].filter(([, type]) => /^(BIGINT|DOUBLE|HUGEINT)$/.test(type)).map(([name]) => name);
  if (numbers.length === 0) return new Set();
  const asked = numbers.map(
    (name, i) => `bool_or(regexp_matches(${sqlName(name)}, '^(0[0-9]+|[0-9]{19,})$')) AS "${i}"`,
  );
  const [row] = await session.rows(`SELECT ${asked} FROM ${reader}, all_varchar = true)`);
  return new Set(numbers.filter((_, i) => row![String(i)] === true));
}

async function describe(session: DuckSession, query: string): Promise<Map<string, string>> {
  const columns = await session.rows<{ column_name: string; column_type: string }>(`DESCRIBE ${query}`);
  return new Map(columns.map((column) => [column.column_name, column.column_type]));
}

/**
 * Needs a column for the time (as_of_ms in epoch ms or a timestamp; the first of those above) and at least one join key of the
 * service. `label` and `event_id` are taken where they are.
 * @throws FreshetError `spine_unreadable`, `spine_time_missing`, `spine_key_missing`, `spine_time_invalid`, `spine_key_invalid`,
 *   `spine_value_invalid`, `spine_column_taken`, `spine_empty`
 */
export async function givenSpine(session: DuckSession, options: GivenSpineOptions): Promise<SpineTable> {
  const { plan, service } = options;
  const entities = entitiesOf(plan, service);
  const requests = Object.entries(service.request);
  await loadGiven(session, options.source, [
    ...entities.map(({ joinKey }) => joinKey),
    "event_id",
    ...requests.filter(([, type]) => type === "string").map(([name]) => name),
  ]);
  const types = await describe(session, "SELECT * FROM given");
  const { time, keys, extras } = columnsOf(types, service, entities);
  await requireIds(session, types, [...keys, "event_id"]);
  const numbers = [["label", "DOUBLE"], ...requests.map(([name, type]) => [name, REQUEST_TYPES[type]])] as const;
  for (const [name, type] of numbers) {
    if (types.has(name)) await requireValues(session, name, type, types.get(name)!);
  }
  const asOf = instantSql(sqlName(time), types.get(time)!);
  await requireInstants(session, time, asOf);
  const castOf = (name: string, type: string): string => {
    if (!types.has(name)) return `CAST(NULL AS ${type})`;
    const cast = `CAST(${sqlName(name)} AS ${type})`;
    // What a dataframe has where a number is missing.
    return type === "DOUBLE" ? `nullif(${cast}, CAST('nan' AS DOUBLE))` : cast;
  };
  const idOf = (name: string): string => (types.has(name) ? idSql(name, types.get(name)!) : "CAST(NULL AS VARCHAR)");
  const selected = [
    `${asOf} AS "as of"`,
    `${idOf("event_id")} AS "event id"`,
    'CAST(NULL AS BIGINT) AS "own visible"',
    `${castOf("label", "DOUBLE")} AS "label"`,
    ...entities.map(({ name, joinKey }) => `${idOf(joinKey)} AS ${keyColumn(name)}`),
    ...requests.map(([name, type]) => `${castOf(name, REQUEST_TYPES[type])} AS ${requestColumn(name)}`),
    ...(await Promise.all(extras.map((name) => extraSql(session, name, types.get(name)!)))),
  ];
  // Rows of one instant without ids would else be numbered as threads meet them: the same rows make the same set.
  const others = [
    ...entities.map(({ name }) => keyColumn(name)),
    ...[...requests.map(([name]) => requestColumn(name)), '"label"', ...extras.map(sqlName)],
  ];
  const within = [
    ...(options.fromMs === null ? [] : [`${asOf} >= ${options.fromMs}`]),
    ...(options.toMs === null ? [] : [`${asOf} < ${options.toMs}`]),
  ];
  await session.run(`
CREATE OR REPLACE TABLE spine AS SELECT row_number() OVER (ORDER BY "as of", "event id", hash(${others.join(", ")})) - 1 AS "row id", * FROM (
  SELECT ${selected.join(", ")} FROM given${within.length === 0 ? "" : ` WHERE ${within.join(" AND ")}`}
)`);
  const table = await measured(session, extras, {}, false);
  if (table.rows === 0) {
    throw new FreshetError("spine_empty", "no row of the spine lies in the range", { repair: "widen --from and --to" });
  }
  return table;
}

/** The rows as they are, as table `given`. @param texts see `queryOf`. @throws FreshetError `spine_unreadable` */
async function loadGiven(session: DuckSession, source: GivenSpine, texts: readonly string[]): Promise<void> {
  try {
    await session.run(`CREATE OR REPLACE TABLE given AS ${await queryOf(session, source, new Set(texts))}`);
  } catch (cause) {
    const told = (cause as Error).message;
    // Where a job keeps its rows is nothing to whom it tells.
    const message = source.kind === "file" ? told.replaceAll(source.path, basename(source.path)) : told;
    throw new FreshetError(
      "spine_unreadable",
      `the spine cannot be read: ${message.replace(/^DuckDB refused a query: /, "")}`,
      { field: "spine", repair: "check the path, or try the query in DuckDB", cause },
    );
  }
}

/**
 * What the columns are: the time, the join keys that are there, and those without a meaning of ours, which are handed on.
 * @throws FreshetError `spine_time_missing`, `spine_key_missing`, `spine_time_invalid`, `spine_column_taken`
 */
function columnsOf(
  types: ReadonlyMap<string, string>,
  service: Service,
  entities: ReturnType<typeof entitiesOf>,
): { time: string; keys: string[]; extras: string[] } {
  const found = [...types.keys()].join(", ");
  const time = TIME_COLUMNS.find((name) => types.has(name));
  if (time === undefined) {
    throw new FreshetError("spine_time_missing", `the spine has no time column; found ${found}`, {
      field: "spine",
      repair: `name the column one of ${TIME_COLUMNS.join(", ")}`,
    });
  }
  const joinKeys = entities.map(({ joinKey }) => joinKey);
  const keys = joinKeys.filter((joinKey) => types.has(joinKey));
  if (keys.length === 0) {
    throw new FreshetError("spine_key_missing", `the spine has no join key of ${service.name}; found ${found}`, {
      field: "spine",
      repair: `add one or more of ${joinKeys.join(", ")}`,
    });
  }
  const requests = Object.keys(service.request);
  const outputs = [
    ...["event_id", "as_of_ms", "label", ...joinKeys],
    ...service.features,
    ...service.onDemand,
    ...requests.map((name) => `request:${name}`),
  ].map(sqlName);
  const inner = [...INNER.map(sqlName), ...entities.map(({ name }) => keyColumn(name)), ...requests.map(requestColumn)];
  // DuckDB tells no two names apart by their case.
  const used = new Set([...outputs, ...inner].map((name) => name.toLowerCase()));
  const meaning = new Set([time, ...keys, "event_id", "label"]);
  const extras = [...types.keys()].filter((name) => !meaning.has(name));
  const taken = extras.find((name) => used.has(sqlName(name).toLowerCase()));
  if (taken !== undefined) {
    throw new FreshetError("spine_column_taken", `the spine's column ${taken} has the name of an output`, {
      field: "spine",
      repair: "rename it",
    });
  }
  const type = types.get(time)!;
  if (!/^(U?BIGINT|U?INTEGER|HUGEINT|TIMESTAMP.*|DATE.*)$/.test(type)) {
    throw new FreshetError("spine_time_invalid", `the spine's ${time} is a ${type}`, {
      field: "spine",
      repair: "give whole milliseconds since 1970, or a timestamp",
    });
  }
  return { time, keys, extras };
}

/** @throws FreshetError `spine_time_invalid` */
async function requireInstants(session: DuckSession, time: string, asOf: string): Promise<void> {
  const [{ without }] = await session.rows(
    `SELECT count(*) FILTER (${asOf} IS NULL OR ${asOf} < 0) AS without FROM given`,
  );
  if (Number(without) === 0) return;
  throw new FreshetError("spine_time_invalid", `${without} rows of the spine have no ${time}, or one before 1970`, {
    field: "spine",
    repair: "leave them out",
  });
}

/** Parquet has no wider integers than 64 bits, and DuckDB would write doubles. */
async function extraSql(session: DuckSession, name: string, type: string): Promise<string> {
  const column = sqlName(name);
  if (!/^U?HUGEINT$/.test(type)) return column;
  const [{ wide }] = await session.rows(
    `SELECT count(*) FILTER (${column} IS NOT NULL AND TRY_CAST(${column} AS BIGINT) IS NULL) AS wide FROM given`,
  );
  return `CAST(${column} AS ${Number(wide) > 0 ? "VARCHAR" : "BIGINT"}) AS ${column}`;
}

/** Epoch ms. With a zone it is an instant already; without one it is taken as UTC. */
function instantSql(column: string, type: string): string {
  if (!/^(TIMESTAMP|DATE)/.test(type)) return `CAST(${column} AS BIGINT)`;
  return `epoch_ms(${type === "TIMESTAMP WITH TIME ZONE" ? column : `CAST(${column} AS TIMESTAMP)`})`;
}

/** Greatest whole number up to which each has a value of its own. */
const EXACT = { FLOAT: 2 ** 24, DOUBLE: Number.MAX_SAFE_INTEGER } as const;

/** Text of an id; null where there is none. Dataframes make fractional numbers of whole ones as soon as one is missing. */
function idSql(name: string, type: string): string {
  const column = sqlName(name);
  if (type in EXACT) return `CAST(CAST(CASE WHEN NOT isnan(${column}) THEN ${column} END AS HUGEINT) AS VARCHAR)`;
  if (type.startsWith("DECIMAL")) return `CAST(CAST(${column} AS HUGEINT) AS VARCHAR)`;
  return `nullif(CAST(${column} AS VARCHAR), '')`;
}

/** @throws FreshetError `spine_value_invalid` for what the service could not be sent either, or is no label */
async function requireValues(session: DuckSession, name: string, type: string, given: string): Promise<void> {
  const value = `TRY_CAST(${sqlName(name)} AS ${type})`;
  const isWrong: Readonly<Record<string, string>> = {
    DOUBLE: `OR isinf(${value})`,
    label: `OR (${value} NOT IN (0, 1) AND NOT isnan(${value}))`,
  };
  const [{ wrong }] = await session.rows(
    `SELECT count(*) FILTER (${sqlName(name)} IS NOT NULL AND (${value} IS NULL ${isWrong[name === "label" ? name : type] ?? ""})) AS wrong FROM given`,
  );
  if (Number(wrong) === 0) return;
  const what = { VARCHAR: "text", DOUBLE: "finite number", BIGINT: "whole number", BOOLEAN: "boolean" }[type];
  throw new FreshetError(
    "spine_value_invalid",
    `${name} of the spine is a ${given}, and in ${wrong} rows ${name === "label" ? "neither 1 nor 0" : `no ${what}`}`,
    { field: "spine", repair: name === "label" ? "write 1, 0, or nothing" : "mend these rows, or leave them out" },
  );
}

/** @throws FreshetError `spine_key_invalid` for numbers that are no ids */
async function requireIds(session: DuckSession, types: ReadonlyMap<string, string>, names: readonly string[]) {
  for (const name of names) {
    const type = types.get(name) ?? "";
    const column = sqlName(name);
    const limit = type in EXACT ? EXACT[type as keyof typeof EXACT] : null;
    if (limit === null && !type.startsWith("DECIMAL")) continue;
    const beyond = limit === null ? "" : ` OR abs(${column}) > ${limit}`;
    const real = limit === null ? "TRUE" : `NOT isnan(${column})`;
    const [{ wrong }] = await session.rows(
      `SELECT count(*) FILTER (${real} AND (${column} <> floor(${column})${beyond})) AS wrong FROM given`,
    );
    if (Number(wrong) === 0) continue;
    throw new FreshetError(
      "spine_key_invalid",
      `${name} of the spine is a ${type}, and in ${wrong} rows no whole number that it holds exactly`,
      { field: "spine", repair: `write ${name} as text` },
    );
  }
}
