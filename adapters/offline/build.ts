/** A bulk build of one group: from events of its entity to what a put writes for each of them, bucket by bucket. */
import { isObject, type State } from "../../core/operators/accumulators.ts";
import { type Buckets, bucketOfValue } from "../../core/operators/buckets.ts";
import { combineDistinct } from "../../core/operators/distinct.ts";
import { TALLY_LIMIT, type Tally } from "../../core/operators/tally.ts";
import { OVERFLOWN } from "../../core/operators/wide.ts";
import type { Group, Scalar, Slot } from "../../core/plan.ts";
import { ABSORBED_FIELD, absorbedObjectField, BUCKETS, objectField, tileField } from "../valkey/layout.ts";
import { cellSlots, encodeObject, encodeTile } from "../valkey/put.ts";
import type { DuckSession } from "./duckdb.ts";
import {
  addEventsSql,
  countEventsSql,
  extentsOf,
  LIFETIME,
  NEWEST,
  neededFromMs,
  stateColumns,
  statesSql,
} from "./tile-states.ts";

/** What one entity has below the seal. */
export interface BuiltEntity {
  readonly bucket: number;
  readonly tenant: string;
  readonly id: string;
  readonly newestMs: number;
  /** Names and values of its tiles and objects in turn, as `encodePut` takes them. */
  readonly fields: readonly Buffer[];
}

/** A tenant's events, or a part of them: a relation or query of entity-events.ts, of the group's entity. */
export interface BuildSource {
  readonly tenant: string;
  readonly events: string;
}

export interface BuildOptions {
  readonly group: Group;
  readonly sources: readonly BuildSource[];
  /** Further ones, each read before the next is asked for. @default none */
  readonly parts?: AsyncIterable<BuildSource>;
  readonly sealMs: number;
  /** The archive has nothing before. @default 0: it is whole */
  readonly fromMs?: number;
  /** Buckets that are wanted, ascending. @default all */
  readonly buckets?: readonly number[];
}

/** Events of one query's buckets: bounds the memory of aggregates that DuckDB cannot spill, as lists of distinct hashes. */
const EVENTS_PER_SLICE = 4_000_000;

/**
 * Entities by bucket, ascending, then by tenant; of a bucket all are yielded before those of the next. Replaces the session's table of the
 * build before.
 * @param onEvents told how many events it works on, before the first entity
 */
export async function* buildEntities(
  session: DuckSession,
  { group, sources, parts, sealMs, fromMs = 0, buckets }: BuildOptions,
  onEvents?: (count: number) => void,
): AsyncGenerator<BuiltEntity> {
  const range = { fromMs: neededFromMs(group, sealMs, fromMs), sealMs };
  const wanted = buckets === undefined || buckets.length === BUCKETS ? "TRUE" : `bucket IN (${buckets.join(", ")})`;
  if (buckets?.length === 0) return;
  let first = true;
  const add = async (source: BuildSource) => {
    await session.run(addEventsSql(group, { ...source, first }, range, wanted));
    first = false;
  };
  for (const source of sources) await add(source);
  for await (const source of parts ?? []) await add(source);
  if (first) return;
  const [{ events: total }] = await session.rows(countEventsSql());
  onEvents?.(Number(total));
  const extents = extentsOf(group, sealMs, fromMs);
  const assemble = assembler(group);
  const slices = Math.max(1, Math.ceil(Number(total) / EVENTS_PER_SLICE));
  for (let slice = 0; slice < slices; slice++) {
    const part = { from: Math.floor((slice * BUCKETS) / slices), to: Math.floor(((slice + 1) * BUCKETS) / slices) };
    let entity: { bucket: number; tenant: string; id: string; newestMs: number; fields: Buffer[] } | null = null;
    for await (const { rows, columns } of session.columns(statesSql(group, extents, part))) {
      const [bucket, tenant, id, level, tile] = columns;
      for (let row = 0; row < rows; row++) {
        if (level[row] === NEWEST) {
          if (entity !== null) yield entity;
          entity = { bucket: bucket[row], tenant: tenant[row], id: id[row], newestMs: tile[row], fields: [] };
        } else assemble(level[row] === LIFETIME ? null : level[row], tile[row], columns, row, entity!.fields);
      }
    }
    if (entity !== null) yield entity;
  }
}

type Columns = readonly (readonly any[])[];

/** Adds the fields of one row of `statesSql`. */
function assembler(group: Group) {
  // Bucket, tenant, id, level and tile come first.
  const offsets: number[] = [];
  let width = 5;
  group.slots.forEach((slot, s) => {
    offsets.push(width);
    width += stateColumns(group, slot, s).length;
  });
  const layouts = [null, ...group.levels.keys()].map((level) => {
    const at = (slot: Slot) => ({ slot, column: offsets[group.slots.indexOf(slot)] });
    const cells = cellSlots(group, level);
    const objects = group.slots.filter((slot) => isObject(slot.kind) && isKept(slot, level));
    return { cells, cellsAt: cells.map(at), objects: objects.map(at) };
  });
  return (level: number | null, tile: number, columns: Columns, row: number, into: Buffer[]): void => {
    const { cells, cellsAt, objects } = layouts[level === null ? 0 : level + 1];
    if (cells.length > 0) {
      const states = cellsAt.map(({ slot, column }) => stateOf(slot, columns, column, row));
      into.push(level === null ? ABSORBED_FIELD : tileField(group.levels[level].id, tile), encodeTile(cells, states));
    }
    for (const { slot, column } of objects) {
      const state = stateOf(slot, columns, column, row);
      if (state === undefined) continue;
      const field = level === null ? absorbedObjectField(slot.id) : objectField(slot.id, group.levels[level].id, tile);
      into.push(field, encodeObject(slot.kind, state));
    }
  };
}

const isKept = (slot: Slot, level: number | null): boolean =>
  level === null ? slot.lifetime : slot.levels.includes(level);

/** Undefined for an empty state. */
function stateOf({ kind }: Slot, columns: Columns, at: number, row: number): State | undefined {
  const first = columns[at][row];
  if (first === null) return undefined;
  switch (kind) {
    case "sum":
      return { hi: first, lo: columns[at + 1][row] };
    case "squares":
      return first >= OVERFLOWN.hi ? OVERFLOWN : { hi: first, lo: columns[at + 1][row] };
    case "distinct":
      return combineDistinct(
        (first.items as number[]).sort((a, b) => a - b),
        [],
      );
    case "tally":
      return tallyOf(first.entries);
    case "buckets":
      return bucketsOf(first.entries);
    case "lastN":
      return first.items.map(({ entries: { t, i, v } }: { entries: { t: number; i: string; v: Scalar } }) => ({
        timeMs: t,
        identity: i,
        value: v,
      }));
    case "first":
    case "last":
      return { timeMs: first, identity: columns[at + 1][row], value: columns[at + 2][row] };
    default:
      return first;
  }
}

interface Counted<T> {
  readonly key: T;
  readonly value: number;
}

function tallyOf(counts: readonly Counted<Scalar>[]): Tally | undefined {
  if (counts.length > TALLY_LIMIT) return "overflow";
  return counts.length === 0 ? undefined : new Map(counts.map(({ key, value }) => [key, value]));
}

function bucketsOf(counts: readonly Counted<number>[]): Buckets | undefined {
  const found = new Map<number, number>();
  for (const { key, value } of counts) {
    const bucket = bucketOfValue(key);
    found.set(bucket, (found.get(bucket) ?? 0) + value);
  }
  return found.size === 0 ? undefined : [...found].sort(([a], [b]) => a - b).flat();
}
