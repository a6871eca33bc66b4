/**
 * The queries of a point-in-time join, in words that DuckDB and Trino (Athena) share: the spine's entities with a number
 * each, and the events of those entities with what they give to each channel, both in the order that `point-in-time.ts`
 * walks through once.
 *
 * The spine is a relation with `"row id"` BIGINT (0, 1, …), `"as of"` BIGINT (epoch ms), and for each entity `"key <entity>"` VARCHAR,
 * null where a row has none. Names with a space are no contract's.
 */
import { isPointed } from "../../core/operators/accumulators.ts";
import type { Channel, Group } from "../../core/plan.ts";
import { channelSql, fieldsOfChannels } from "./channels.ts";
import { sqlName } from "./duckdb.ts";

export const keyColumn = (entity: string): string => sqlName(`key ${entity}`);

/** Number of each of the spine's entities, from 1, the same in both queries. */
export const numbered = (entity: string, spine: string): string => `
SELECT id, row_number() OVER (ORDER BY id) AS entity_number
FROM (SELECT DISTINCT ${keyColumn(entity)} AS id FROM ${spine} WHERE ${keyColumn(entity)} IS NOT NULL) AS ids`;

/** Columns: entity's number, as of, row id; all DOUBLE. Ordered by the first two. */
export function spineSql(entity: string, spine: string): string {
  return `
SELECT CAST(n.entity_number AS DOUBLE) AS entity_number, CAST(s."as of" AS DOUBLE) AS as_of_ms, CAST(s."row id" AS DOUBLE) AS row_id
FROM ${spine} AS s JOIN (${numbered(entity, spine)}) AS n ON n.id = s.${keyColumn(entity)}
ORDER BY 1, 2, 3`.trim();
}

export interface EventsOfSpine {
  readonly group: Group;
  /** Indices into the group's channels, those that the features need. */
  readonly channels: readonly number[];
  readonly spine: string;
  /** Relation or subquery of entity-events.ts for the group's entity and stream. */
  readonly events: string;
  /** Event times that any row of the spine can see, half-open. */
  readonly fromMs: number;
  readonly toMs: number;
  /** The newest instant of the spine: later visible times are seen by none. */
  readonly visibleMs: number;
}

/**
 * Columns: entity's number, event time and visible time as DOUBLE, then the channels. Ordered by entity and event time;
 * events at equal times by identity, which only decides a first or last.
 */
export function eventsSql({ group, channels, spine, events, fromMs, toMs, visibleMs }: EventsOfSpine): string {
  const used = channels.map((index) => group.channels[index]);
  const fields = fieldsOfChannels(used).map((field) => `, e.fields.${sqlName(field)} AS ${sqlName(field)}`);
  const values = used.map((channel, i) => `, CAST(${channelSql(channel)} AS ${typeOf(channel)}) AS "channel ${i}"`);
  const pointed = group.slots.some(({ kind, channel }) => isPointed(kind) && channels.includes(channel));
  return `
SELECT CAST("entity number" AS DOUBLE), CAST("event time" AS DOUBLE), CAST("visible time" AS DOUBLE)${channels.map((_, i) => `, "channel ${i}"`).join("")}
FROM (
  SELECT "entity number", "event time", "visible time"${pointed ? ', "event identity"' : ""}${values.join("")}
  FROM (
    SELECT n.entity_number AS "entity number", e.event_time_ms AS "event time", e.visible_ms AS "visible time",
      e.identity AS "event identity"${fields.join("")}
    FROM ${relation(events)} AS e JOIN (${numbered(group.entity, spine)}) AS n ON n.id = e.id
    WHERE e.event_time_ms >= ${fromMs} AND e.event_time_ms < ${toMs} AND e.visible_ms <= ${visibleMs}
  ) AS seen
) AS given
ORDER BY "entity number", "event time"${pointed ? ', "event identity"' : ""}`.trim();
}

const relation = (text: string): string => (/\s/.test(text.trim()) ? `(${text})` : text);

function typeOf({ input, type }: Channel): string {
  if (input.field === null || type === "boolean") return "BOOLEAN";
  return type === "string" ? "VARCHAR" : "DOUBLE";
}
