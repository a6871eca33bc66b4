/** The rows of a large training set, made once of what Athena finds, and kept in the job's folder: later steps and invocations read the same rows. */
import { randomUUID } from "node:crypto";
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Stream } from "../../core/plan.ts";
import { literalsOf } from "../../core/where.ts";
import { type ArchiveListing, archiveSelect } from "./archive-view.ts";
import { type CataloguedRange, deliveriesSql, type JobKeys } from "./athena-sql.ts";
import type { Unloads } from "./athena-unload.ts";
import { unloadedSql } from "./chunk-features.ts";
import { type DuckSession, sqlName, sqlText } from "./duckdb.ts";
import type { LargeSetOptions } from "./large-training-set.ts";
import { declaredOutcomes } from "./outcomes.ts";
import { entitiesOf, type LabelJoin, labelJoin, type SpineTable } from "./spine.ts";
import type { TrainingSource } from "./training-manifest.ts";
import { ROWS_PER_PART } from "./training-part.ts";
import { makeSpine, type Range } from "./training-set.ts";
import type { WorkFolder } from "./work-folder.ts";

export interface KeptSpine {
  /** Of its files, below the work folder. */
  readonly folder: string;
  readonly table: SpineTable;
  readonly sources: readonly TrainingSource[];
  readonly queries: number;
  readonly scannedBytes: number;
}

/** Makes the view `spine`. @throws FreshetError as `makeSpine`, `offline_query` */
export async function keptSpine(session: DuckSession, options: LargeSetOptions, unloads: Unloads): Promise<KeptSpine> {
  const { work } = options;
  const kept = (await work.read<KeptSpine>("spine.json")) ?? (await keep(session, options, unloads));
  const files = await fetchBelow(work, kept.folder, options.folder);
  await session.run(
    `CREATE VIEW spine AS SELECT * FROM read_parquet([${files.map(sqlText)}], hive_partitioning = false)`,
  );
  return kept;
}

async function keep(session: DuckSession, options: LargeSetOptions, unloads: Unloads): Promise<KeptSpine> {
  const { work } = options;
  const read: { source: TrainingSource; queries: number; scannedBytes: number }[] = [];
  const { join: labelled, fieldsOf } = neededOf(options);
  let labels = "";
  const mount = async (stream: Stream, range: Range): Promise<string> => {
    const name = `mount_${read.length}`;
    // Only events that somebody has judged become rows.
    const judged = labelled !== null && labels !== "" && stream.name === labelled.events.name;
    const keys = judged ? await putKeys(session, options, "label", idsOfLabels(labelled, labels)) : null;
    const fields = fieldsOf(stream);
    const unloaded = await unloads.once(name, async () => {
      const { found, source } = await cataloguedRange(options, stream, range, fields);
      return { sql: found === null ? null : deliveriesSql(found, keys), chunked: false, told: source };
    });
    read.push({ ...unloaded, source: unloaded.told });
    const files = await fetchBelow(work, unloaded.folder, options.folder);
    await session.run(`CREATE OR REPLACE VIEW ${name} AS ${deliveriesOf(stream, files, fields)}`);
    if (stream.name === labelled?.labels.name) labels = name;
    return name;
  };
  const table = await makeSpine(session, options, mount);
  const folder = `spine/${randomUUID()}/`;
  for (let part = 0; part * ROWS_PER_PART < table.rows; part++) {
    const file = join(options.folder, `spine-${part}.parquet`);
    const from = part * ROWS_PER_PART;
    await session.run(`
COPY (SELECT * FROM spine WHERE "row id" >= ${from} AND "row id" < ${from + ROWS_PER_PART} ORDER BY "row id") TO ${sqlText(file)} (FORMAT parquet, COMPRESSION zstd)`);
    await work.putFile(`${folder}${String(part).padStart(5, "0")}.parquet`, file);
    rmSync(file);
  }
  for (let i = 0; i < read.length; i++) await session.run(`DROP VIEW mount_${i}`);
  await session.run("DROP TABLE spine");
  for (const entry of readdirSync(options.folder)) {
    if (entry.startsWith("mount_")) rmSync(join(options.folder, entry), { recursive: true });
  }
  const sum = (of: "queries" | "scannedBytes") => read.reduce((all, each) => all + each[of], 0);
  return work.writeOnce<KeptSpine>("spine.json", {
    ...{ folder, table, sources: read.map(({ source }) => source) },
    ...{ queries: sum("queries"), scannedBytes: sum("scannedBytes") },
  });
}

/** What rows are made of, by the fields of each stream. */
function neededOf({ plan, service, definition, spine }: LargeSetOptions): {
  readonly join: LabelJoin | null;
  readonly fieldsOf: (stream: Stream) => string[];
} {
  const outcomes = "stream" in spine ? declaredOutcomes(plan, definition, spine.stream) : null;
  const join = "stream" in spine && outcomes === null ? labelJoin(plan, service, spine.stream) : null;
  const ofRows = [...entitiesOf(plan, service).map(({ joinKey }) => joinKey), ...Object.keys(service.request)];
  const ofOutcomes =
    outcomes === null ? [] : [outcomes.namedBy, ...literalsOf(outcomes.of.where).map(({ field }) => field)];
  const fieldsOf = (stream: Stream) => {
    const wanted = stream.name === join?.labels.name ? [join.idField, join.valueField] : [...ofRows, ...ofOutcomes];
    return [...new Set([stream.eventId, ...wanted])].filter((name) => name in stream.fields);
  };
  return { join, fieldsOf };
}

const idsOfLabels = ({ idField }: LabelJoin, relation: string): string =>
  `SELECT DISTINCT CAST(fields.${sqlName(idField)} AS VARCHAR) AS id FROM ${relation} WHERE fields.${sqlName(idField)} IS NOT NULL`;

/** Files of `deliveriesSql` as archive-view.ts describes the archive. */
function deliveriesOf(stream: Stream, files: readonly string[], fields: readonly string[]): string {
  if (files.length === 0) return archiveSelect(stream, [], []);
  return unloadedSql(
    files,
    fields,
    `event_id, event_time_ms, identity, arrival_ms, shard, sequence, sub_sequence, CAST(NULL AS VARCHAR) AS reason,
  [struct_pack(entity := '', id := '', fate := 'applied', visible_ms := visible_ms)] AS fates`,
  );
}

/** Lays ids where Athena's table of them looks. @param sql with the one column `id`. @returns how a query names them */
export async function putKeys(
  session: DuckSession,
  { tenant, job, athena, keys, folder }: LargeSetOptions,
  kind: string,
  sql: string,
): Promise<JobKeys> {
  const local = join(folder, `keys-${kind}`);
  mkdirSync(local, { recursive: true });
  await session.run(
    `COPY (${sql}) TO ${sqlText(local)} (FORMAT parquet, COMPRESSION zstd, FILE_SIZE_BYTES '64MB', OVERWRITE_OR_IGNORE)`,
  );
  for (const name of readdirSync(local)) await keys.putFile(`kind=${kind}/${name}`, join(local, name));
  rmSync(local, { recursive: true });
  return { database: athena.database, tenant, job, kind };
}

/** A range as the catalogue has it; null where no object is in it. */
export async function cataloguedRange(
  { athena, tenant, list }: LargeSetOptions,
  stream: Stream,
  range: Range,
  fields: readonly string[],
): Promise<{ readonly found: CataloguedRange | null; readonly source: TrainingSource; readonly bytes: number }> {
  const listing = await list(stream, range);
  const { raw, compacted } = listing;
  const folders = [...raw, ...compacted].map(({ key }) => key.slice(0, key.lastIndexOf("/")));
  const source: TrainingSource = {
    ...{ stream: stream.name, raw_objects: raw.length, compacted_objects: compacted.length },
    ...{ partitions: [...new Set(folders)].sort(), corrupt_objects: [] },
  };
  const days = { rawDays: daysOf(raw), compactedDays: daysOf(compacted) };
  const found = folders.length === 0 ? null : { database: athena.database, tenant, stream, ...range, fields, ...days };
  return { found, source, bytes: [...raw, ...compacted].reduce((sum, { bytes }) => sum + bytes, 0) };
}

function daysOf(objects: ArchiveListing["raw"]): readonly [string, string] | null {
  const days = objects.map(({ key }) => /\/dt=([^/]+)\//.exec(key)![1]!).sort();
  return days.length === 0 ? null : [days[0]!, days[days.length - 1]!];
}

/** @returns paths on this machine */
export async function fetchBelow(work: WorkFolder, name: string, folder: string): Promise<string[]> {
  if (name === "") return [];
  const objects = await work.list(name);
  const names = objects.filter(({ bytes }) => bytes > 0).map(({ key }) => key);
  return work.fetch(names, folder);
}
