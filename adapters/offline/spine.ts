/**
 * The rows of a training set before their features: who, at which instant, with which request and label. Here from the labels
 * stream, joined by id to the event that each label judges; in given-spine.ts from a file or query of the user's.
 *
 * Makes a table with `"row id"` (0, 1, … by instant), `"as of"`, `"key <entity>"`, `"request <field>"`, `"event id"`, `"own visible"`
 * and `"label"`; columns of the user's that mean none of these are kept under their own names.
 */
import { FreshetError } from "../../core/errors.ts";
import type { Entity, Plan, Service, Stream } from "../../core/plan.ts";
import { type DuckSession, sqlName } from "./duckdb.ts";
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
export const REQUEST_TYPES = { string: "VARCHAR", double: "DOUBLE", long: "BIGINT", boolean: "BOOLEAN" } as const;
export const entitiesOf = (plan: Plan, service: Service): Entity[] =>
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
  requireRequestFields(service, events);
  return { labels, events, idField: events.eventId, valueField: booleans[0] };
}

/** A score's request is taken from the event that it was made for. @throws FreshetError `request_field_unknown` */
export function requireRequestFields(service: Service, events: Stream): void {
  const missing = Object.keys(service.request).filter((name) => !(name in events.fields));
  if (missing.length === 0) return;
  throw new FreshetError(
    "request_field_unknown",
    `${events.contract} lacks the request field${missing.length > 1 ? "s" : ""} ${missing.join(", ")} of ${service.name}`,
    { repair: "give a spine with --spine that has them as columns" },
  );
}

/** End of a range that has none: the last instant that a date can hold. */
export const FOREVER = 8_640_000_000_000_000;

export interface JudgedRange {
  /** Event times of the judged events, half-open. */
  readonly fromMs: number;
  readonly toMs: number;
  readonly asOf: AsOfRule;
}

export interface LabelSpineOptions extends JudgedRange {
  readonly plan: Plan;
  readonly service: Service;
  readonly join: LabelJoin;
  /** Relations as archive-view.ts describes them. */
  readonly labels: string;
  readonly events: string;
}

/** @param fromMs null where it is not bounded. @throws FreshetError `range_empty` */
export function requireRange(fromMs: number | null, toMs: number | null): void {
  if (fromMs === null || toMs === null || fromMs < toMs) return;
  const [from, to] = [fromMs, toMs].map((ms) => new Date(ms).toISOString());
  throw new FreshetError("range_empty", `the range from ${from} to ${to} is empty`, {
    field: "to",
    repair: "give --to later than --from",
  });
}

/** A range in words, after what lies in it. One that begins at 0, or ends with time itself, was not bounded there. */
export function rangeInWords({ fromMs, toMs }: Pick<JudgedRange, "fromMs" | "toMs">): string {
  const [from, to] = [fromMs, toMs].map((ms) => new Date(ms).toISOString());
  if (toMs >= FOREVER) return fromMs <= 0 ? "is in the archive" : `lies at ${from} or later`;
  return fromMs <= 0 ? `lies before ${to}` : `lies between ${from} and ${to}`;
}

const DELIVERY = "ROW(arrival_ms, shard, length(sequence), sequence, sub_sequence)";

/** Each event once, as it was first delivered: event_id, identity, event_time_ms, arrival_ms, visible_ms, fields. */
export const deliveredOnce = (relation: string, within: string): string => `
  SELECT event_id, identity, min(event_time_ms) AS event_time_ms, min(arrival_ms) AS arrival_ms,
    min(list_min(list_transform(fates, lambda fate: fate.visible_ms))) AS visible_ms, min_by(fields, ${DELIVERY}) AS fields
  FROM ${relation} WHERE reason IS NULL AND identity IS NOT NULL AND ${within}
  GROUP BY event_id, identity`;

/** A spine's keys and request fields, out of the judged event `e`; begins with a comma. */
export function spineColumns(plan: Plan, service: Service, events: Stream): string {
  const columns = [
    ...entitiesOf(plan, service).map(({ name, joinKey }) => {
      const known = joinKey in events.fields;
      return `${known ? `nullif(CAST(e.fields.${sqlName(joinKey)} AS VARCHAR), '')` : "CAST(NULL AS VARCHAR)"} AS ${keyColumn(name)}`;
    }),
    ...Object.entries(service.request).map(
      ([name, type]) => `CAST(e.fields.${sqlName(name)} AS ${REQUEST_TYPES[type]}) AS ${requestColumn(name)}`,
    ),
  ];
  return columns.map((column) => `, ${column}`).join("");
}

/**
 * A row for each event with a label. Of several labels of one event the newest counts. Left out, by reason:
 * `label_unknown_event` (known within the range, its event is not among those of `events`), `label_before_event`, `label_twice` (an older
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
  ${deliveredOnce(options.events, `event_time_ms >= ${fromMs} AND event_time_ms < ${toMs} AND event_id IN (SELECT event_id FROM label_rows)`)}
) AS delivered GROUP BY event_id`);
  await session.run(`
CREATE OR REPLACE TABLE spine AS
SELECT row_number() OVER (ORDER BY "as of", "event id") - 1 AS "row id", * FROM (
  SELECT CAST(e.${asOf === "arrival" ? "arrival_ms" : "event_time_ms"} AS BIGINT) AS "as of", event_id AS "event id",
    e.visible_ms AS "own visible", CAST(value AS INTEGER) AS "label"${spineColumns(plan, service, join.events)}
  FROM (
    SELECT event_id, max_by(value, ROW(label_ms, identity)) AS value FROM label_rows
    JOIN judged_events USING (event_id) WHERE label_ms >= e.event_time_ms GROUP BY event_id
  ) AS label JOIN judged_events USING (event_id)
)`);
  const [counts] = await session.rows(`
SELECT count(*) FILTER (known IS NULL AND label_ms >= ${fromMs} AND label_ms < ${toMs}) AS unknown_event,
  count(*) FILTER (label_ms < e.event_time_ms) AS before_event,
  count(*) FILTER (label_ms >= e.event_time_ms) - (SELECT count(*) FROM spine) AS twice, count(*) AS labels
FROM label_rows LEFT JOIN judged_events USING (event_id)
LEFT JOIN (SELECT DISTINCT event_id, TRUE AS known FROM ${options.events} WHERE reason IS NULL) AS events USING (event_id)`);
  const leftOut = {
    label_unknown_event: Number(counts["unknown_event"]),
    label_before_event: Number(counts["before_event"]),
    label_twice: Number(counts["twice"]),
  };
  const table = await measured(session, [], leftOut, true);
  if (table.rows === 0) {
    throw new FreshetError(
      "labels_empty",
      `no labelled event of ${join.events.name} ${rangeInWords(options)}; ` +
        `${counts["labels"]} labels were read, ${leftOut.label_unknown_event} of unknown events, ${leftOut.label_before_event} before their event`,
      { repair: "widen --from and --to, or send labels to the stream" },
    );
  }
  return table;
}

/** Counts of the table `spine`, once it is made. */
export async function measured(
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
