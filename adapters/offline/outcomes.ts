/**
 * Outcomes that are events themselves: an event of the stream is positive when another names it within the delay, as a click names
 * the showing that it followed, and negative when none has by then. The rows of a training set from them, and what became of
 * events that were scored.
 */
import type { FeatureServiceDefinition, OutcomeDefinition } from "../../core/definition.ts";
import { parseDuration } from "../../core/duration.ts";
import { FreshetError } from "../../core/errors.ts";
import type { Plan, Service, Stream } from "../../core/plan.ts";
import { literalsOf, whereToSql } from "../../core/where.ts";
import { type DuckSession, sqlName } from "./duckdb.ts";
import {
  deliveredOnce,
  type JudgedRange,
  measured,
  rangeInWords,
  requireRequestFields,
  type SpineTable,
  spineColumns,
} from "./spine.ts";

export interface Outcomes extends OutcomeDefinition {
  readonly stream: Stream;
  readonly delayMs: number;
}

/** Null where the stream's events are labels themselves. @param stream by name, the service's own or another */
export function declaredOutcomes(
  plan: Plan,
  { labels }: Pick<FeatureServiceDefinition, "labels">,
  stream: string,
): Outcomes | null {
  if (labels === null || labels.outcome === null || labels.stream.name !== stream) return null;
  const found = plan.streams.find(({ name }) => name === stream)!;
  return { ...labels.outcome, stream: found, delayMs: parseDuration(labels.delay) };
}

export interface OutcomeSpineOptions extends JudgedRange {
  readonly plan: Plan;
  readonly service: Service;
  readonly outcomes: Outcomes;
  /** Relation as archive-view.ts describes it: the range and, beyond its end, the delay. */
  readonly events: string;
}

/**
 * A row for each judged event whose delay has passed in the archive. Those whose outcome is still open are left out, clicked or
 * not, as `label_pending`: of these the quick would be known alone.
 * @throws FreshetError `labels_empty`, `request_field_unknown`
 */
export async function spineFromOutcomes(session: DuckSession, options: OutcomeSpineOptions): Promise<SpineTable> {
  const { plan, service, outcomes, asOf } = options;
  requireRequestFields(service, outcomes.stream);
  const { judged, pending } = await judge(session, options.events, outcomes, options);
  await session.run(`
CREATE OR REPLACE TABLE spine AS
SELECT row_number() OVER (ORDER BY "as of", "event id") - 1 AS "row id", * FROM (
  SELECT CAST(e.${asOf === "arrival" ? "arrival_ms" : "event_time_ms"} AS BIGINT) AS "as of", event_id AS "event id",
    e.visible_ms AS "own visible", CAST(value AS INTEGER) AS "label"${spineColumns(plan, service, outcomes.stream)}
  FROM outcomes WHERE NOT pending
)`);
  const table = await measured(session, [], { label_pending: pending }, true);
  if (table.rows === 0) {
    throw new FreshetError(
      "labels_empty",
      `no judged event of ${outcomes.stream.name} ${rangeInWords(options)}; ${judged} were read, ${pending} of them with an open outcome`,
      { repair: "widen --from and --to, or send events to the stream" },
    );
  }
  return table;
}

/** What became of each judged event; one whose outcome is open is not in it. @param relation the stream, whole */
export async function outcomesByEvent(
  session: DuckSession,
  relation: string,
  outcomes: Outcomes,
): Promise<Map<string, boolean>> {
  await judge(session, relation, outcomes, { fromMs: 0, toMs: Number.MAX_SAFE_INTEGER });
  const rows = await session.rows("SELECT event_id, value FROM outcomes WHERE NOT pending AND event_id IS NOT NULL");
  return new Map(rows.map(({ event_id, value }) => [event_id as string, value as boolean]));
}

/** Makes the table `outcomes`: event_id, e (the event), value, pending. */
async function judge(
  session: DuckSession,
  relation: string,
  { of, namedBy, delayMs }: Outcomes,
  { fromMs, toMs }: Pick<JudgedRange, "fromMs" | "toMs">,
): Promise<{ judged: number; pending: number }> {
  const told = [...new Set(literalsOf(of.where).map(({ field }) => field))];
  // A name with a space is no contract's.
  const columns = told.map((field) => `fields.${sqlName(field)} AS ${sqlName(field)}`);
  await session.run(`
CREATE OR REPLACE TEMP TABLE outcomes AS
WITH delivered AS (${deliveredOnce(relation, `event_time_ms >= ${fromMs} AND event_time_ms < ${toMs}`)}),
judged AS (
  SELECT event_id, min_by("the event", "the event".event_time_ms) AS e FROM (
    SELECT event_id, struct_pack(event_time_ms := event_time_ms, arrival_ms := arrival_ms, visible_ms := visible_ms, fields := fields) AS "the event"
      ${columns.map((column) => `, ${column}`).join("")}
    FROM delivered
  ) AS told WHERE ${whereToSql(of.where)} GROUP BY event_id
),
naming AS (
  SELECT CAST(fields.${sqlName(namedBy)} AS VARCHAR) AS event_id, event_time_ms AS named_ms FROM ${relation}
  WHERE reason IS NULL AND identity IS NOT NULL AND fields.${sqlName(namedBy)} IS NOT NULL
)
SELECT event_id, any_value(e) AS e,
  coalesce(bool_or(named_ms >= e.event_time_ms AND named_ms < e.event_time_ms + ${delayMs}), FALSE) AS value,
  any_value(e.event_time_ms) + ${delayMs} > (SELECT max(event_time_ms) FROM ${relation} WHERE reason IS NULL) AS pending
FROM judged LEFT JOIN naming USING (event_id) GROUP BY event_id`);
  const [counts] = await session.rows("SELECT count(*) AS judged, count(*) FILTER (pending) AS pending FROM outcomes");
  return { judged: Number(counts["judged"]), pending: Number(counts["pending"]) };
}
