/** What buckets' control hashes begin with when a snapshot is restored: seals as the manifest has them, births as far as they still hold. */
import { restartedUntil } from "../../../adapters/control-table/build-progress.ts";
import { controlIn, type SnapshotManifest } from "../../../adapters/snapshot/bulk-manifest.ts";
import type { BucketGroups } from "../../../adapters/valkey/bucket-load.ts";
import { birthsOf } from "../../../adapters/valkey/control.ts";
import { type Birth, decodeGroupControl, encodeGroupControl } from "../../../adapters/valkey/layout.ts";
import { followLock, type SlotName } from "../../../core/compile/lock-history.ts";
import { isObject } from "../../../core/operators/accumulators.ts";
import type { Group } from "../../../core/plan.ts";
import type { SnapshotRestorePorts } from "./restore-snapshot.ts";
import { sealsOf } from "./rounds.ts";

type Ports = Pick<SnapshotRestorePorts, "plan" | "lock" | "table" | "progress" | "clock">;

/** Clocks of whoever writes such times and of the store, by which a snapshot begins, differ by less. */
export const SNAPSHOT_SKEW_MS = 60_000;

/**
 * @returns the control of each group of this plan, for a bucket
 * @throws DefinitionError `plan_lock_contradicts` when the snapshot's bytes mean something else under this plan
 */
export async function restoredControls(
  ports: Ports,
  manifest: SnapshotManifest,
): Promise<(bucket: number) => BucketGroups> {
  const { plan, lock, progress, clock } = ports;
  const { overclaimed } = followLock(manifest.lock, lock);
  const nowMs = clock();
  const groups = await Promise.all(
    plan.groups.map(async (group) => {
      const known = manifest.groups[group.name];
      if (known === undefined) return [group.name, await newGroup(ports, manifest, group, nowMs)] as const;
      // What was imported and not in the store when the snapshot was taken is in none of its tiles: a backfill builds it.
      const imported = await progress.imports(group.stream);
      const isUnbuilt = imported > 0 && manifest.streams[group.stream]?.built !== imported;
      // Somebody held its tiles for wrong since, and had them built anew: they are not served again as if they were right.
      const build = await progress.get(group.stream);
      const isOutdated = build !== null && restartedUntil(build) > manifest.started_us / 1_000 - SNAPSHOT_SKEW_MS;
      const lacks = isUnbuilt || isOutdated;
      const youngest = lacks ? Math.ceil(nowMs / group.baseMs) : 0;
      const control = (bucket: number): Buffer => {
        const { sealIndex, births } = decodeGroupControl(controlIn(known, bucket));
        const still = births.filter(
          (birth) => isOf(group, birth) && !overclaimed.some((slot) => is(slot, group, birth)),
        );
        const bounded = still.map((birth) => ({ ...birth, baseIndex: Math.max(birth.baseIndex, youngest) }));
        return encodeGroupControl(sealIndex, bounded);
      };
      return [group.name, control] as const;
    }),
  );
  return (bucket) => new Map(groups.map(([name, control]) => [name, control(bucket)]));
}

const isOf = ({ slots }: Group, { object, slot }: Birth): boolean =>
  slots.some(({ id, kind }) => id === slot && isObject(kind) === object);
const is = (slot: SlotName, { name }: Group, birth: Birth): boolean =>
  slot.group === name && slot.object === birth.object && slot.id === birth.slot;

/**
 * A group that the snapshot knew nothing of: counts from now on, or from its beginning when its stream is younger than the snapshot. Sealed where its
 * stream is, as control would have it: were it sealed as far as a bucket's other groups, what an earlier restore has counted for it would be missing.
 */
async function newGroup(
  { table }: Ports,
  manifest: SnapshotManifest,
  group: Group,
  nowMs: number,
): Promise<() => Buffer> {
  const sealMs = sealsOf(manifest)[group.stream];
  const record = await table.getStream(group.stream);
  if (sealMs === undefined && record !== null && record.createdAtMs * 1_000 > manifest.started_us)
    return () => encodeGroupControl(record.seal0, birthsOf(group, 0));
  const born = birthsOf(group, Math.ceil(nowMs / group.baseMs));
  const sealIndex = Math.floor((sealMs ?? manifest.started_us / 1_000) / group.baseMs);
  return () => encodeGroupControl(sealIndex, born);
}
