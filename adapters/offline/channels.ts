/**
 * What one event gives to each channel of a group, as SQL: the same as `compileGroups` in core/event.ts, to the bit. NULL
 * where the event gives nothing.
 */
import { SCALED_LIMIT } from "../../core/event.ts";
import type { Channel } from "../../core/plan.ts";
import { literalsOf, whereToSql } from "../../core/where.ts";
import { sqlName } from "./duckdb.ts";

/** Contract fields that channels read: their columns must be there under their own names. */
export function fieldsOfChannels(channels: readonly Channel[]): string[] {
  const names = channels.flatMap(({ input }) => [
    ...(input.field === null ? [] : [input.field]),
    ...(input.where === null ? [] : literalsOf(input.where).map(({ field }) => field)),
  ]);
  return [...new Set(names)];
}

/**
 * The value: minor units as BIGINT where the channel has a scale, TRUE where it only says that an event happened, else as the
 * field is, with -0 as 0. A value too large for the scale, which no online apply accepts, gives nothing: its event is of a
 * time before the channel.
 */
export function channelSql({ input, type }: Channel): string {
  const value = valueSql(input.field, input.scale, type);
  return input.where === null ? value : `CASE WHEN ${whereToSql(input.where)} THEN ${value} END`;
}

/** The first 32 bits of the hash of a channel's value, as `approxDistinct` counts it. @param value SQL of the channel's value */
export const hash32Sql = (value: string): string =>
  `CAST('0x' || substr(sha256(CAST(${value} AS VARCHAR)), 1, 8) AS UINTEGER)`;

function valueSql(field: string | null, scale: number | null, type: Channel["type"]): string {
  if (field === null) return "TRUE";
  const column = sqlName(field);
  if (scale !== null) {
    // As `toMinorUnits`: half away from zero, in doubles.
    const minor = `floor(abs(CAST(${column} AS DOUBLE)) * CAST(${10 ** scale} AS DOUBLE) + CAST(0.5 AS DOUBLE))`;
    const signed = `CASE WHEN ${column} < 0 THEN -CAST(${minor} AS BIGINT) ELSE CAST(${minor} AS BIGINT) END`;
    return `CASE WHEN ${minor} < ${SCALED_LIMIT} THEN ${signed} END`;
  }
  return type === "double" ? `CASE WHEN ${column} = 0 THEN CAST(0 AS DOUBLE) ELSE ${column} END` : column;
}
