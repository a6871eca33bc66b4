/**
 * Rounds of bulk snapshots: every hash of the store, identities included, an object for each bucket in S3. What has not
 * changed since the round before is taken over by its rev, and a bucket without any change keeps its object. The manifest comes last: a
 * round that is killed anywhere leaves the one before as it was, and the next run goes on with it.
 */

import { forEachLimited } from "../../../adapters/aws/durable-call.ts";
import type { BuildProgress } from "../../../adapters/control-table/build-progress.ts";
import { type BulkRecord, BulkWriter, encodeRecord, readBulk } from "../../../adapters/snapshot/bulk-format.ts";
import {
  groupOf,
  type SnapshotHead,
  type SnapshotManifest,
  type SnapshotObject,
  stateOf,
} from "../../../adapters/snapshot/bulk-manifest.ts";
import { type BulkStore, newRound } from "../../../adapters/snapshot/bulk-store.ts";
import {
  type KnownHash,
  keyCount,
  keysByBucket,
  knownHashes,
  readHashes,
} from "../../../adapters/valkey/bucket-walk.ts";
import type { ValkeyConnection } from "../../../adapters/valkey/connection.ts";
import type { BucketHead, ControlHashes, GroupControl } from "../../../adapters/valkey/control.ts";
import { ownersOf, storeMoment } from "../../../adapters/valkey/hash-walk.ts";
import { type Birth, BUCKETS, decodeGroupControl, encodeGroupControl } from "../../../adapters/valkey/layout.ts";
import type { Lock } from "../../../core/compile/lock.ts";
import { RecordError } from "../../../core/errors.ts";
import type { Group, Plan } from "../../../core/plan.ts";

export interface BulkPorts {
  readonly plan: Plan;
  readonly lock: Lock;
  readonly connection: ValkeyConnection;
  readonly controls: Pick<ControlHashes, "heads" | "group">;
  readonly snapshots: BulkStore;
  readonly progress: Pick<BuildProgress, "get" | "imports">;
  /** Rounds that began longer ago are removed, but for the newest. */
  readonly keepMs: number;
  /** Epoch milliseconds. */
  readonly clock: () => number;
}

export interface BulkReport {
  /** `held` while a bucket is not open; `unfinished` when time was up, or the store changed hands: the next run goes on. */
  readonly outcome: "complete" | "unfinished" | "held";
  readonly round: string | null;
  readonly entities: number;
  /** Of the buckets' objects, those that this run wrote; the rest were taken over. */
  readonly written: number;
  readonly bytes: number;
  /** When the newest complete round began, on the store's clock; null when there is none. */
  readonly coveredMs: number | null;
}

const BUCKETS_AT_ONCE = 6;
/** Keys that are held at once: a pass lists the keys of so many buckets that it stays below. */
const KEYS_AT_ONCE = 1_000_000;
/** A round that was cut off longer ago is begun anew: its buckets would be of times too far apart to be of use. */
const RESUME_MS = 3_600_000;

/** @param deadlineMs clock at which no further bucket is begun. @throws InfrastructureError, RecordError of a manifest */
export async function bulkRound(ports: BulkPorts, deadlineMs: number): Promise<BulkReport> {
  const { snapshots, clock } = ports;
  const rounds = await snapshots.rounds();
  const before = await newestWhole(ports, rounds);
  const report = (outcome: BulkReport["outcome"], more: Partial<BulkReport> = {}): BulkReport => ({
    ...{ outcome, round: null, entities: 0, written: 0, bytes: 0 },
    coveredMs: before === null ? null : Math.floor(before.started_us / 1_000),
    ...more,
  });
  const heads = await ports.controls.heads();
  if (!isOpen(heads)) return report("held");
  const head = await beginRound(ports, heads, rounds.at(-1));
  const done = new Map((await snapshots.objects(head.round)).map((object) => [object.bucket, object]));
  // Under other primaries, or in another epoch, a rev may stand for something else.
  const known = before?.epoch === head.epoch && before.runs === head.runs ? before : null;
  const walk = new Walk(ports, head, known, done);
  const through = await walk.run(deadlineMs);
  const counts = { round: head.round, ...walk.counts() };
  const after = await ports.controls.heads();
  const same =
    isOpen(after) && heads.every((one, i) => isSame(one, after[i])) && (await ownersOf(ports.connection)) === head.runs;
  // A bucket that was closed or filled meanwhile may have been read half: none of it is taken for a round.
  if (!same) return report("held", counts);
  if (!through) return report("unfinished", counts);
  const groups = await groupsAfter(ports, head);
  await snapshots.putManifest({ ...head, groups, completed_ms: clock(), objects: walk.objects() });
  const keepFrom = newRound(head.started_us - ports.keepMs * 1_000, 0).slice(0, "20260101T000000000Z".length);
  await snapshots.prune(keepFrom);
  return report("complete", { ...counts, coveredMs: Math.floor(head.started_us / 1_000) });
}

const isOpen = (heads: readonly (BucketHead | null)[]): heads is BucketHead[] =>
  heads.every((head) => head?.state === "ok" && head.epoch === heads[0]!.epoch);

const isSame = (a: BucketHead | null, b: BucketHead | null): boolean =>
  a !== null && b !== null && a.epoch === b.epoch && a.restore === b.restore;

/** The newest manifest that can be read; one that is damaged is as if it had not been. */
async function newestWhole({ snapshots }: BulkPorts, rounds: readonly string[]): Promise<SnapshotManifest | null> {
  for (const round of rounds.toReversed()) {
    try {
      return await snapshots.manifest(round);
    } catch (error) {
      if (!(error instanceof RecordError)) throw error;
    }
  }
  return null;
}

/** The round under way where it may go on, else a new one. */
async function beginRound(
  ports: BulkPorts,
  heads: readonly BucketHead[],
  newest: string | undefined,
): Promise<SnapshotHead> {
  const { plan, lock, connection, controls, snapshots, progress } = ports;
  // Before anything else is read: whatever was visible by then is in the snapshot.
  const { clockUs, runs } = await storeMoment(connection);
  const [{ epoch }] = heads;
  const cutOff = await snapshots.unfinished(newest);
  const goesOn =
    cutOff !== null &&
    cutOff.epoch === epoch &&
    cutOff.runs === runs &&
    cutOff.layout === plan.layoutHash &&
    clockUs - cutOff.started_us < RESUME_MS * 1_000;
  if (goesOn) return cutOff;
  const streams: Record<string, { imports: number; built: number | null }> = {};
  for (const { name } of plan.streams) {
    const build = await progress.get(name);
    const built = build?.state === "done" && build.tenant === null ? build.imports : null;
    streams[name] = { imports: await progress.imports(name), built };
  }
  const groups = await Promise.all(
    plan.groups.map(async (group) => {
      const all = await controls.group(group);
      // One that a deployment brings just now: without a seal in some bucket, it is unknown to the snapshot.
      if (!all.every((control) => control !== null)) return [];
      const hex = all.map(({ sealMs, births }) => encoded(group, sealMs, births));
      const of = { entity: group.entity, stream: group.stream, base_ms: group.baseMs };
      return [[group.name, groupOf(of, hex)] as const];
    }),
  );
  const head: SnapshotHead = {
    ...{ version: 1, round: newRound(clockUs, epoch), epoch, layout: plan.layoutHash, lock, runs, started_us: clockUs },
    groups: Object.fromEntries(groups.flat()),
    streams,
  };
  await snapshots.putHead(head);
  return head;
}

const encoded = (group: Group, sealMs: number, births: readonly Birth[]): string =>
  encodeGroupControl(Math.floor(sealMs / group.baseMs), births).toString("hex");

/** Seals as they were before the first key; each slot as young as it has been since: a deployment may have unset it meanwhile. */
async function groupsAfter({ plan, controls }: BulkPorts, head: SnapshotHead): Promise<SnapshotHead["groups"]> {
  const known = plan.groups.filter(({ name }) => name in head.groups);
  const groups = await Promise.all(
    known.map(async (group) => {
      const begun = head.groups[group.name];
      const now = await controls.group(group);
      const hex = now.map((control, bucket) => {
        const { sealIndex, births } = decodeGroupControl(Buffer.from(begun.others[bucket] ?? begun.control, "hex"));
        return encodeGroupControl(sealIndex, youngest(births, control)).toString("hex");
      });
      return [group.name, groupOf(begun, hex)] as const;
    }),
  );
  return Object.fromEntries(groups);
}

const youngest = (births: readonly Birth[], now: GroupControl | null): Birth[] =>
  births.flatMap((birth) => {
    const later = now?.births.find(({ object, slot }) => object === birth.object && slot === birth.slot);
    return later === undefined ? [] : [{ ...birth, baseIndex: Math.max(birth.baseIndex, later.baseIndex) }];
  });

class Walk {
  private readonly ports: BulkPorts;
  private readonly head: SnapshotHead;
  private readonly before: SnapshotManifest | null;
  private readonly done: Map<number, SnapshotObject>;
  private written = 0;
  private bytes = 0;

  constructor(
    ports: BulkPorts,
    head: SnapshotHead,
    before: SnapshotManifest | null,
    done: Map<number, SnapshotObject>,
  ) {
    this.ports = ports;
    this.head = head;
    this.before = before;
    this.done = done;
  }

  objects(): SnapshotObject[] {
    return [...this.done.values()].sort((a, b) => a.bucket - b.bucket);
  }

  counts(): Pick<BulkReport, "entities" | "written" | "bytes"> {
    const entities = [...this.done.values()].reduce((sum, { records }) => sum + records, 0);
    return { entities, written: this.written, bytes: this.bytes };
  }

  /** @returns false when time was up */
  async run(deadlineMs: number): Promise<boolean> {
    const { connection, clock } = this.ports;
    const passes = Math.max(1, Math.ceil((await keyCount(connection)) / KEYS_AT_ONCE));
    const width = Math.ceil(BUCKETS / passes);
    for (let from = 0; from < BUCKETS; from += width) {
      const buckets = Array.from({ length: Math.min(width, BUCKETS - from) }, (_, i) => from + i);
      const left = buckets.filter((bucket) => !this.done.has(bucket));
      if (left.length === 0) continue;
      const keys = await keysByBucket(connection, from, from + width);
      await forEachLimited(left, BUCKETS_AT_ONCE, async (bucket) => {
        if (clock() > deadlineMs) return;
        this.done.set(bucket, await this.keep(bucket, [...(keys.get(bucket) ?? [])]));
        keys.delete(bucket);
      });
      if (clock() > deadlineMs && this.done.size < BUCKETS) return false;
    }
    return true;
  }

  private async keep(bucket: number, keys: readonly string[]): Promise<SnapshotObject> {
    const { connection, snapshots } = this.ports;
    const { round, epoch, layout, started_us } = this.head;
    const there = await knownHashes(connection, keys);
    const object = this.before?.objects[bucket];
    if (object !== undefined && object.records === there.length && object.state === stateOf(there)) return object;
    if (there.length === 0) return { bucket, key: null, bytes: 0, records: 0, state: stateOf([]) };
    const records = object === undefined ? new Map<string, BulkRecord>() : await this.recordsOf(object);
    const isKept = ({ key, rev }: KnownHash): boolean => rev !== null && records.get(key)?.rev === rev;
    const writer = new BulkWriter({ bucket, epoch, round, layout, taken_ms: Math.floor(started_us / 1_000) });
    const written: { key: string; rev: number | null }[] = there.filter(isKept);
    for (const { key } of written) writer.add(records.get(key)!.bytes);
    const changed = there.filter((hash) => !isKept(hash));
    for await (const hashes of readHashes(connection, changed)) {
      for (const hash of hashes) {
        writer.add(encodeRecord(hash));
        written.push({ key: hash.key, rev: hash.rev });
      }
    }
    const bytes = writer.finish();
    this.written++;
    this.bytes += bytes.length;
    return snapshots.putObject(round, { bucket, records: writer.records, state: stateOf(written) }, bytes);
  }

  /** By key; none of an object that is gone or damaged: then all of its bucket is read anew. */
  private async recordsOf({ key }: SnapshotObject): Promise<Map<string, BulkRecord>> {
    const records = new Map<string, BulkRecord>();
    try {
      const bytes = key === null ? null : await this.ports.snapshots.get(key);
      if (bytes !== null)
        for (const frame of readBulk(bytes)) for (const record of frame) records.set(record.key, record);
    } catch (error) {
      if (!(error instanceof RecordError)) throw error;
      records.clear();
    }
    return records;
  }
}
