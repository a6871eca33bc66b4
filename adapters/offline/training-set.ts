/**
 * A training set: for each row of a spine what a score of that request at that instant would have seen, as Parquet with a
 * manifest. Stored features by the point-in-time join, on-demand ones by the functions that score, request fields from the spine.
 */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { FeatureServiceDefinition } from "../../core/definition.ts";
import { FreshetError } from "../../core/errors.ts";
import type { Dtype, Group, Plan, Scalar, Service, Stream } from "../../core/plan.ts";
import { type PushedFeature, versionedName } from "../../core/pushed-feature.ts";
import { createScorer } from "../../core/scoring.ts";
import type { InferenceRow } from "../inference-log-format.ts";
import { type DuckSession, sqlName, sqlText } from "./duckdb.ts";
import { entityEventsSql, olderThanEntitySql } from "./entity-events.ts";
import { type FoundKeys, foundKeys } from "./found-keys.ts";
import { type GivenSpine, givenSpine } from "./given-spine.ts";
import { spineFromLog } from "./logged-spine.ts";
import { declaredOutcomes, spineFromOutcomes } from "./outcomes.ts";
import { featureAt, groupsOf, joinPointInTime, seenRange } from "./point-in-time.ts";
import { keyColumn } from "./point-in-time-sql.ts";
import { batchFeaturesOf, joinPushed, joinRegistered, type MountValues } from "./pushed-in-time.ts";
import { labelJoin, requestColumn, type SpineTable, spineFromLabels } from "./spine.ts";
import type { AsOfRule, TrainingDtype, TrainingManifest, TrainingSource } from "./training-manifest.ts";

/** Brings a stream's rows of a range of event time to DuckDB, under a name. */
export type MountStream = (
  stream: Stream,
  range: { readonly fromMs: number; readonly toMs: number },
  name: string,
) => Promise<Omit<TrainingSource, "stream">>;

export type SpineSource =
  | { readonly kind: "labels"; readonly stream: string; readonly asOf: AsOfRule }
  /** What was scored, with the outcomes of `stream`. */
  | { readonly kind: "log"; readonly stream: string; readonly rows: (range: Range) => AsyncIterable<InferenceRow> }
  | GivenSpine;
/** Half-open. */
interface Range {
  readonly fromMs: number;
  readonly toMs: number;
}

export interface TrainingSetOptions {
  readonly plan: Plan;
  readonly service: Service;
  readonly definition: FeatureServiceDefinition;
  readonly tenant: string;
  readonly spine: SpineSource;
  /** Event times of the labelled events, or instants of a given spine; half-open. Null: all of the spine. */
  readonly fromMs: number | null;
  readonly toMs: number | null;
  readonly labelDelayMs: number | null;
  readonly mount: MountStream;
  readonly mountValues: MountValues;
  /** Registered features that become columns beside the service's inputs, each under its name with the version. @default none */
  readonly registered?: readonly PushedFeature[];
  /** Folder to write; must not be there, or be empty. */
  readonly out: string;
  readonly onProgress?: (step: "spine" | "features" | "write", share: number) => void;
}

/** Rows that are joined at once: what bounds memory beside DuckDB's own, about 10 B for each value. */
const ROWS_PER_PART = 1_000_000;
/** A label's range has no end: outcomes become known long after. */
const FOREVER = 8_640_000_000_000_000;

/**
 * @returns the manifest, as written. Nothing is left in `out` when it fails.
 * @throws FreshetError `range_empty`, `out_not_empty`, those of spine.ts, given-spine.ts and of reading the archive
 */
export async function buildTrainingSet(session: DuckSession, options: TrainingSetOptions): Promise<TrainingManifest> {
  const { plan, service, definition, out, fromMs, toMs, onProgress } = options;
  if (fromMs !== null && toMs !== null && fromMs >= toMs) {
    throw new FreshetError("range_empty", `the range from ${iso(fromMs)} to ${iso(toMs)} is empty`, {
      field: "to",
      repair: "give --to later than --from",
    });
  }
  if (existsSync(out) && readdirSync(out).length > 0) {
    throw new FreshetError("out_not_empty", `${out} is there and not empty`, {
      field: "out",
      repair: "choose another folder",
    });
  }
  const scorer = createScorer(service, definition);
  /** By stream: what is mounted for features covers what the labels' events needed. */
  const sources = new Map<string, TrainingSource>();
  const mounted = new Map<string, string>();
  let mounts = 0;
  const mount = async (stream: Stream, range: { fromMs: number; toMs: number }): Promise<string> => {
    const name = `archive_${mounts++}`;
    sources.set(stream.name, { stream: stream.name, ...(await options.mount(stream, range, name)) });
    return name;
  };

  onProgress?.("spine", 0);
  const spine = await makeSpine(session, options, mount);
  onProgress?.("spine", 1);
  for (const [stream, range] of rangesOf(plan, service.features, spine)) {
    mounted.set(stream.name, await mount(stream, range));
  }
  const older = new Map<Group, boolean>();
  for (const group of groupsOf(plan, service.features).keys()) {
    const archive = mounted.get(group.stream)!;
    const [{ rows }] = await session.rows(olderThanEntitySql(group.entity, { archive }));
    older.set(group, Number(rows) > 0);
  }

  const pushed = [...batchFeaturesOf(plan, service.features).values()].flat().map(({ name }) => name);
  const windowed = service.features.filter((name) => !pushed.includes(name));

  const extras = new Map((options.registered ?? []).map((feature) => [versionedName(feature), feature]));
  const names = [...scorer.inputs, ...extras.keys()];

  const partial = `${out}.partial`;
  rmSync(partial, { recursive: true, force: true });
  mkdirSync(partial, { recursive: true });
  try {
    let dtypes: TrainingDtype[] | null = null;
    const parts = Math.ceil(spine.rows / ROWS_PER_PART);
    for (let part = 0; part < parts; part++) {
      const range = await spinePart(session, part);
      const rows = { relation: "spine_part", ...range };
      const joined = await joinPointInTime(session, {
        plan,
        features: windowed,
        spine: rows,
        events: (group) =>
          entityEventsSql(plan, group.entity, { archive: mounted.get(group.stream)!, older: older.get(group) }),
        onProgress: (share) => onProgress?.("features", (part + share) / parts),
      });
      const besides = await joinRegistered(session, { features: extras, spine: rows, mount: options.mountValues });
      joined.push(...(await joinPushed(session, { plan, names: pushed, spine: rows, mount: options.mountValues })));
      const columns = service.features.map((name) => joined.find((column) => column.name === name)!);
      const requests = await readRequests(session, service, range.rows);
      const inputs: Scalar[][] = scorer.inputs.map(() => new Array(range.rows));
      for (let row = 0; row < range.rows; row++) {
        const stored = columns.map((column) => featureAt(column, row));
        const { values } = scorer.evaluate(requests(row), stored);
        for (let i = 0; i < values.length; i++) inputs[i][row] = values[i];
      }
      dtypes ??= [...dtypesOf(plan, service, scorer.inputs, inputs), ...[...extras.values()].map(({ dtype }) => dtype)];
      for (const name of extras.keys()) {
        const column = besides.find((each) => each.name === name)!;
        inputs.push(Array.from({ length: range.rows }, (_, row) => featureAt(column, row).value as Scalar));
      }
      onProgress?.("write", part / parts);
      await writePart(
        session,
        options,
        spine,
        inputs,
        names,
        dtypes,
        join(partial, `part-${String(part).padStart(5, "0")}.parquet`),
      );
    }
    const entities = await foundKeys(session, plan, service, mounted);
    const manifest = manifestOf(options, spine, [...sources.values()], entities, names, dtypes!);
    writeFileSync(join(partial, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);
    rmSync(out, { recursive: true, force: true });
    renameSync(partial, out);
    onProgress?.("write", 1);
    return manifest;
  } catch (error) {
    rmSync(partial, { recursive: true, force: true });
    throw error;
  }
}

async function makeSpine(
  session: DuckSession,
  { plan, service, definition, spine, fromMs, toMs }: TrainingSetOptions,
  mount: (stream: Stream, range: { fromMs: number; toMs: number }) => Promise<string>,
): Promise<SpineTable> {
  const range = { fromMs: fromMs ?? 0, toMs: toMs ?? FOREVER };
  if (spine.kind === "log") {
    const whole = (stream: Stream) => mount(stream, { fromMs: 0, toMs: FOREVER });
    const logged = { labels: spine.stream, rows: spine.rows(range), mount: whole };
    return spineFromLog(session, { plan, service, definition, ...logged });
  }
  if (spine.kind !== "labels") return givenSpine(session, { plan, service, source: spine, fromMs, toMs });
  const outcomes = declaredOutcomes(plan, definition, spine.stream);
  if (outcomes !== null) {
    // What happens within the delay of the range's last event tells its outcome.
    const events = await mount(outcomes.stream, { ...range, toMs: Math.min(FOREVER, range.toMs + outcomes.delayMs) });
    return spineFromOutcomes(session, { plan, service, outcomes, events, ...range, asOf: spine.asOf });
  }
  const join = labelJoin(plan, service, spine.stream);
  // A label comes after its event; one that claims to have come before is to be told.
  const labels = await mount(join.labels, { fromMs: 0, toMs: FOREVER });
  const events = await mount(join.events, range);
  return spineFromLabels(session, { plan, service, join, labels, events, ...range, asOf: spine.asOf });
}

/** For each stream behind the features the event times that any row can see. */
function rangesOf(plan: Plan, features: readonly string[], spine: SpineTable) {
  const ranges = new Map<Stream, { fromMs: number; toMs: number }>();
  for (const [group, members] of groupsOf(plan, features)) {
    const stream = plan.streams.find(({ name }) => name === group.stream)!;
    const own = seenRange(group, members, spine);
    const known = ranges.get(stream) ?? own;
    ranges.set(stream, { fromMs: Math.min(known.fromMs, own.fromMs), toMs: Math.max(known.toMs, own.toMs) });
  }
  return ranges;
}

async function spinePart(session: DuckSession, part: number) {
  const from = part * ROWS_PER_PART;
  await session.run(`
CREATE OR REPLACE VIEW spine_part AS SELECT "row id" - ${from} AS "row id", * EXCLUDE ("row id") FROM spine
WHERE "row id" >= ${from} AND "row id" < ${from + ROWS_PER_PART}`);
  const [found] = await session.rows('SELECT count(*) AS rows, min("as of") AS a, max("as of") AS b FROM spine_part');
  return { rows: Number(found["rows"]), fromMs: Number(found["a"]), toMs: Number(found["b"]) };
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
  const features = new Map(
    [...plan.views, ...plan.batchViews].flatMap((view) =>
      view.features.map(({ name, dtype }) => [name, dtype] as const),
    ),
  );
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
  { plan, service }: TrainingSetOptions,
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

const REQUEST_DTYPES = { double: "double", long: "int64", string: "string", boolean: "boolean" } as const;

function manifestOf(
  { plan, service, tenant, spine: source, fromMs, toMs, labelDelayMs }: TrainingSetOptions,
  spine: SpineTable,
  sources: readonly TrainingSource[],
  entities: readonly FoundKeys[],
  names: readonly string[],
  dtypes: readonly TrainingDtype[],
): TrainingManifest {
  return {
    version: 1,
    service: service.name,
    plan_hash: plan.hash,
    tenant,
    label_delay_ms: labelDelayMs,
    as_of_rule: source.kind === "labels" ? source.asOf : source.kind === "log" ? "log" : "spine",
    from_ms: fromMs,
    to_ms: toMs,
    row_count: spine.rows,
    positives: spine.positives,
    own_event_visible_rows: spine.ownEventVisible,
    left_out: spine.leftOut,
    sources,
    entities,
    features: [
      ...names.map((name, i) => ({ name, dtype: dtypes[i] })),
      ...Object.entries(service.request).map(([name, type]) => ({
        name: `request:${name}`,
        dtype: REQUEST_DTYPES[type],
      })),
    ],
  };
}

const iso = (ms: number): string => new Date(ms).toISOString();
