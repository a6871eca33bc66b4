/**
 * The rows of a training set before their features: who, at which instant, with which request and label. From the labels
 * stream, joined by id to the event that each label judges, or from a file or query of the user's.
 *
 * Makes a table with `"row id"` (0, 1, … by instant), `"as of"`, `"key <entity>"`, `"request <field>"`, `"event id"`, `"own visible"`
 * and `"label"`; columns of the user's that mean none of these are kept under their own names.
 */
import { FreshetError } from "../../core/errors.ts";
import type { Entity, Plan, Service, Stream } from "../../core/plan.ts";
import { type DuckSession, sqlName, sqlText } from "./duckdb.ts";
import { keyColumn } from "./point-in-time-sql.ts";
import type { AsOfRule } from "./training-manifest.ts";

export interface SpineTable {
  readonly relation: string;
  readonly rows: number;
  /** The oldest and the newest instant. */
  readonly fromMs: number;
  readonly toMs: number;
  readonly extras: readonly string[];
  readonly leftOut: Readonly<Record<string, number>>;
  /** Null where rows have no event of their own. */
  readonly ownEventVisible: number | null;
  readonly positives: number;
}

export const requestColumn = (name: string): string => sqlName(`request ${name}`);
const REQUEST_TYPES = { string: "VARCHAR", double: "DOUBLE", long: "BIGINT", boolean: "BOOLEAN" } as const;
const entitiesOf = (plan: Plan, service: Service): Entity[] =>
  service.entities.map((name) => plan.entities.find((entity) => entity.name === name)!);

/** What a label says about which stream's events, from the names of their fields. */
export interface LabelJoin {
  readonly labels: Stream;
  readonly events: Stream;
  /** Of the labels' contract: holds the event's id. */
  readonly idField: string;
  /** Of the labels' contract: its only boolean. */
  readonly valueField: string;
}

/** @throws FreshetError `labels_unclear` */
export function labelJoin(plan: Plan, service: Service, labelsStream: string): LabelJoin {
  const refuse = (message: string, repair: string) =>
    new FreshetError("labels_unclear", message, { field: `${service.name}.labels`, repair });
  const labels = plan.streams.find(({ name }) => name === labelsStream);
  if (labels === undefined) {
    throw refuse(`no stream is named ${labelsStream}`, `use one of ${plan.streams.map(({ name }) => name).join(", ")}`);
  }
  const views = plan.views.filter(({ features }) => features.some(({ name }) => service.features.includes(name)));
  const events = plan.streams.find(
    (stream) =>
      stream !== labels && stream.eventId in labels.fields && views.some((view) => view.stream === stream.name),
  );
  if (events === undefined) {
    const ids = plan.streams.filter((stream) => stream !== labels).map(({ name, eventId }) => `${name}: ${eventId}`);
    throw refuse(
      `no field of ${labels.contract} is the event id of a stream behind ${service.name}`,
      `give the labels a field with that name (${ids.join(", ")})`,
    );
  }
  const booleans = Object.keys(labels.fields).filter((field) => labels.fields[field].type === "boolean");
  if (booleans.length !== 1) {
    throw refuse(
      `${labels.contract} has ${booleans.length} boolean fields (${booleans.join(", ") || "none"}), a label is one`,
      "keep the outcome in one boolean field",
    );
  }
  const missing = Object.keys(service.request).filter((name) => !(name in events.fields));
  if (missing.length > 0) {
    throw new FreshetError(
      "request_field_unknown",
      `${events.contract} lacks the request field${missing.length > 1 ? "s" : ""} ${missing.join(", ")} of ${service.name}`,
      { repair: "give a spine with --spine that has them as columns" },
    );
  }
  return { labels, events, idField: events.eventId, valueField: booleans[0] };
}

export interface LabelSpineOptions {
  readonly plan: Plan;
  readonly service: Service;
  readonly join: LabelJoin;
  /** Relations as archive-view.ts describes them. */
  readonly labels: string;
  readonly events: string;
  /** Event times of the judged events, half-open. */
  readonly fromMs: number;
  readonly toMs: number;
  readonly asOf: AsOfRule;
}

const DELIVERY = "ROW(arrival_ms, shard, length(sequence), sequence, sub_sequence)";

/**
 * A row for each event with a label. Of several labels of one event the newest counts. Left out, by reason:
 * `label_unknown_event` (known before `toMs`, its event is not in the archive's range), `label_before_event`, `label_twice` (an older
 * label of an event that has a newer).
 * @throws FreshetError `labels_empty`
 */
export async function spineFromLabels(session: DuckSession, options: LabelSpineOptions): Promise<SpineTable> {
  const { plan, service, join, fromMs, toMs, asOf } = options;
  const id = `CAST(fields.${sqlName(join.idField)} AS VARCHAR)`;
  await session.run(`
CREATE OR REPLACE TEMP TABLE label_rows AS
SELECT identity, min(event_time_ms) AS label_ms, min_by(${id}, ${DELIVERY}) AS event_id,
  min_by(CAST(fields.${sqlName(join.valueField)} AS BOOLEAN), ${DELIVERY}) AS value
FROM ${options.labels} WHERE reason IS NULL AND identity IS NOT NULL GROUP BY identity`);
  await session.run(`
CREATE OR REPLACE TEMP TABLE judged_events AS
SELECT event_id, min_by(struct_pack(event_time_ms := event_time_ms, arrival_ms := arrival_ms, visible_ms := visible_ms, fields := fields), event_time_ms) AS e FROM (
  SELECT event_id, identity, min(event_time_ms) AS event_time_ms, min(arrival_ms) AS arrival_ms,
    min(list_min(list_transform(fates, lambda fate: fate.visible_ms))) AS visible_ms, min_by(fields, ${DELIVERY}) AS fields
  FROM ${options.events}
  WHERE reason IS NULL AND identity IS NOT NULL AND event_time_ms >= ${fromMs} AND event_time_ms < ${toMs}
    AND event_id IN (SELECT event_id FROM label_rows)
  GROUP BY event_id, identity
) AS delivered GROUP BY event_id`);
  const columns = [
    ...entitiesOf(plan, service).map(({ name, joinKey }) => {
      const known = joinKey in join.events.fields;
      return `${known ? `nullif(CAST(e.fields.${sqlName(joinKey)} AS VARCHAR), '')` : "CAST(NULL AS VARCHAR)"} AS ${keyColumn(name)}`;
    }),
    ...Object.entries(service.request).map(
      ([name, type]) => `CAST(e.fields.${sqlName(name)} AS ${REQUEST_TYPES[type]}) AS ${requestColumn(name)}`,
    ),
  ];
  await session.run(`
CREATE OR REPLACE TABLE spine AS
SELECT row_number() OVER (ORDER BY "as of", "event id") - 1 AS "row id", * FROM (
  SELECT CAST(e.${asOf === "arrival" ? "arrival_ms" : "event_time_ms"} AS BIGINT) AS "as of", event_id AS "event id",
    e.visible_ms AS "own visible", CAST(value AS INTEGER) AS "label"${columns.map((column) => `, ${column}`).join("")}
  FROM (
    SELECT event_id, max_by(value, ROW(label_ms, identity)) AS value FROM label_rows
    JOIN judged_events USING (event_id) WHERE label_ms >= e.event_time_ms GROUP BY event_id
  ) AS label JOIN judged_events USING (event_id)
)`);
  const [counts] = await session.rows(`
SELECT count(*) FILTER (e IS NULL AND label_ms >= ${fromMs} AND label_ms < ${toMs}) AS unknown_event,
  count(*) FILTER (label_ms < e.event_time_ms) AS before_event,
  count(*) FILTER (label_ms >= e.event_time_ms) - (SELECT count(*) FROM spine) AS twice, count(*) AS labels
FROM label_rows LEFT JOIN judged_events USING (event_id)`);
  const leftOut = {
    label_unknown_event: Number(counts["unknown_event"]),
    label_before_event: Number(counts["before_event"]),
    label_twice: Number(counts["twice"]),
  };
  const table = await measured(session, [], leftOut, true);
  if (table.rows === 0) {
    throw new FreshetError(
      "labels_empty",
      `no labelled event of ${join.events.name} lies between ${fromMs} and ${toMs}; ` +
        `${counts["labels"]} labels were read, ${leftOut.label_unknown_event} of unknown events, ${leftOut.label_before_event} before their event`,
      { repair: "widen --from and --to, or send labels to the stream" },
    );
  }
  return table;
}

export interface GivenSpineOptions {
  readonly plan: Plan;
  readonly service: Service;
  /** A query, with columns under names of the user's. */
  readonly query: string;
  readonly fromMs: number | null;
  readonly toMs: number | null;
}

const TIME_COLUMNS = ["as_of_ms", "as_of", "event_time_ms", "event_time", "timestamp"];

/** A file of the user's, by its ending. @throws FreshetError `spine_format` */
export function spineFile(path: string): string {
  if (/\.parquet$/i.test(path)) return `SELECT * FROM read_parquet(${sqlText(path)})`;
  if (/\.(csv|tsv)(\.gz)?$/i.test(path)) return `SELECT * FROM read_csv(${sqlText(path)}, header = true)`;
  throw new FreshetError("spine_format", `a spine is a .parquet or .csv file, given ${path}`, {
    field: "spine",
    repair: "convert it, or use --query",
  });
}

/**
 * Needs a column for the time (as_of_ms in epoch ms or a timestamp; the first of those above) and at least one join key of the
 * service. `label` and `event_id` are taken where they are.
 * @throws FreshetError `spine_unreadable`, `spine_time_missing`, `spine_key_missing`, `spine_time_invalid`, `spine_empty`
 */
export async function spineFromQuery(session: DuckSession, options: GivenSpineOptions): Promise<SpineTable> {
  const { plan, service, query } = options;
  try {
    await session.run(`CREATE OR REPLACE TABLE given AS ${query}`);
  } catch (cause) {
    const { message } = cause as Error;
    throw new FreshetError(
      "spine_unreadable",
      `the spine cannot be read: ${message.replace(/^DuckDB refused a query: /, "")}`,
      {
        field: "spine",
        repair: "check the path, or try the query in DuckDB",
        cause,
      },
    );
  }
  const columns = await session.rows<{ column_name: string; column_type: string }>("DESCRIBE given");
  const types = new Map(columns.map((column) => [column.column_name, column.column_type]));
  const found = [...types.keys()].join(", ");
  const time = TIME_COLUMNS.find((name) => types.has(name));
  if (time === undefined) {
    throw new FreshetError("spine_time_missing", `the spine has no time column; found ${found}`, {
      field: "spine",
      repair: `name the column one of ${TIME_COLUMNS.join(", ")}`,
    });
  }
  const entities = entitiesOf(plan, service);
  const keys = entities.filter(({ joinKey }) => types.has(joinKey));
  if (keys.length === 0) {
    throw new FreshetError("spine_key_missing", `the spine has no join key of ${service.name}; found ${found}`, {
      field: "spine",
      repair: `add one or more of ${entities.map(({ joinKey }) => joinKey).join(", ")}`,
    });
  }
  const requests = Object.entries(service.request);
  const meaning = new Set([time, ...keys.map(({ joinKey }) => joinKey), "event_id", "label"]);
  const outputs = new Set([
    "as_of_ms",
    ...service.features,
    ...service.onDemand,
    ...requests.map(([name]) => `request:${name}`),
  ]);
  const extras = [...types.keys()].filter((name) => !meaning.has(name));
  const taken = extras.filter((name) => outputs.has(name));
  if (taken.length > 0) {
    throw new FreshetError("spine_column_taken", `the spine's column ${taken[0]} has the name of an output`, {
      field: "spine",
      repair: "rename it",
    });
  }
  const whole = /^(U?BIGINT|U?INTEGER|HUGEINT)$/.test(types.get(time)!);
  if (!whole && !/^(TIMESTAMP|DATE)/.test(types.get(time)!)) {
    throw new FreshetError("spine_time_invalid", `the spine's ${time} is a ${types.get(time)}`, {
      field: "spine",
      repair: "give whole milliseconds since 1970, or a timestamp",
    });
  }
  const asOf = instantSql(sqlName(time), types.get(time)!);
  const selected = [
    `${asOf} AS "as of"`,
    `${types.has("event_id") ? "CAST(event_id AS VARCHAR)" : "CAST(NULL AS VARCHAR)"} AS "event id"`,
    'CAST(NULL AS BIGINT) AS "own visible"',
    `${types.has("label") ? "CAST(label AS DOUBLE)" : "CAST(NULL AS DOUBLE)"} AS "label"`,
    ...entities.map(({ name, joinKey }) =>
      types.has(joinKey)
        ? `nullif(CAST(${sqlName(joinKey)} AS VARCHAR), '') AS ${keyColumn(name)}`
        : `CAST(NULL AS VARCHAR) AS ${keyColumn(name)}`,
    ),
    ...requests.map(([name, type]) =>
      types.has(name)
        ? `CAST(${sqlName(name)} AS ${REQUEST_TYPES[type]}) AS ${requestColumn(name)}`
        : `CAST(NULL AS ${REQUEST_TYPES[type]}) AS ${requestColumn(name)}`,
    ),
    ...extras.map((name) => sqlName(name)),
  ];
  const [{ without }] = await session.rows(
    `SELECT count(*) FILTER (${asOf} IS NULL OR ${asOf} < 0) AS without FROM given`,
  );
  if (Number(without) > 0) {
    throw new FreshetError("spine_time_invalid", `${without} rows of the spine have no ${time}, or one before 1970`, {
      field: "spine",
      repair: "leave them out",
    });
  }
  const within = [
    ...(options.fromMs === null ? [] : [`${asOf} >= ${options.fromMs}`]),
    ...(options.toMs === null ? [] : [`${asOf} < ${options.toMs}`]),
  ];
  await session.run(`
CREATE OR REPLACE TABLE spine AS SELECT row_number() OVER (ORDER BY "as of", "event id") - 1 AS "row id", * FROM (
  SELECT ${selected.join(", ")} FROM given${within.length === 0 ? "" : ` WHERE ${within.join(" AND ")}`}
)`);
  const table = await measured(session, extras, {}, false);
  if (table.rows === 0) {
    throw new FreshetError("spine_empty", "no row of the spine lies in the range", { repair: "widen --from and --to" });
  }
  return table;
}

/** Epoch ms. With a zone it is an instant already; without one it is taken as UTC. */
function instantSql(column: string, type: string): string {
  if (!/^(TIMESTAMP|DATE)/.test(type)) return `CAST(${column} AS BIGINT)`;
  return `epoch_ms(${type === "TIMESTAMP WITH TIME ZONE" ? column : `CAST(${column} AS TIMESTAMP)`})`;
}

async function measured(
  session: DuckSession,
  extras: readonly string[],
  leftOut: Readonly<Record<string, number>>,
  hasEvents: boolean,
): Promise<SpineTable> {
  const [found] = await session.rows(`
SELECT count(*) AS rows, min("as of") AS from_ms, max("as of") AS to_ms, count(*) FILTER ("label" = 1) AS positives,
  count(*) FILTER ("own visible" <= "as of") AS own FROM spine`);
  return {
    relation: "spine",
    rows: Number(found["rows"]),
    fromMs: Number(found["from_ms"] ?? 0),
    toMs: Number(found["to_ms"] ?? 0),
    extras,
    leftOut,
    ownEventVisible: hasEvents ? Number(found["own"]) : null,
    positives: Number(found["positives"]),
  };
}
