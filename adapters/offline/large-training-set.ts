/**
 * A training set of a range that is too large for one machine: Athena reads the archive, brings each entity's events together and writes them in
 * chunks of whole entities; this folds chunk after chunk with core, as smaller sets are folded, and makes the set part by part. What is held at
 * once is a chunk, or a part, whatever the range. Every step leaves its result in the job's folder of the bucket, so that another invocation goes on
 * where one ended or died (docs/decisions/0056-large-ranges-on-athena.md).
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Group, Stream } from "../../core/plan.ts";
import type { FeatureOfView } from "../../core/tiles/history.ts";
import type { ArchiveListing } from "./archive-view.ts";
import { type AthenaOptions, AthenaSource } from "./athena.ts";
import { chunkedEventsSql, foundSql, type JobKeys, MAX_CHUNKS, olderSql } from "./athena-sql.ts";
import { type Unloaded, Unloads } from "./athena-unload.ts";
import { fieldsOfChannels } from "./channels.ts";
import { foldChunk, readFeatures } from "./chunk-features.ts";
import { type DuckSession, sqlText } from "./duckdb.ts";
import { foundKeys, groupsOfService } from "./found-keys.ts";
import { cataloguedRange, fetchBelow, type KeptSpine, keptSpine, putKeys } from "./large-spine.ts";
import { type FeatureColumn, groupsOf, seenRange } from "./point-in-time.ts";
import { keyColumn } from "./point-in-time-sql.ts";
import type { SpineTable } from "./spine.ts";
import type { TrainingManifest, TrainingSource } from "./training-manifest.ts";
import { type MadePart, makePart, ROWS_PER_PART, spinePart, windowedOf } from "./training-part.ts";
import { checkSet, manifestOf, partName, type Range, rangesOf, type SetOptions } from "./training-set.ts";
import type { WorkFolder } from "./work-folder.ts";

export interface LargeSetOptions extends SetOptions {
  readonly athena: AthenaOptions;
  /** Names the job's ids to Athena's table of them. */
  readonly job: string;
  /** What is done so far, by this plan. */
  readonly work: WorkFolder;
  /** Where Athena's table of the job's ids looks: below it `kind=<entity>/`. */
  readonly keys: WorkFolder;
  readonly list: (stream: Stream, range: Range) => Promise<ArchiveListing>;
  /** Of this machine and this call, empty. */
  readonly folder: string;
  /** Asked between steps and while Athena works: true ends this call. One step at least is done in each. */
  readonly outOfTime: () => boolean;
  /** Keeps a file of the set. */
  readonly put: (name: string, path: string) => Promise<void>;
  readonly onProgress?: (share: number) => void;
  /** Stored bytes of the archive for each chunk. @default 128 MB */
  readonly chunkBytes?: number;
}

/** Four million compacted events, or so: what DuckDB sorts and core folds well within a function's memory. */
const CHUNK_BYTES = 128_000_000;
/** Steps' shares of the work. */
const SHARES = { spine: 0.05, events: 0.25, features: 0.85 };

interface ReadGroup {
  readonly group: Group;
  readonly members: readonly FeatureOfView[];
  readonly fields: readonly string[];
  /** Null where no feature of the group is wanted. */
  readonly events: Unloaded<null> | null;
  readonly found: Unloaded<TrainingSource>;
}

class OutOfTime extends Error {}

class EndedElsewhere extends Error {}

/**
 * Beside the steps, once the set is whole: its manifest. What another call of the job still reads then may be gone, and it would make a set of nothing; so
 * nothing is put once this is there. It goes with the bucket's lifecycle.
 */
const ENDED = "ended.json";

/** The manifest of a set that a call of before has ended; null while there is work to do. @throws FreshetError `archive_unavailable` */
export async function endedSet({
  work,
  keys,
}: Pick<LargeSetOptions, "work" | "keys">): Promise<TrainingManifest | null> {
  const manifest = await work.read<TrainingManifest>(ENDED);
  if (manifest !== null) await clear(work, keys);
  return manifest;
}

/** Once all files of a set are put: no other call of its job puts one then. @throws FreshetError `archive_unavailable` */
export async function endSet(
  { work, keys }: Pick<LargeSetOptions, "work" | "keys">,
  manifest: TrainingManifest,
): Promise<void> {
  await work.write(ENDED, manifest);
  await clear(work, keys);
}

async function clear(work: WorkFolder, keys: WorkFolder): Promise<void> {
  await keys.remove();
  await work.remove((name) => name !== ENDED);
}

/**
 * @returns the manifest, as put; null when the time was up: another call goes on
 * @throws FreshetError as `buildTrainingSet`, `entity_too_large`, `offline_query`; queries that run are ended then
 */
export async function buildLargeTrainingSet(
  session: DuckSession,
  options: LargeSetOptions,
): Promise<TrainingManifest | null> {
  checkSet(options);
  const { work } = options;
  const ended = await endedSet(options);
  if (ended !== null) return ended;
  const put: LargeSetOptions["put"] = async (name, path) => {
    if ((await work.read(ENDED)) !== null) throw new EndedElsewhere();
    await options.put(name, path);
  };
  const onPoll = () => {
    if (options.outOfTime()) throw new OutOfTime();
  };
  const athena = new AthenaSource({ ...options.athena, onPoll });
  const unloads = new Unloads(athena, work);
  try {
    const spine = await keptSpine(session, options, unloads);
    options.onProgress?.(SHARES.spine);
    const groups = await readGroups(session, options, unloads, spine.table);
    options.onProgress?.(SHARES.events);
    const turn = turns(options);
    const features = await foldGroups(session, options, groups, turn);
    const made = await makeParts(session, { ...options, put }, spine.table, features, turn);
    return await finish(session, { ...options, put }, spine, groups, made);
  } catch (error) {
    if (error instanceof OutOfTime) return null;
    await unloads.stop();
    // Whatever went wrong may be of what that call took away.
    const ended = await endedSet(options).catch(() => null);
    if (ended !== null) return ended;
    throw error;
  }
}

/** Every step but the first of a call asks for its turn. */
function turns({ outOfTime }: LargeSetOptions): () => void {
  let steps = 0;
  return () => {
    if (steps++ > 0 && outOfTime()) throw new OutOfTime();
  };
}

/**
 * What all of them answer; or the first failure, once none of them goes on: what still ran would begin queries, and write, when others take the call for
 * ended. Where time is up their queries go on for the next call.
 */
async function together<T>(unloads: Unloads, works: readonly Promise<T>[]): Promise<T[]> {
  let first: { readonly error: unknown } | null = null;
  const ended = works.map((work) =>
    work.catch(async (error: unknown) => {
      first ??= { error };
      if (!(error instanceof OutOfTime)) await unloads.stop();
      throw error;
    }),
  );
  await Promise.allSettled(ended);
  if (first !== null) throw (first as { readonly error: unknown }).error;
  return Promise.all(ended);
}

async function readGroups(
  session: DuckSession,
  options: LargeSetOptions,
  unloads: Unloads,
  spine: SpineTable,
): Promise<ReadGroup[]> {
  const { plan, service, chunkBytes = CHUNK_BYTES } = options;
  const wanted = groupsOf(plan, windowedOf(plan, service));
  const ranges = new Map([...rangesOf(plan, service.features, spine)].map(([{ name }, range]) => [name, range]));
  const groups = groupsOfService(plan, service, new Set(ranges.keys()));
  const keys = new Map<string, JobKeys>();
  for (const entity of new Set(groups.map((group) => group.entity))) {
    const key = keyColumn(entity);
    const ids = `SELECT DISTINCT ${key} AS id FROM spine WHERE ${key} IS NOT NULL`;
    keys.set(entity, await putKeys(session, options, entity, ids));
  }
  return together(
    unloads,
    groups.map(async (group): Promise<ReadGroup> => {
      const stream = plan.streams.find(({ name }) => name === group.stream)!;
      const { joinKey } = plan.entities.find(({ name }) => name === group.entity)!;
      const members = wanted.get(group) ?? [];
      const used = new Set(members.flatMap(({ feature }) => feature.slots.map((slot) => group.slots[slot].channel)));
      const fields = [...new Set([joinKey, ...fieldsOfChannels([...used].map((index) => group.channels[index]))])];
      const of = keys.get(group.entity)!;
      const foundOf = () =>
        unloads.once(`found-${group.id}`, async () => {
          const { found, source } = await cataloguedRange(options, stream, ranges.get(stream.name)!, [joinKey]);
          return { sql: found === null ? null : foundSql(joinKey, found, of), chunked: false, told: source };
        });
      const catalogued = () => cataloguedRange(options, stream, seenRange(group, members, spine), fields);
      const eventsOf = async () => {
        const older = await unloads.once(`older-${group.id}`, async () => {
          const { found } = await catalogued();
          return { sql: found === null ? null : olderSql(group.entity, found), chunked: false, told: null };
        });
        const [counted] = await fetchBelow(options.work, older.folder, options.folder);
        const events = await unloads.once(`events-${group.id}`, async () => {
          const { found, bytes } = await catalogued();
          if (found === null || counted === undefined) return { sql: null, chunked: true, told: null };
          const [{ rows }] = await session.rows(`SELECT rows FROM read_parquet(${sqlText(counted)})`);
          const chunks = Math.ceil(Math.max(bytes / chunkBytes, spine.rows / ROWS_PER_PART));
          const sql = chunkedEventsSql(plan, group.entity, found, {
            ...{ keys: of, visibleMs: spine.toMs, older: Number(rows) > 0 },
            chunks: Math.min(MAX_CHUNKS, Math.max(1, chunks)),
          });
          return { sql, chunked: true, told: null };
        });
        const [queries, scannedBytes] = [older.queries + events.queries, older.scannedBytes + events.scannedBytes];
        return { ...events, queries, scannedBytes };
      };
      const [events, found] = await Promise.all([members.length === 0 ? null : eventsOf(), foundOf()]);
      return { group, members, fields, events, found };
    }),
  );
}

/** @returns for each group that is wanted its files of features, on this machine */
async function foldGroups(
  session: DuckSession,
  options: LargeSetOptions,
  groups: readonly ReadGroup[],
  turn: () => void,
): Promise<(readonly [ReadGroup, readonly string[]])[]> {
  const { plan, work, folder, onProgress } = options;
  const chunks = (
    await Promise.all(
      groups.map(async (of) => {
        const objects = of.events === null || of.events.folder === "" ? [] : await work.list(of.events.folder);
        const byChunk = Map.groupBy(objects, ({ key }) => Number(/\/chunk=(\d+)\//.exec(key)?.[1]));
        return [...byChunk].map(([chunk, files]) => ({ of, chunk, files: files.map(({ key }) => key) }));
      }),
    )
  ).flat();
  // Chunks are those of one query: another one of the same group may have cut otherwise.
  const below = ({ events }: ReadGroup) => `features/${events!.folder}`;
  const done = new Set((await work.list("features/")).map(({ key }) => key));
  for (const [i, { of, chunk, files }] of chunks.entries()) {
    const name = `${below(of)}${chunk}.parquet`;
    if (done.has(name)) continue;
    turn();
    const local = join(folder, "chunk");
    mkdirSync(local);
    const out = join(local, "features.parquet");
    const events = await work.fetch(files, local);
    await foldChunk(session, { plan, ...of, events, out });
    await work.putFile(name, out);
    rmSync(local, { recursive: true });
    onProgress?.(SHARES.events + ((SHARES.features - SHARES.events) * (i + 1)) / chunks.length);
  }
  const wanted = groups.filter(({ members }) => members.length > 0);
  return Promise.all(
    wanted.map(async (of) => [of, of.events!.folder === "" ? [] : await fetchBelow(work, below(of), folder)] as const),
  );
}

async function makeParts(
  session: DuckSession,
  options: LargeSetOptions,
  spine: SpineTable,
  features: readonly (readonly [ReadGroup, readonly string[]])[],
  turn: () => void,
): Promise<MadePart> {
  const { work, folder, put, onProgress } = options;
  const parts = Math.ceil(spine.rows / ROWS_PER_PART);
  let made: MadePart | null = null;
  for (let part = 0; part < parts; part++) {
    const name = `parts/${part}.json`;
    const before: MadePart | null = await work.read<MadePart>(name);
    if (before !== null) {
      made = before;
      continue;
    }
    turn();
    const rows = await spinePart(session, part);
    const joined: FeatureColumn[] = [];
    for (const [{ members }, files] of features) {
      joined.push(...(await readFeatures(session, members, files, { from: part * ROWS_PER_PART, rows: rows.rows })));
    }
    const file = join(folder, partName(part));
    const dtypes: MadePart["dtypes"] | null = made?.dtypes ?? null;
    made = await makePart(session, options, { spine, rows, joined, file, dtypes });
    await put(partName(part), file);
    rmSync(file);
    await work.write(name, made);
    onProgress?.(SHARES.features + ((1 - SHARES.features) * (part + 1)) / parts);
  }
  return made!;
}

/** Puts the manifest, which makes it a set, and frees what was only on the way to it. */
async function finish(
  session: DuckSession,
  options: LargeSetOptions,
  spine: KeptSpine,
  groups: readonly ReadGroup[],
  made: MadePart,
): Promise<TrainingManifest> {
  const { plan, service, work, folder } = options;
  const known = new Map<Group, string>();
  for (const { group, found } of groups) {
    const files = await fetchBelow(work, found.folder, folder);
    const from = `FROM read_parquet([${files.map(sqlText)}], hive_partitioning = false)`;
    known.set(group, files.length === 0 ? "SELECT CAST(NULL AS VARCHAR) AS id WHERE FALSE" : `SELECT id ${from}`);
  }
  const entities = await foundKeys(session, plan, service, known);
  const read = [...spine.sources, ...groups.map(({ found }) => found.told)];
  const sources = new Map(read.map((source) => [source.stream, source]));
  const queries = [spine, ...groups.flatMap(({ events, found }) => (events === null ? [found] : [events, found]))];
  const manifest: TrainingManifest = {
    ...manifestOf(options, spine.table, [...sources.values()], entities, made),
    athena: {
      queries: queries.reduce((sum, each) => sum + each.queries, 0),
      scanned_bytes: queries.reduce((sum, each) => sum + each.scannedBytes, 0),
    },
  };
  const file = join(folder, "manifest.json");
  writeFileSync(file, `${JSON.stringify(manifest, null, 2)}\n`);
  await options.put("manifest.json", file);
  await endSet(options, manifest);
  return manifest;
}
