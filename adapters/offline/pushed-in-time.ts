/**
 * The point-in-time join of batch views and of registered features: for each row of a spine the newest value of each feature among those
 * that were visible at its instant. SQL joins and orders; who is newer is decided where the store's function has its counterpart.
 */
import type { BatchFeature, BatchView, Dtype, Plan, Scalar } from "../../core/plan.ts";
import { type PushedFeature, reachOf, storedView } from "../../core/pushed-feature.ts";
import { withStatus } from "../../core/tiles/tiles.ts";
import { PACKED_ROWS_VERSION, VALUES_VERSION, valuesFolder } from "../pushed/values-format.ts";
import { isNewer, type PushedValue, type UnpackedValue, unpackValues } from "../valkey/packed.ts";
import { type DuckSession, sqlName, sqlText } from "./duckdb.ts";
import { type ArchiveMirror, corruptObject, type FetchOptions } from "./mirror.ts";
import { type ColumnSource, type FeatureColumn, put, readSpine, type Spine } from "./point-in-time.ts";
import { numbered } from "./point-in-time-sql.ts";

/**
 * Name of a relation: id VARCHAR, event_time_ms BIGINT, visible_ms BIGINT, and of "values" VARCHAR (JSON) and packed VARCHAR (base64) one.
 * @param view as the archive names it
 */
export type MountValues = (view: string, toMs: number) => Promise<string>;

/** An object's name begins with its first visible time: what became visible later is not fetched. */
export function valuesMount(
  session: DuckSession,
  mirror: ArchiveMirror,
  tenant: string,
  options: FetchOptions = {},
): MountValues {
  return async (view, toMs) => {
    for (let attempt = 1; ; attempt++) {
      const folder = valuesFolder(tenant, view);
      const objects = (await mirror.list(folder)).filter(({ key }) => Number(/\/(\d{13})-/.exec(key)?.[1]) <= toMs);
      const { gone, corrupt } = await mirror.fetch(objects, options);
      if (gone.length > 0 && attempt < 5) continue;
      if (gone.length > 0) throw corruptObject(gone[0], "it is listed and cannot be fetched");
      const left = new Set(corrupt.map(({ key }) => key));
      const files = objects.filter(({ key }) => !left.has(key)).map(({ key }) => mirror.path(key));
      const name = sqlName(`values ${view}`);
      await session.run(`CREATE OR REPLACE VIEW ${name} AS ${valuesSelect(files)}`);
      return name;
    }
  };
}

/** A query over files of values-format.ts. */
export function valuesSelect(files: readonly string[]): string {
  if (files.length === 0) {
    return `SELECT CAST(NULL AS VARCHAR) AS id, CAST(NULL AS BIGINT) AS event_time_ms, CAST(NULL AS BIGINT) AS visible_ms, CAST(NULL AS VARCHAR) AS "values", CAST(NULL AS VARCHAR) AS packed WHERE FALSE`;
  }
  const columns = `{v: 'INTEGER', id: 'VARCHAR', event_time_ms: 'BIGINT', visible_ms: 'BIGINT', "values": 'JSON', packed: 'VARCHAR'}`;
  return `SELECT id, event_time_ms, visible_ms, CAST("values" AS VARCHAR) AS "values", packed
FROM read_json([${files.map(sqlText)}], format = 'newline_delimited', hive_partitioning = false, columns = ${columns})
WHERE v IN (${VALUES_VERSION}, ${PACKED_ROWS_VERSION})`;
}

/** Features of batch views among some names, by view. */
export function batchFeaturesOf(plan: Plan, names: readonly string[]): Map<BatchView, BatchFeature[]> {
  const found = new Map<BatchView, BatchFeature[]>();
  for (const view of plan.batchViews) {
    const features = view.features.filter(({ name }) => names.includes(name));
    if (features.length > 0) found.set(view, features);
  }
  return found;
}

/** @returns the columns of those of `names` that are of batch views, in no order */
export async function joinPushed(
  source: ColumnSource,
  options: {
    readonly plan: Plan;
    readonly names: readonly string[];
    readonly spine: Spine;
    readonly mount: MountValues;
  },
): Promise<FeatureColumn[]> {
  const columns: FeatureColumn[] = [];
  for (const [view, features] of batchFeaturesOf(options.plan, options.names)) {
    const { name: own, entity, ttlMs, reachMs } = view;
    const joined = features.map(
      ({ name, id, dtype }): JoinedFeature => ({
        ...{ name, id, dtype, ttlMs, reachMs },
        key: `${name.slice(own.length + 1)}:${dtype}`,
      }),
    );
    columns.push(
      ...(await joinView(source, entity, joined, options.spine, await options.mount(own, options.spine.toMs))),
    );
  }
  return columns;
}

/** Features that a tenant has registered, by the names that are asked for. @returns their columns, in no order */
export async function joinRegistered(
  source: ColumnSource,
  options: {
    readonly features: ReadonlyMap<string, PushedFeature>;
    readonly spine: Spine;
    readonly mount: MountValues;
  },
): Promise<FeatureColumn[]> {
  const { features, spine, mount } = options;
  const groups = new Map<string, { view: string; entity: string; members: JoinedFeature[] }>();
  for (const [name, feature] of features) {
    const { view, entity, id, dtype, ttlMs } = feature;
    const group = groups.get(`${view}/${entity}`) ?? { view, entity, members: [] };
    group.members.push({ name, id, dtype, ttlMs, reachMs: reachOf(feature), key: null });
    groups.set(`${view}/${entity}`, group);
  }
  const columns: FeatureColumn[] = [];
  for (const { view, entity, members } of groups.values()) {
    columns.push(...(await joinView(source, entity, members, spine, await mount(storedView(view), spine.toMs))));
  }
  return columns;
}

interface JoinedFeature {
  readonly name: string;
  readonly id: number;
  readonly dtype: Dtype;
  readonly ttlMs: number;
  readonly reachMs: number;
  /** Of its values in JSON; null where they are packed. */
  readonly key: string | null;
}

async function joinView(
  source: ColumnSource,
  entityName: string,
  features: readonly JoinedFeature[],
  spine: Spine,
  relation: string,
): Promise<FeatureColumn[]> {
  const rows = await readSpine(source, entityName, spine);
  const columns = features.map(({ name, dtype }): FeatureColumn => {
    const numeric = dtype === "int64" || dtype === "double";
    return {
      name,
      values: numeric ? new Float64Array(spine.rows).fill(Number.NaN) : new Array(spine.rows).fill(null),
      statuses: new Uint8Array(spine.rows),
      eventTimesMs: new Float64Array(spine.rows).fill(Number.NaN),
    };
  });
  const newest: (Held | null)[] = features.map(() => null);
  let entity = -1;
  let at = 0;
  /** Answers the entity's rows whose instant lies before a push becomes visible. */
  const answerBefore = (visibleMs: number) => {
    for (; at < rows.count && rows.entities[at] === entity && rows.asOfMs[at] < visibleMs; at++) {
      const asOfMs = rows.asOfMs[at];
      newest.forEach((held, f) => {
        const value = withStatus(features[f], held?.value ?? null, held?.eventTimeMs ?? null, asOfMs, true);
        put(columns[f], rows.ids[at], value);
      });
    }
  };
  for await (const chunk of source.columns(pushesSql(entityName, spine, relation))) {
    const [entities, eventTimes, visibles, texts, packed] = chunk.columns;
    for (let row = 0; row < chunk.rows; row++) {
      if (entities[row] !== entity) {
        answerBefore(Number.POSITIVE_INFINITY);
        entity = entities[row];
        newest.fill(null);
        while (at < rows.count && rows.entities[at] < entity) at++;
      }
      answerBefore(visibles[row]);
      const values = texts[row] === null ? null : (JSON.parse(texts[row]) as Record<string, Scalar>);
      const unpacked = packed[row] === null ? null : unpackValues(Buffer.from(packed[row], "base64"));
      features.forEach(({ id, dtype, key }, f) => {
        const value = key === null ? unpacked?.get(id)?.value : values?.[key];
        if (value === undefined) return;
        const held: Held = { id, dtype, value, eventTimeMs: eventTimes[row] };
        if (newest[f] === null || isNewer(held, newest[f])) newest[f] = held;
      });
    }
  }
  answerBefore(Number.POSITIVE_INFINITY);
  return columns;
}

type Held = PushedValue & UnpackedValue;

const pushesSql = (entity: string, spine: Spine, relation: string): string => `
SELECT CAST(n.entity_number AS DOUBLE), CAST(p.event_time_ms AS DOUBLE), CAST(p.visible_ms AS DOUBLE), p."values", p.packed
FROM ${relation} AS p JOIN (${numbered(entity, spine.relation)}) AS n ON n.id = p.id
WHERE p.visible_ms <= ${spine.toMs}
ORDER BY n.entity_number, p.visible_ms`;
