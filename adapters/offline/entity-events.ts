/**
 * The one place where archive rows become events of an entity, each once: bulk builds, point-in-time joins, repair and
 * verification read this. One row for each identity and entity id:
 *
 *   id VARCHAR, identity VARCHAR, event_time_ms BIGINT, visible_ms BIGINT, fields STRUCT
 *
 * - Of all deliveries the smallest visible time counts and its payload wins. On a tie the delivery that was `applied` or
 *   `repaired` precedes a `duplicate` (which carries the first apply's time), and then the earlier arrival.
 * - What is not visible is not there: late events without a repair, quarantined records.
 * - A row names every entity of its plan that the payload has a key for. What it doesn't name was added to the plan later, and
 *   takes the row's smallest visible time and its id from the payload's join key; from its arrival on if the row names none at all.
 *   Each row speaks for itself, so what a delivery brings later, a late fate for the new entity too, takes nothing away.
 */
import type { Plan } from "../../core/plan.ts";
import { sqlName, sqlText } from "./duckdb.ts";

/** Where DuckDB and Trino (Athena) have no word in common. */
interface Dialect {
  /** FROM item that pairs each row of `a` with its fates as `f.entity, f.id, f.fate, f.visible_ms`. */
  readonly fates: (archive: string) => string;
  readonly noFate: string;
  readonly noFateOf: (entity: string) => string;
}

const DIALECTS = {
  duckdb: {
    // A lateral join would match each row with itself first, at twenty times the cost.
    fates: (archive) => `(SELECT *, UNNEST(fates) AS f FROM ${archive}) AS a`,
    noFate: "len(a.fates) = 0",
    noFateOf: (entity) => `len(list_filter(a.fates, lambda each: each.entity = ${sqlText(entity)})) = 0`,
  },
  trino: {
    fates: (archive) => `${archive} AS a CROSS JOIN UNNEST(a.fates) AS f(entity, id, fate, visible_ms)`,
    noFate: "cardinality(a.fates) = 0",
    noFateOf: (entity) => `none_match(a.fates, each -> each.entity = ${sqlText(entity)})`,
  },
} as const satisfies Record<string, Dialect>;

export interface EntityEventsOptions {
  /** Name of a relation as `archive-view.ts` describes it. @default archive */
  readonly archive?: string;
  /** @default duckdb */
  readonly dialect?: keyof typeof DIALECTS;
  /**
   * False leaves out the search for events older than the entity, which reads the archive twice more. Only right when
   * `olderThanEntitySql` counts none. @default true
   */
  readonly older?: boolean;
}

const VISIBLE = "f.visible_ms IS NOT NULL AND f.fate IN ('applied', 'duplicate', 'repaired')";
const RANK = "CASE WHEN f.fate = 'duplicate' THEN 1 ELSE 0 END";
/** Text of digits in the order of its number: the shorter is smaller. */
const DELIVERY = "a.arrival_ms, a.shard, length(a.sequence), a.sequence, a.sub_sequence";
const EVENT = "a.identity, a.event_time_ms, a.fields, a.arrival_ms, a.shard, a.sequence, a.sub_sequence";

/** @returns one SELECT, without an order. @throws nothing: entity and stream are of the plan */
export function entityEventsSql(plan: Plan, entity: string, options: EntityEventsOptions = {}): string {
  const { archive = "archive", dialect = "duckdb", older = true } = options;
  const words: Dialect = DIALECTS[dialect];
  const named = `${words.fates(archive)} WHERE a.reason IS NULL AND f.entity = ${sqlText(entity)} AND ${VISIBLE}`;
  if (!older) {
    return `
SELECT f.id AS id, a.identity AS identity, min(a.event_time_ms) AS event_time_ms, min(f.visible_ms) AS visible_ms,
  min_by(a.fields, ROW(f.visible_ms, ${RANK}, ${DELIVERY})) AS fields
FROM ${named}
GROUP BY a.identity, f.id`.trim();
  }
  const { joinKey } = plan.entities.find(({ name }) => name === entity)!;
  const key = `a.fields.${sqlName(joinKey)}`;
  const id = `CAST(${key} AS VARCHAR)`;
  const accepted = `a.reason IS NULL AND a.identity IS NOT NULL AND ${key} IS NOT NULL AND ${id} <> ''`;
  return `
SELECT a.id AS id, a.identity AS identity, min(a.event_time_ms) AS event_time_ms, min(a.visible_ms) AS visible_ms,
  min_by(a.fields, ROW(a.visible_ms, a.rank, ${DELIVERY})) AS fields
FROM (
  SELECT ${EVENT}, f.id AS id, ${RANK} AS rank, f.visible_ms AS visible_ms FROM ${named}
  UNION ALL
  SELECT ${EVENT}, ${id} AS id, ${RANK} AS rank, f.visible_ms AS visible_ms FROM ${words.fates(archive)}
  WHERE ${accepted} AND ${VISIBLE} AND ${words.noFateOf(entity)}
  UNION ALL
  SELECT ${EVENT}, ${id} AS id, 0 AS rank, a.arrival_ms AS visible_ms FROM ${archive} AS a
  WHERE ${accepted} AND ${words.noFate}
) AS a
GROUP BY a.identity, a.id`.trim();
}

/**
 * The same of a whole stream: one row for each visible event, whatever entities it touched, with the smallest visible time of any. An event
 * that touched none, as a label's, became visible to none: it counts from its arrival. Columns as above without `id`.
 */
export function streamEventsSql(options: Omit<EntityEventsOptions, "older"> = {}): string {
  const { archive = "archive", dialect = "duckdb" } = options;
  const words: Dialect = DIALECTS[dialect];
  return `
SELECT a.identity AS identity, min(a.event_time_ms) AS event_time_ms, min(a.visible_ms) AS visible_ms,
  min_by(a.fields, ROW(a.visible_ms, a.rank, ${DELIVERY})) AS fields
FROM (
  SELECT ${EVENT}, ${RANK} AS rank, f.visible_ms AS visible_ms FROM ${words.fates(archive)}
  WHERE a.reason IS NULL AND a.identity IS NOT NULL AND ${VISIBLE}
  UNION ALL
  SELECT ${EVENT}, 0 AS rank, a.arrival_ms AS visible_ms FROM ${archive} AS a
  WHERE a.reason IS NULL AND a.identity IS NOT NULL AND ${words.noFate}
) AS a
GROUP BY a.identity`.trim();
}

/** Whether any row lacks a fate for the entity, as one row with the column `rows`: a scan of one column. */
export function olderThanEntitySql(entity: string, options: Omit<EntityEventsOptions, "older"> = {}): string {
  const { archive = "archive", dialect = "duckdb" } = options;
  const words: Dialect = DIALECTS[dialect];
  return `SELECT count(*) AS rows FROM ${archive} AS a WHERE a.reason IS NULL AND ${words.noFateOf(entity)}`;
}
