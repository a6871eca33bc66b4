/**
 * One part of a training set: rows of a spine with their stored features, what is computed from them on demand, and the request's fields, as
 * one Parquet file.
 */

import type { FeatureServiceDefinition } from "../../core/definition.ts";
import { FreshetError } from "../../core/errors.ts";
import type { Dtype, Plan, Scalar, Service } from "../../core/plan.ts";
import { type PushedFeature, versionedName } from "../../core/pushed-feature.ts";
import { createScorer } from "../../core/scoring/scoring.ts";
import { type DuckSession, sqlName, sqlText } from "./duckdb.ts";
import { type FeatureColumn, featureAt, type Spine } from "./point-in-time.ts";
import { keyColumn } from "./point-in-time-sql.ts";
import { batchFeaturesOf, joinPushed, joinRegistered, type MountValues } from "./pushed-in-time.ts";
import { requestColumn, type SpineTable } from "./spine.ts";
import type { TrainingDtype } from "./training-manifest.ts";

/** Rows that are joined at once: what bounds memory beside DuckDB's own, about 10 B for each value. */
export const ROWS_PER_PART = 1_000_000;

export interface PartOptions {
  readonly plan: Plan;
  readonly service: Service;
  readonly definition: FeatureServiceDefinition;
  readonly mountValues: MountValues;
  /** What the tenant has registered of the service's features, by their names there; of the others nothing is known. @default none */
  readonly inputs?: ReadonlyMap<string, PushedFeature>;
  /** Registered features that become columns beside the service's inputs, each under its name with the version. @default none */
  readonly registered?: readonly PushedFeature[];
}

export interface MadePart {
  /** Of the columns of features, in the order of their names. */
  readonly names: readonly string[];
  readonly dtypes: readonly TrainingDtype[];
}

/** Features of a service that windows give: the others are of batch views, and registered. */
export function windowedOf(plan: Plan, service: Service): string[] {
  const batch = [...batchFeaturesOf(plan, service.features).values()].flat();
  const pushed = new Set([...batch, ...(service.registered ?? [])].map(({ name }) => name));
  return service.features.filter((name) => !pushed.has(name));
}

/**
 * Writes the rows of the view `spine_part` to a file.
 * @param joined columns of `windowedOf`
 * @param dtypes of the parts before; null for the first, which decides
 */
export async function makePart(
  session: DuckSession,
  options: PartOptions,
  {
    spine,
    rows,
    joined,
    file,
    dtypes: decided,
  }: {
    readonly spine: SpineTable;
    readonly rows: Spine;
    readonly joined: readonly FeatureColumn[];
    readonly file: string;
    readonly dtypes: readonly TrainingDtype[] | null;
  },
): Promise<MadePart> {
  const { plan, service, definition, mountValues: mount } = options;
  const scorer = createScorer(service, definition);
  const extras = new Map((options.registered ?? []).map((feature) => [versionedName(feature), feature]));
  const names = [...scorer.inputs, ...extras.keys()];
  const besides = await joinRegistered(session, { features: extras, spine: rows, mount });
  const all = [
    ...joined,
    ...(await joinPushed(session, { plan, names: service.features, spine: rows, mount })),
    ...(await joinRegistered(session, { features: options.inputs ?? new Map(), spine: rows, mount })),
  ];
  const columns = service.features.map(
    (name) => all.find((column) => column.name === name) ?? unknown(name, rows.rows),
  );
  const requests = await readRequests(session, service, rows.rows);
  const inputs: Scalar[][] = scorer.inputs.map(() => new Array(rows.rows));
  for (let row = 0; row < rows.rows; row++) {
    const stored = columns.map((column) => featureAt(column, row));
    const { values } = scorer.evaluate(requests(row), stored);
    for (let i = 0; i < values.length; i++) inputs[i][row] = values[i];
  }
  const dtypes = decided ?? [
    ...dtypesOf(plan, service, scorer.inputs, inputs),
    ...[...extras.values()].map(({ dtype }) => dtype),
  ];
  for (const name of extras.keys()) {
    const column = besides.find((each) => each.name === name)!;
    inputs.push(Array.from({ length: rows.rows }, (_, row) => featureAt(column, row).value as Scalar));
  }
  await writePart(session, options, spine, inputs, names, dtypes, file);
  return { names, dtypes };
}

/** Of a registered feature that the tenant has not: `NOT_FOUND` in every row. */
const unknown = (name: string, rows: number): FeatureColumn => ({
  name,
  values: new Array(rows).fill(null),
  statuses: new Uint8Array(rows),
  eventTimesMs: new Float64Array(rows).fill(Number.NaN),
});

/** The part as the view `spine_part`, its rows numbered from 0. */
export async function spinePart(session: DuckSession, part: number): Promise<Spine> {
  const from = part * ROWS_PER_PART;
  await session.run(`
CREATE OR REPLACE VIEW spine_part AS SELECT "row id" - ${from} AS "row id", * EXCLUDE ("row id") FROM spine
WHERE "row id" >= ${from} AND "row id" < ${from + ROWS_PER_PART}`);
  const [found] = await session.rows('SELECT count(*) AS rows, min("as of") AS a, max("as of") AS b FROM spine_part');
  return { relation: "spine_part", rows: Number(found["rows"]), fromMs: Number(found["a"]), toMs: Number(found["b"]) };
}

/** Request fields of a row, as a caller would have sent them. */
async function readRequests(session: DuckSession, service: Service, rows: number) {
  const names = Object.keys(service.request);
  const columns: Scalar[][] = names.map(() => new Array(rows).fill(null));
  if (names.length > 0) {
    const selected = names.map((name) => {
      const column = requestColumn(name);
      return service.request[name] === "long" ? `CAST(${column} AS DOUBLE)` : column;
    });
    const sql = `SELECT CAST("row id" AS DOUBLE), ${selected.join(", ")} FROM spine_part`;
    for await (const chunk of session.columns(sql)) {
      for (let row = 0; row < chunk.rows; row++) {
        for (let i = 0; i < names.length; i++) columns[i][chunk.columns[0][row]] = chunk.columns[i + 1][row];
      }
    }
  }
  return (row: number): Record<string, Scalar> => Object.fromEntries(names.map((name, i) => [name, columns[i][row]]));
}

/** Declared types of stored features; of on-demand ones the type of what they gave. */
function dtypesOf(
  plan: Plan,
  service: Service,
  names: readonly string[],
  inputs: readonly Scalar[][],
): TrainingDtype[] {
  const known = [...plan.views, ...plan.batchViews].flatMap(({ features }) =>
    features.map(({ name, dtype }) => [name, dtype] as const),
  );
  const features = new Map([...known, ...(service.registered ?? []).map(({ name, dtype }) => [name, dtype] as const)]);
  return names.map((name, i) => {
    const declared = service.features.includes(name) ? features.get(name) : undefined;
    // No list: no service takes one.
    if (declared !== undefined) return declared as Dtype;
    const types = new Set(inputs[i].filter((value) => value !== null).map((value) => typeof value));
    if (types.size > 1) {
      throw new FreshetError("on_demand_type", `${name} gives values of several types (${[...types].join(", ")})`, {
        field: `${service.name}.onDemand.${name}`,
        repair: "let it always give a number, a string or a boolean, or null",
      });
    }
    return types.has("string") ? "string" : types.has("boolean") ? "boolean" : "double";
  });
}

const SQL_TYPES = { double: "DOUBLE", int64: "BIGINT", string: "VARCHAR", boolean: "BOOLEAN" } as const;

async function writePart(
  session: DuckSession,
  { plan, service }: PartOptions,
  spine: SpineTable,
  inputs: readonly (readonly Scalar[])[],
  names: readonly string[],
  dtypes: readonly TrainingDtype[],
  file: string,
): Promise<void> {
  // Whole numbers travel as doubles, which hold all that a feature can be, and are cast in SQL.
  const columns = names.map((_, i) => `f${i} ${dtypes[i] === "int64" ? "DOUBLE" : SQL_TYPES[dtypes[i]]}`);
  await session.run(`CREATE OR REPLACE TABLE inputs ("row id" DOUBLE, ${columns.join(", ")})`);
  const rows = inputs.length === 0 ? 0 : inputs[0].length;
  await session.append("inputs", [Array.from({ length: rows }, (_, row) => row), ...inputs]);
  const entities = service.entities.map((name) => plan.entities.find((entity) => entity.name === name)!);
  const keys = entities.map(({ name, joinKey }) => `${keyColumn(name)} AS ${sqlName(joinKey)}`);
  const features = names.map((name, i) => `CAST(f${i} AS ${SQL_TYPES[dtypes[i]]}) AS ${sqlName(name)}`);
  const requests = Object.keys(service.request).map(
    (name) => `${requestColumn(name)} AS ${sqlName(`request:${name}`)}`,
  );
  const selected = [
    '"event id" AS event_id',
    ...keys,
    '"as of" AS as_of_ms',
    ...features,
    ...requests,
    'CAST("label" AS DOUBLE) AS label',
    ...spine.extras.map((name) => sqlName(name)),
  ];
  await session.run(`
COPY (SELECT ${selected.join(", ")} FROM spine_part JOIN inputs USING ("row id") ORDER BY "row id")
TO ${sqlText(file)} (FORMAT parquet, COMPRESSION zstd)`);
  await session.run("DROP TABLE inputs");
}
