/**
 * The bulk build's queries: events of an entity in, states of every tile below a seal out, those alone that a window still
 * needs. What SQL carries exactly it folds; `approxDistinct` is folded by core from the distinct hashes of each tile.
 */
import { isPointed } from "../../core/operators/accumulators.ts";
import type { Group, Slot } from "../../core/plan.ts";
import { frontier, pruneBound } from "../../core/tiles/window.ts";
import { BUCKETS } from "../valkey/layout.ts";
import { channelSql, fieldsOfChannels, hash32Sql } from "./channels.ts";
import { sqlName, sqlText } from "./duckdb.ts";

/** A level of the group with the tiles of it that are kept, or the lifetime (level null): event times from `fromMs` to `toMs`. */
export interface Extent {
  readonly level: number | null;
  readonly sizeMs: number;
  readonly fromMs: number;
  readonly toMs: number;
}

/** What a put at the seal holds. @param fromMs before this the archive has nothing: tiles that start earlier are left out */
export function extentsOf(group: Group, sealMs: number, fromMs: number): Extent[] {
  const extents: Extent[] = group.levels.map((level, index) => {
    const bound = Math.max(pruneBound(group, index, sealMs), Math.ceil(fromMs / level.sizeMs) * level.sizeMs);
    return { level: index, sizeMs: level.sizeMs, fromMs: Math.max(0, bound), toMs: frontier(level, sealMs) };
  });
  if (group.hasLifetime && fromMs <= 0) {
    const top = group.levels[group.absorbing];
    extents.push({ level: null, sizeMs: top.sizeMs, fromMs: 0, toMs: frontier(top, sealMs) });
  }
  return extents.filter((extent) => extent.fromMs < extent.toMs);
}

/** Event times from here on matter to a build: for its tiles, or for whether an entity is known at all. */
export function neededFromMs(group: Group, sealMs: number, fromMs: number): number {
  const known = group.expireMs === null ? 0 : sealMs - group.expireMs;
  return Math.max(fromMs, 0, Math.min(known, ...extentsOf(group, sealMs, fromMs).map((extent) => extent.fromMs)));
}

const EVENTS = "build_events";

/** The archive with no more of each event than a group's channels and its entity's join key: what is not read costs nothing. */
export function leanArchiveSql(group: Group, joinKey: string, archive: string): string {
  const names = [...new Set([joinKey, ...fieldsOfChannels(group.channels)])];
  const fields = names.map((field) => `${sqlName(field)} := fields.${sqlName(field)}`);
  return `SELECT * REPLACE (struct_pack(${fields.join(", ")}) AS fields) FROM ${archive}`;
}

/**
 * Adds the events of one tenant below the seal, with what they give to the channels and their buckets, to a table; the first
 * tenant's begin it.
 * @param events relation of entity-events.ts, of this tenant and the group's entity
 * @param buckets the only ones wanted, as SQL over `bucket`
 */
export function addEventsSql(
  group: Group,
  { tenant, events, first }: { readonly tenant: string; readonly events: string; readonly first: boolean },
  range: { readonly fromMs: number; readonly sealMs: number },
  buckets = "TRUE",
): string {
  // Names with a space are no contract's.
  const own = fieldsOfChannels(group.channels).map((field) => `e.fields.${sqlName(field)} AS ${sqlName(field)}`);
  const values = group.channels.map((channel, c) => `${channelSql(channel)} AS c${c}`);
  const hashed = group.channels.flatMap((_, c) =>
    group.slots.some(({ kind, channel }) => kind === "distinct" && channel === c)
      ? [`${hash32Sql(`c${c}`)} AS h${c}`]
      : [],
  );
  const pointed = group.slots.some(({ kind }) => isPointed(kind));
  // The last three digits of hash64, as `bucketOf` takes them.
  const text = `${sqlText(`${tenant}/${group.entity}/`)} || "entity id"`;
  const bucket = `CAST('0x' || substr(sha256(${text}), 14, 3) AS INTEGER) % ${BUCKETS}`;
  return `
${first ? `CREATE OR REPLACE TEMP TABLE ${EVENTS} AS` : `INSERT INTO ${EVENTS}`}
SELECT ${["*", ...hashed].join(", ")} FROM (
  SELECT ${bucket} AS bucket, ${sqlText(tenant)} AS tenant, "entity id" AS id, "event time" AS t${pointed ? ', "event identity" AS i' : ""},
    ${values.join(", ")}
  FROM (
    SELECT ${['e.id AS "entity id"', 'e.identity AS "event identity"', 'e.event_time_ms AS "event time"', ...own].join(", ")}
    FROM (${events}) AS e
    WHERE e.event_time_ms >= ${range.fromMs} AND e.event_time_ms < ${range.sealMs}
  )
) WHERE ${buckets}`.trim();
}

export const countEventsSql = (): string => `SELECT count(*) AS events FROM ${EVENTS}`;

/** Row of an entity that tells its newest event time, before its tiles. */
export const NEWEST = -1;
/** Row of an entity's lifetime, after its tiles. */
export const LIFETIME = 1_000;

/**
 * States by bucket, tenant, entity, level and tile, in this order. Columns: bucket, tenant, id, level (index into the group's levels, or one of
 * the two above), tile (index; `NEWEST`: the time), then `stateColumns` of every slot; null where a slot is not kept.
 */
export function statesSql(
  group: Group,
  extents: readonly Extent[],
  buckets: { readonly from: number; readonly to: number },
): string {
  const within = `bucket >= ${buckets.from} AND bucket < ${buckets.to}`;
  const nothing = group.slots.flatMap((slot, s) =>
    stateColumns(group, slot, s).map(({ name, type }) => `CAST(NULL AS ${type}) AS ${name}`),
  );
  const newest = `SELECT bucket, tenant, id, ${NEWEST} AS level, CAST(max(t) AS DOUBLE) AS tile, ${nothing.join(", ")} FROM ${EVENTS} WHERE ${within} GROUP BY bucket, tenant, id`;
  const tiles = extents.map(({ level, sizeMs, fromMs, toMs }) => {
    const kept = (slot: Slot) => (level === null ? slot.lifetime : slot.levels.includes(level));
    const states = group.slots.flatMap((slot, s) =>
      stateColumns(group, slot, s).map(
        ({ name, type, aggregate }) => `CAST(${kept(slot) ? aggregate : "NULL"} AS ${type}) AS ${name}`,
      ),
    );
    const tile = level === null ? "0" : `t // ${sizeMs}`;
    return `SELECT bucket, tenant, id, ${level ?? LIFETIME} AS level, CAST(${tile} AS DOUBLE) AS tile, ${states.join(", ")} FROM ${EVENTS} WHERE ${within} AND t >= ${fromMs} AND t < ${toMs} GROUP BY bucket, tenant, id${level === null ? "" : `, ${tile}`}`;
  });
  return `${[newest, ...tiles].join("\nUNION ALL\n")}\nORDER BY bucket, tenant, id, level, tile`;
}

export interface StateColumn {
  readonly name: string;
  readonly type: string;
  readonly aggregate: string;
}

/** A slot's columns: one or two doubles of a cell; time, identity and value of a first or last; hashes of a distinct. */
export function stateColumns(group: Group, { kind, channel, keep }: Slot, s: number): StateColumn[] {
  const c = `c${channel}`;
  const column = (suffix: string, aggregate: string, type = "DOUBLE") => ({ name: `s${s}${suffix}`, type, aggregate });
  switch (kind) {
    case "count":
      return [column("", `count(${c})`)];
    case "min":
    case "max":
      return [column("", `${kind}(${c})`)];
    case "sum":
      return wide(column, `sum(${c})`);
    case "squares":
      return wide(column, `sum(CAST(${c} AS HUGEINT) * ${c})`);
    case "distinct":
      return [column("", `list(DISTINCT h${channel}) FILTER (h${channel} IS NOT NULL)`, "DOUBLE[]")];
    case "tally": {
      const type = scalarType(group, channel);
      return [column("", `histogram(CAST(${c} AS ${type})) FILTER (${c} IS NOT NULL)`, `MAP(${type}, DOUBLE)`)];
    }
    case "buckets":
      return [column("", `histogram(CAST(${c} AS DOUBLE)) FILTER (${c} IS NOT NULL)`, "MAP(DOUBLE, DOUBLE)")];
    case "lastN":
      return [
        column(
          "",
          `max(struct_pack(t := t, i := i, v := ${c}), ${keep}) FILTER (${c} IS NOT NULL)`,
          `STRUCT(t DOUBLE, i VARCHAR, v ${scalarType(group, channel)})[]`,
        ),
      ];
    default: {
      const chosen = `${kind === "first" ? "min" : "max"}(struct_pack(t := t, i := i, v := ${c})) FILTER (${c} IS NOT NULL)`;
      return [
        column("t", `(${chosen}).t`),
        column("i", `(${chosen}).i`, "VARCHAR"),
        column("v", `(${chosen}).v`, scalarType(group, channel)),
      ];
    }
  }
}

/** value = hi * 2^40 + lo; a shift to the right rounds down. */
function wide(column: (suffix: string, aggregate: string) => StateColumn, sum: string): StateColumn[] {
  const total = `CAST(${sum} AS HUGEINT)`;
  return [column("h", `${total} >> 40`), column("l", `${total} - (${total} >> 40) * 1099511627776`)];
}

/** Numbers are read as doubles, which hold every value that an event could have brought. */
function scalarType(group: Group, channel: number): string {
  const { type } = group.channels[channel];
  return type === "string" ? "VARCHAR" : type === "boolean" ? "BOOLEAN" : "DOUBLE";
}
