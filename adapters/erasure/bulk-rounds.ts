/**
 * Takes entities out of bulk snapshots. An object is never overwritten: what is left of one goes under another name, then every manifest that names
 * the old one is written with the new name, and at last the old one is removed. Ended anywhere, a round is whole all the time, and it goes on.
 */
import type { ErasedEntity } from "../../core/erasure.ts";
import { RecordError } from "../../core/errors.ts";
import { type BulkRecord, BulkWriter, readBulk, readBulkHeader } from "../snapshot/bulk-format.ts";
import { type SnapshotManifest, type SnapshotObject, stateOf } from "../snapshot/bulk-manifest.ts";
import { type BulkStore, ROUNDS } from "../snapshot/bulk-store.ts";
import { bucketOf, parseEntityKey, parsePushedKey } from "../valkey/layout.ts";
import { NOTHING_REWRITTEN, type ObjectsPort, type RewriteReport, removeObject, type WalkOptions } from "./rewrite.ts";

export interface ErasedFromRounds {
  readonly tenant: string;
  readonly subjects: readonly ErasedEntity[];
  /** Event time before which nothing counts. */
  readonly beforeMs: number;
}

/** Field of a tombstone: of an entity's hash, and of what was pushed. Its value begins with the time before which nothing counts. */
export const TOMBSTONES: ReadonlySet<string> = new Set(["e", "!"]);

/**
 * @returns false when time was up first: it goes on after the round, or the object, that `onStep` was told of
 * @throws InfrastructureError `snapshots_unavailable`
 */
export async function eraseRounds(
  { snapshots, objects }: { readonly snapshots: BulkStore; readonly objects: ObjectsPort },
  erased: ErasedFromRounds,
  { after, outOfTime, onStep }: WalkOptions,
): Promise<boolean> {
  const { tenant, subjects } = erased;
  const buckets = new Set(subjects.map(({ entity, id }) => bucketOf(tenant, entity, id)));
  let first = true;
  const isOver = (): boolean => {
    // A run that is given no time gets on all the same.
    const over = !first && (outOfTime?.() ?? false);
    first = false;
    return over;
  };
  if (after === undefined || !after.startsWith(ROUNDS)) {
    const known = new Map<string, SnapshotObject>();
    for (const round of (await snapshots.rounds()).filter((name) => after === undefined || name > after)) {
      if (isOver()) return false;
      const report: RewriteReport = { ...NOTHING_REWRITTEN, unreadable: [] };
      await rewriteRound(snapshots, erased, { round, buckets, known }, report);
      await onStep?.(round, report);
    }
  }
  // Last: until no manifest names one any more it is what its rounds are restored from.
  const named = await namedIn(snapshots, buckets);
  const left = (await snapshots.objectsOf(buckets)).filter(
    (key) => !named.has(key) && (after === undefined || key > after),
  );
  for (const key of left) {
    if (isOver()) return false;
    const report: RewriteReport = { ...NOTHING_REWRITTEN, looked: 1, unreadable: [] };
    const bytes = await snapshots.get(key);
    const found = bytes === null ? null : recordsOf(bytes, key, report);
    if (found?.some((record) => isErased(record, erased))) {
      await removeObject(objects, key);
      report.rewritten++;
    }
    await onStep?.(key, report);
  }
  return true;
}

async function rewriteRound(
  snapshots: BulkStore,
  erased: ErasedFromRounds,
  at: { readonly round: string; readonly buckets: ReadonlySet<number>; readonly known: Map<string, SnapshotObject> },
  report: RewriteReport,
): Promise<void> {
  const manifest = await manifestOf(snapshots, at.round, report);
  if (manifest === null) return;
  const objects = [...manifest.objects];
  for (const bucket of at.buckets) {
    const object = objects[bucket]!;
    if (object.key === null) continue;
    let left = at.known.get(object.key);
    if (left === undefined) at.known.set(object.key, (left = await rewritten(snapshots, erased, object, report)));
    objects[bucket] = left;
  }
  if (objects.some((object, bucket) => object !== manifest.objects[bucket]))
    await snapshots.putManifest({ ...manifest, objects });
}

/** @returns the object itself where it holds nothing of them, or cannot be read */
async function rewritten(
  snapshots: BulkStore,
  erased: ErasedFromRounds,
  object: SnapshotObject,
  report: RewriteReport,
): Promise<SnapshotObject> {
  const { bucket, key } = object;
  const bytes = await snapshots.get(key!);
  report.looked++;
  const records = bytes === null ? null : recordsOf(bytes, key!, report);
  if (bytes === null || records === null) return object;
  const kept = records.filter((record) => !isErased(record, erased));
  if (kept.length === records.length) return object;
  report.rewritten++;
  report.rows += records.length - kept.length;
  const state = stateOf(kept);
  if (kept.length === 0) return { bucket, key: null, bytes: 0, records: 0, state };
  const { header } = readBulkHeader(bytes);
  const writer = new BulkWriter(header);
  for (const record of kept) writer.add(record.bytes);
  const round = key!.slice(ROUNDS.length, key!.indexOf("/", ROUNDS.length));
  return snapshots.putObject(round, { bucket, records: writer.records, state }, writer.finish());
}

/** Null for a damaged one, which is named and stays: nobody else can read it either. */
function recordsOf(bytes: Buffer, key: string, report: RewriteReport): BulkRecord[] | null {
  try {
    return [...readBulk(bytes)].flat();
  } catch (error) {
    if (!(error instanceof RecordError)) throw error;
    report.unreadable.push(key);
    return null;
  }
}

async function manifestOf(
  snapshots: BulkStore,
  round: string,
  report: RewriteReport,
): Promise<SnapshotManifest | null> {
  try {
    return await snapshots.manifest(round);
  } catch (error) {
    if (!(error instanceof RecordError)) throw error;
    // One that has been removed meanwhile is none.
    if (error.code !== "snapshot_missing") report.unreadable.push(round);
    return null;
  }
}

async function namedIn(snapshots: BulkStore, buckets: ReadonlySet<number>): Promise<ReadonlySet<string | null>> {
  const named = new Set<string | null>();
  for (const round of await snapshots.rounds()) {
    const manifest = await manifestOf(snapshots, round, { ...NOTHING_REWRITTEN, unreadable: [] });
    for (const bucket of buckets) named.add(manifest?.objects[bucket]?.key ?? null);
  }
  return named;
}

/** Whether a record is of one of them, and from before its tombstone. */
function isErased({ key, fields }: BulkRecord, { tenant, subjects, beforeMs }: ErasedFromRounds): boolean {
  const name = Buffer.from(key);
  const parts = parseEntityKey(name) ?? parsePushedKey(name);
  if (parts?.tenant !== tenant) return false;
  if (!subjects.some(({ entity, id }) => entity === parts.entity && id === parts.id)) return false;
  for (let at = 0; at < fields.length; ) {
    const value = at + 1 + fields[at]!;
    const field = fields.toString("latin1", at + 1, value);
    if (TOMBSTONES.has(field) && fields.readDoubleLE(value + 4) >= beforeMs) return false;
    at = value + 4 + fields.readUInt32LE(value);
  }
  return true;
}
