/**
 * The point-in-time join: what the online store would have answered for each row of a spine at its instant, seeing what was
 * visible then. SQL selects, deduplicates, joins and orders; `HistoryReader` of core computes, with the accumulators and
 * operators of the online read. Why not SQL alone: docs/decisions/0025-point-in-time-in-core.md.
 */

import type { FeatureValue, Group, Plan, Scalar, Status, Value } from "../../core/plan.ts";
import { type FeatureOfView, HistoryReader } from "../../core/tiles/history.ts";
import { floorTo, windowInterval } from "../../core/tiles/window.ts";
import { hash64 } from "../hash.ts";
import { eventsSql, spineSql } from "./point-in-time-sql.ts";

/** Where SQL runs: `DuckSession`, or Athena. Rows come by columns, in the query's order. */
export interface ColumnSource {
  columns(sql: string): AsyncIterable<{ readonly rows: number; readonly columns: readonly (readonly any[])[] }>;
}

export interface Spine {
  /** Name of the relation, as point-in-time-sql.ts describes it. */
  readonly relation: string;
  readonly rows: number;
  readonly fromMs: number;
  /** The newest instant, inclusive. */
  readonly toMs: number;
}

/** Index of a row's status in `FeatureColumn.statuses`. */
const STATUSES: readonly Status[] = ["NOT_FOUND", "PRESENT", "NULL_VALUE", "OUTSIDE_MAX_AGE"];

/** One feature over all rows of the spine. */
export interface FeatureColumn {
  readonly name: string;
  /** NaN for null where the feature is a number. */
  readonly values: Float64Array | Value[];
  readonly statuses: Uint8Array;
  /** Of the view: its features share it. NaN for none. */
  readonly eventTimesMs: Float64Array;
}

export function featureAt({ values, statuses, eventTimesMs }: FeatureColumn, row: number): FeatureValue {
  const value = values[row];
  const status = STATUSES[statuses[row]];
  const known = status !== "NOT_FOUND";
  return { value: Number.isNaN(value) ? null : value, status, eventTimeMs: known ? eventTimesMs[row] : null };
}

export interface JoinOptions {
  readonly plan: Plan;
  /** Full names, in the order of the answer. */
  readonly features: readonly string[];
  readonly spine: Spine;
  /** SQL of entity-events.ts for an entity's events of a stream within a range of event time. */
  readonly events: (
    group: Group,
    range: { readonly fromMs: number; readonly toMs: number },
  ) => string | Promise<string>;
  /** @param share of the work, 0 to 1 */
  readonly onProgress?: (share: number) => void;
}

/** @returns the columns of `features`. @throws FreshetError of the source */
export async function joinPointInTime(source: ColumnSource, options: JoinOptions): Promise<FeatureColumn[]> {
  const { plan, features, spine } = options;
  const found = new Map<string, FeatureColumn>();
  const groups = groupsOf(plan, features);
  let done = 0;
  for (const [group, members] of groups) {
    const columns = await joinGroup(source, group, members, options, (share) =>
      options.onProgress?.((done + share) / groups.size),
    );
    columns.forEach((column) => {
      found.set(column.name, column);
    });
    options.onProgress?.(++done / groups.size);
  }
  if (spine.rows > 0 && found.size < new Set(features).size) throw new Error("a feature is in no view of the plan");
  return features.map((name) => found.get(name)!);
}

export function groupsOf(plan: Plan, names: readonly string[]): Map<Group, FeatureOfView[]> {
  const groups = new Map<Group, FeatureOfView[]>();
  for (const view of plan.views) {
    const wanted = view.features.filter(({ name }) => names.includes(name));
    if (wanted.length === 0) continue;
    const group = plan.groups[view.group];
    groups.set(group, [...(groups.get(group) ?? []), ...wanted.map((feature) => ({ view, feature }))]);
  }
  return groups;
}

/** Event times that reads of these features between two instants can depend on, half-open. */
export function seenRange(
  group: Group,
  features: readonly FeatureOfView[],
  spine: { readonly fromMs: number; readonly toMs: number },
): { fromMs: number; toMs: number } {
  const starts = features.map(({ view, feature: { window } }) => {
    if (view.reachMs === null || window.kind === "lifetime") return 0;
    return Math.min(spine.fromMs - view.reachMs, windowInterval(window, group.baseMs, spine.fromMs).startMs);
  });
  return { fromMs: Math.max(0, Math.min(...starts)), toMs: floorTo(spine.toMs, group.baseMs) + group.baseMs };
}

async function joinGroup(
  source: ColumnSource,
  group: Group,
  members: readonly FeatureOfView[],
  { spine, events }: JoinOptions,
  onProgress: (share: number) => void,
): Promise<FeatureColumn[]> {
  const rows = await readSpine(source, group.entity, spine);
  const eventTimes = new Map<string, Float64Array>();
  const columns = members.map(({ view, feature }): FeatureColumn => {
    const eventTimesMs = eventTimes.get(view.name) ?? new Float64Array(spine.rows).fill(Number.NaN);
    eventTimes.set(view.name, eventTimesMs);
    const numeric = feature.dtype === "int64" || feature.dtype === "double";
    const values = numeric ? new Float64Array(spine.rows).fill(Number.NaN) : new Array(spine.rows).fill(null);
    return { name: feature.name, values, statuses: new Uint8Array(spine.rows), eventTimesMs };
  });
  if (rows.count === 0) return columns;

  const channels = [...new Set(members.flatMap(({ feature }) => feature.slots.map((s) => group.slots[s].channel)))];
  const range = seenRange(group, members, spine);
  const sql = eventsSql({
    group,
    channels,
    spine: spine.relation,
    events: await events(group, range),
    ...range,
    visibleMs: spine.toMs,
  });
  const reader = new HistoryReader(group, members, hash64);
  const past = new Past(channels, group.channels.length);
  let at = 0;
  const answer = (entity: number) => {
    while (at < rows.count && rows.entities[at] < entity) at++;
    if (past.length > 0) reader.begin(past);
    for (; at < rows.count && rows.entities[at] === entity; at++) {
      const answers = reader.read(rows.asOfMs[at]);
      const row = rows.ids[at];
      for (let f = 0; f < answers.length; f++) put(columns[f], row, answers[f]);
    }
    past.length = 0;
    onProgress(at / rows.count);
  };
  let entity = -1;
  for await (const chunk of source.columns(sql)) {
    const [entities] = chunk.columns;
    for (let row = 0; row < chunk.rows; row++) {
      if (entities[row] !== entity) {
        if (entity >= 0) answer(entity);
        entity = entities[row];
      }
      past.add(chunk.columns, row);
    }
  }
  if (entity >= 0) answer(entity);
  return columns;
}

export function put(column: FeatureColumn, row: number, { value, status, eventTimeMs }: FeatureValue): void {
  if (value !== null) column.values[row] = value as number;
  column.statuses[row] = STATUSES.indexOf(status);
  if (eventTimeMs !== null) column.eventTimesMs[row] = eventTimeMs;
}

/** One entity's events, gathered row by row into columns that are used again for the next. */
class Past {
  length = 0;
  timesMs = new Float64Array(1024);
  visibleMs = new Float64Array(1024);
  /** By index into the group's channels; those that are not read stay empty. */
  readonly channels: Scalar[][];
  readonly #read: readonly number[];

  constructor(read: readonly number[], channels: number) {
    this.#read = read;
    this.channels = Array.from({ length: channels }, () => []);
  }

  add(columns: readonly (readonly any[])[], row: number): void {
    const at = this.length++;
    if (at === this.timesMs.length) {
      this.timesMs = doubled(this.timesMs);
      this.visibleMs = doubled(this.visibleMs);
    }
    this.timesMs[at] = columns[1][row];
    this.visibleMs[at] = columns[2][row];
    for (let i = 0; i < this.#read.length; i++) this.channels[this.#read[i]][at] = columns[3 + i][row];
  }
}

function doubled(array: Float64Array): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(array.length * 2);
  larger.set(array);
  return larger;
}

/** The spine's rows that name the entity, by its number and instant. */
export async function readSpine(source: ColumnSource, entity: string, spine: Spine) {
  const entities = new Float64Array(spine.rows);
  const asOfMs = new Float64Array(spine.rows);
  const ids = new Float64Array(spine.rows);
  let count = 0;
  for await (const chunk of source.columns(spineSql(entity, spine.relation))) {
    for (let row = 0; row < chunk.rows; row++, count++) {
      entities[count] = chunk.columns[0][row];
      asOfMs[count] = chunk.columns[1][row];
      ids[count] = chunk.columns[2][row];
    }
  }
  return { count, entities, asOfMs, ids };
}
