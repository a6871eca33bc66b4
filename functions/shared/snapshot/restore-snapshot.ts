/**
 * Writes a bulk snapshot back into the online store, bucket by bucket: all of them under a new epoch, or some of a store that lives on. Each bucket is
 * blocked for it first, and open for replays once all of its hashes are there. May be ended anywhere: the next call goes on.
 * What has arrived, been repaired or pushed since is brought by those who call: see `cli/recovery.ts`.
 */
import { randomUUID } from "node:crypto";
import { forEachLimited } from "../../../adapters/aws/durable-call.ts";
import type { BuildProgress } from "../../../adapters/control-table/build-progress.ts";
import {
  type AbandonedRounds,
  type ControlTable,
  RESTORE_LEASE,
  type RestoreRecord,
} from "../../../adapters/control-table/control-table.ts";
import { bulkDamage, readBulk } from "../../../adapters/snapshot/bulk-format.ts";
import type { SnapshotManifest, SnapshotObject } from "../../../adapters/snapshot/bulk-manifest.ts";
import type { BulkStore } from "../../../adapters/snapshot/bulk-store.ts";
import { type BucketGroups, BucketLoader } from "../../../adapters/valkey/bucket-load.ts";
import type { ValkeyConnection } from "../../../adapters/valkey/connection.ts";
import type { BucketHead, ControlHashes } from "../../../adapters/valkey/control.ts";
import { storeMoment } from "../../../adapters/valkey/hash-walk.ts";
import { BUCKETS, parseEntityKey } from "../../../adapters/valkey/layout.ts";
import type { Lock } from "../../../core/compile/lock.ts";
import { FreshetError, InfrastructureError } from "../../../core/errors.ts";
import type { Plan } from "../../../core/plan.ts";
import { restoredControls, SNAPSHOT_SKEW_MS } from "./restored-controls.ts";
import { olderRound, roundNamed } from "./rounds.ts";

export interface SnapshotRestorePorts {
  readonly plan: Plan;
  readonly lock: Lock;
  readonly connection: ValkeyConnection;
  readonly controls: ControlHashes;
  readonly table: ControlTable;
  readonly snapshots: BulkStore;
  /** What was imported into a stream's archive, built anew and rebuilt since. */
  readonly progress: Pick<BuildProgress, "get" | "imports" | "rebuiltMs">;
  readonly loadFunction: () => Promise<void>;
  /** What was pushed is pushed again from its archive, some time after. */
  readonly repeatPushed: () => Promise<void>;
  /** Epoch milliseconds. */
  readonly clock: () => number;
}

export interface RestoreRequest {
  /** A round's name, or `latest`. */
  readonly snapshot: string;
  /** @default all */
  readonly buckets?: readonly number[];
  /** Takes the place of data that is served now. @default refused */
  readonly replaceLive?: boolean;
  /** Begins anew instead of going on with a restore that was cut off. */
  readonly restart?: boolean;
  /** Goes on with a restore that was cut off, and begins none. */
  readonly resume?: boolean;
}

export interface RestoreReport {
  /**
   * `more`: time was up, call again. `waiting`: another call is at it. `opened`: the store is open again, and nobody has said that what was
   * repaired since is there. `none`: there is nothing to go on with.
   */
  readonly state: "loaded" | "more" | "waiting" | "opened" | "none";
  readonly snapshot: string;
  /** When it began, on the store's clock: repairs, puts and pushes that were visible 60 s before need no repeating. */
  readonly startedMs: number;
  readonly epoch: number;
  readonly buckets: number;
  readonly bucketsDone: number;
  readonly records: number;
  /** Buckets whose object was damaged or gone: why, and the older round that was taken. */
  readonly older: Readonly<Record<string, string>>;
  /** Streams of which single entities were rebuilt since the snapshot, to mend what was wrong: the restore has undone that. */
  readonly undone: readonly string[];
}

/** A call that was killed keeps the next one waiting for so long. */
const LEASE_MS = 30_000;
const RENEW_MS = 10_000;
const BUCKETS_AT_ONCE = 4;

/**
 * @param deadlineMs clock at which no further bucket is begun
 * @throws FreshetError `store_live`, `snapshot_incomplete`; RecordError of the manifest; InfrastructureError
 */
export async function restoreSnapshot(
  ports: SnapshotRestorePorts,
  request: RestoreRequest,
  deadlineMs: number,
): Promise<RestoreReport> {
  const { table, clock } = ports;
  const holder = `restore ${randomUUID().slice(0, 8)}`;
  const renew = () => table.takeLease(RESTORE_LEASE, { holder, expiresMs: clock() + LEASE_MS }, clock());
  if (!(await renew())) return reportOf(ports, await table.getRestore(), "waiting");
  const timer = setInterval(() => void renew().catch(() => {}), RENEW_MS);
  try {
    const standing = request.restart ? null : await cutOff(ports);
    if (standing === null && request.resume) return await openedOrNone(ports);
    const record = standing ?? (await begin(ports, request));
    return await run(ports, record, deadlineMs);
  } finally {
    clearInterval(timer);
    await table.releaseLease(RESTORE_LEASE, holder);
  }
}

/** The restore under way, where the store is still the one that it writes to; null otherwise. */
async function cutOff({ table, controls }: SnapshotRestorePorts): Promise<RestoreRecord | null> {
  const record = await table.getRestore();
  if (record === null || record.state === "done") return null;
  const heads = await controls.heads();
  if (areOthersLost(record, heads)) return null;
  if (record.state === "begun") return record;
  const own = bucketsOf(record).map((bucket) => heads[bucket]);
  const isUnderWay = own.every((head) => isOf(record, head)) && own.some((head) => head!.state !== "ok");
  return isUnderWay ? record : null;
}

async function openedOrNone(ports: SnapshotRestorePorts): Promise<RestoreReport> {
  const record = await ports.table.getRestore();
  const heads = await ports.controls.heads();
  const isOpened =
    record?.state === "loaded" &&
    bucketsOf(record).every((bucket) => isOf(record, heads[bucket])) &&
    !areOthersLost(record, heads);
  return isOpened ? reportOf(ports, record, "opened") : reportOf(ports, null, "none");
}

/** All that the newest restore lacked is in the store. */
export async function finishRestore({ table }: Pick<SnapshotRestorePorts, "table">): Promise<null> {
  const record = await table.getRestore();
  if (record?.state === "loaded") await table.putRestore({ ...record, state: "done" });
  return null;
}

const bucketsOf = ({ buckets }: Pick<RestoreRecord, "buckets">): readonly number[] =>
  buckets ?? Array.from({ length: BUCKETS }, (_, bucket) => bucket);
const isOf = ({ id, epoch }: RestoreRecord, head: BucketHead | null): boolean =>
  head !== null && head.restore === id && head.epoch === epoch;

/** Where the store was lost beside a restore of some buckets, that restore does not mend it: all of them are to be restored. */
const areOthersLost = (
  { buckets, epoch }: Pick<RestoreRecord, "buckets" | "epoch">,
  heads: readonly (BucketHead | null)[],
): boolean => buckets !== null && heads.some((head, bucket) => !buckets.includes(bucket) && head?.epoch !== epoch);

async function begin(ports: SnapshotRestorePorts, request: RestoreRequest): Promise<RestoreRecord> {
  const { table, controls, snapshots, clock } = ports;
  const store = await table.getStore();
  if (store === null)
    throw new InfrastructureError("store_not_ready", "there was never a store to restore", {
      repair: "run `freshet up`",
    });
  const buckets = request.buckets === undefined ? null : [...new Set(request.buckets)].sort((a, b) => a - b);
  const heads = await controls.heads();
  const live = bucketsOf({ buckets }).filter((bucket) => isLive(heads[bucket], store.epoch));
  // A store of which a part is gone is lost as a whole; what is left of it is no longer served.
  const isWhole = buckets !== null || heads.every((head) => isLive(head, store.epoch));
  if (live.length > 0 && isWhole && !request.replaceLive) throw storeLive(live.length);
  if (areOthersLost({ buckets, epoch: store.epoch }, heads)) {
    throw new FreshetError("store_lost", "other buckets of the store are lost too", {
      field: "bucket",
      repair: "restore all of them: `freshet recover`",
    });
  }
  const abandoned = await table.getAbandoned();
  const snapshot = await roundNamed(snapshots, request.snapshot, abandoned);
  const record: RestoreRecord = {
    ...{ id: randomUUID(), snapshot, buckets, older: {}, records: 0, startedMs: clock() },
    epoch: buckets === null ? store.epoch + 1 : store.epoch,
    state: "begun",
  };
  // Before anything is dropped: that it can be restored at all.
  const manifest = await snapshots.manifest(snapshot);
  const wanted = bucketsOf(record);
  const gone = (await snapshots.missing(manifest.objects)).filter(({ bucket }) => wanted.includes(bucket));
  for (const object of gone)
    if ((await olderRound(snapshots, manifest, object, abandoned)) === null)
      throw incomplete(object, "it is not there");
  await restoredControls(ports, manifest);
  await table.putRestore(record);
  return record;
}

const isLive = (head: BucketHead | null, epoch: number): boolean =>
  head !== null && head.epoch === epoch && (head.state === "ok" || head.state === "failover");

const storeLive = (buckets: number): FreshetError =>
  new FreshetError("store_live", `${buckets} buckets are whole and served: nothing is dropped without --replace-live`, {
    repair:
      "`freshet recover` does what the store's state needs; with --replace-live they are written over, and their reads and applies wait meanwhile",
  });

const incomplete = ({ bucket, key }: SnapshotObject, why: string): FreshetError =>
  new FreshetError(
    "snapshot_incomplete",
    `object ${key} of bucket ${bucket} cannot be restored, and no older round has another: ${why}`,
    {
      field: "snapshot",
      repair: "restore another round: `freshet restore --list`",
    },
  );

async function run(ports: SnapshotRestorePorts, from: RestoreRecord, deadlineMs: number): Promise<RestoreReport> {
  const { connection, controls, table, snapshots, clock } = ports;
  let record = from;
  const abandoned = await table.getAbandoned();
  const manifest = await snapshots.manifest(record.snapshot);
  const loader = new BucketLoader(connection, { epoch: record.epoch, restore: record.id });
  if (record.state === "begun") {
    await block(ports, record, manifest, loader);
    await table.abandonRounds({ after: record.snapshot, beforeUs: (await storeMoment(connection)).clockUs });
    record = { ...record, state: "loading" };
    await table.putRestore(record);
  }
  const source = { manifest, controlsOf: await restoredControls(ports, manifest) };
  const heads = await controls.heads();
  const left = bucketsOf(record).filter((bucket) => heads[bucket]?.state === "loading");
  const older: Record<string, string> = { ...record.older };
  let records = record.records;
  const refused: FreshetError[] = [];
  await forEachLimited(left, BUCKETS_AT_ONCE, async (bucket) => {
    if (clock() > deadlineMs) return;
    try {
      const loaded = await loadBucket(ports, loader, source, bucket, abandoned);
      records += loaded.records;
      if (loaded.older !== null) older[bucket] = loaded.older;
    } catch (error) {
      // It stays blocked, and says so in the end; the others do not wait for it.
      if (!(error instanceof FreshetError) || error.code !== "snapshot_incomplete") throw error;
      refused.push(error);
    }
  });
  const now = await controls.heads();
  const isDone = bucketsOf(record).every((bucket) => isOf(record, now[bucket]) && now[bucket]!.state !== "loading");
  record = { ...record, older, records, state: isDone ? "loaded" : "loading" };
  await table.putRestore(record);
  if (refused.length > 0) throw refused[0];
  return reportOf(ports, record, isDone ? "loaded" : "more");
}

/** Makes place for it. All of the store: under the next epoch, so that no call of the one before can write any more. */
async function block(
  ports: SnapshotRestorePorts,
  record: RestoreRecord,
  manifest: SnapshotManifest,
  loader: BucketLoader,
): Promise<void> {
  const { controls, table, loadFunction } = ports;
  const wanted = bucketsOf(record);
  const controlsOf = await restoredControls(ports, manifest);
  await loadFunction();
  if (record.buckets === null) await controls.drop({ pushed: true });
  await loader.block(wanted, controlsOf);
  // After the marks, which a run that is under way takes away when it ends.
  await ports.repeatPushed();
  if (record.buckets !== null) await loader.clear(wanted);
  else if ((await table.getStore())?.epoch === record.epoch - 1) await table.nextEpoch(record.epoch - 1);
}

/** Of a bucket that had nothing to keep. */
const NOTHING = Buffer.alloc(0);

/** A round, and what it begins buckets with. */
interface Source {
  readonly manifest: SnapshotManifest;
  readonly controlsOf: (bucket: number) => BucketGroups;
}

/** Loads a bucket from the first object that is whole: the round's, or an older one's. @throws FreshetError `snapshot_incomplete` */
async function loadBucket(
  ports: SnapshotRestorePorts,
  loader: BucketLoader,
  newest: Source,
  bucket: number,
  abandoned: readonly AbandonedRounds[],
): Promise<{ records: number; older: string | null }> {
  const { plan, snapshots } = ports;
  const known = new Set(plan.groups.map(({ entity, stream }) => `${entity} ${stream}`));
  let reason = "";
  for (let source: Source | null = newest; source !== null; ) {
    const object: SnapshotObject = source.manifest.objects[bucket];
    const bytes = object.key === null ? NOTHING : await snapshots.get(object.key);
    const damage = bytes === null ? "it is not there" : bytes === NOTHING ? null : bulkDamage(bytes, bucket);
    if (bytes === null || damage !== null) {
      reason ||= `${object.key}: ${damage}`;
      const manifest: SnapshotManifest | null = await olderRound(snapshots, source.manifest, object, abandoned);
      source = manifest === null ? null : { manifest, controlsOf: await restoredControls(ports, manifest) };
      continue;
    }
    let records = 0;
    for (const frame of bytes === NOTHING ? [] : readBulk(bytes)) {
      // Of groups that this plan has no more nothing is read, folded or swept.
      const wanted = frame.filter(({ key }) => {
        const parts = parseEntityKey(Buffer.from(key));
        return parts === null || known.has(`${parts.entity} ${parts.stream}`);
      });
      if (!(await loader.load(bucket, wanted))) throw overtaken(bucket);
      records += wanted.length;
    }
    if (!(await loader.finish(bucket, source.controlsOf(bucket)))) throw overtaken(bucket);
    return { records, older: source === newest ? null : `${reason}; restored from round ${source.manifest.round}` };
  }
  throw incomplete(newest.manifest.objects[bucket], reason);
}

const overtaken = (bucket: number): InfrastructureError =>
  new InfrastructureError("restore_overtaken", `bucket ${bucket} is no longer blocked for this restore`, {
    repair: "another restore has begun, or the store was lost once more: look at `freshet status`",
  });

async function reportOf(
  { plan, controls, snapshots, progress }: SnapshotRestorePorts,
  record: RestoreRecord | null,
  state: RestoreReport["state"],
): Promise<RestoreReport> {
  if (record === null) {
    const none = { snapshot: "", startedMs: 0, epoch: 0, buckets: 0, bucketsDone: 0, records: 0 };
    return { state, ...none, older: {}, undone: [] };
  }
  const { snapshot, epoch, older, records } = record;
  const heads = await controls.heads();
  const buckets = bucketsOf(record);
  const done = buckets.filter((bucket) => isOf(record, heads[bucket]) && heads[bucket]!.state !== "loading");
  const rounds = [snapshot, ...Object.values(older).map((told) => told.slice(told.lastIndexOf(" ") + 1))];
  const started = await Promise.all(
    [...new Set(rounds)].map(async (round) => (await snapshots.manifest(round)).started_us),
  );
  const startedMs = Math.floor(Math.min(...started) / 1_000);
  const undone: string[] = [];
  for (const { name } of plan.streams)
    if ((await progress.rebuiltMs(name)) > startedMs - SNAPSHOT_SKEW_MS) undone.push(name);
  const counts = { buckets: buckets.length, bucketsDone: done.length, records };
  return { state, snapshot, startedMs, epoch, ...counts, older, undone };
}
