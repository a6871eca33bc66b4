/** Which rounds of bulk snapshots there are, for people and for whoever chooses one. */

import type { AbandonedRounds } from "../../../adapters/control-table/control-table.ts";
import { controlIn, type SnapshotManifest, type SnapshotObject } from "../../../adapters/snapshot/bulk-manifest.ts";
import type { BulkStore } from "../../../adapters/snapshot/bulk-store.ts";
import { BUCKETS, decodeGroupControl } from "../../../adapters/valkey/layout.ts";
import { RecordError } from "../../../core/errors.ts";

export interface RoundSummary {
  readonly round: string;
  /** Why it cannot be restored; null for one that can. */
  readonly damage: string | null;
  /** When it began, on the store's clock. */
  readonly startedMs: number;
  readonly epoch: number;
  readonly records: number;
  readonly bytes: number;
  /** By stream, ms: a restore replays what has arrived since the least of them. */
  readonly seals: Readonly<Record<string, number>>;
}

/** Whether an older round has been restored since, or the store recovered without any. */
const isAbandoned = (
  { round, started_us, epoch }: Pick<SnapshotManifest, "round" | "started_us" | "epoch">,
  abandoned: readonly AbandonedRounds[],
): boolean =>
  abandoned.some((those) =>
    "beforeEpoch" in those ? epoch < those.beforeEpoch : round > those.after && started_us < those.beforeUs,
  );

/** The newest first. @throws InfrastructureError `snapshots_unavailable` */
export async function describeRounds(
  snapshots: BulkStore,
  newest: number,
  abandoned: readonly AbandonedRounds[],
): Promise<RoundSummary[]> {
  const rounds = (await snapshots.rounds()).slice(-newest).reverse();
  return Promise.all(rounds.map((round) => describe(snapshots, round, abandoned)));
}

/** @param name of a round, or `latest` @throws RecordError `snapshot_missing` */
export async function roundNamed(
  snapshots: BulkStore,
  name: string,
  abandoned: readonly AbandonedRounds[],
): Promise<string> {
  if (name !== "latest") return name;
  const rounds = await snapshots.rounds();
  for (const round of rounds.toReversed()) if (!isAbandoned(await snapshots.manifest(round), abandoned)) return round;
  const why =
    rounds.length === 0 ? "there is no snapshot yet" : "every snapshot is older than the last recovery without one";
  throw new RecordError("snapshot_missing", why, {
    field: "snapshot",
    repair: "`freshet recover --snapshot none` replays what the broker holds",
  });
}

/** The newest round before `manifest`'s that has another object for the bucket, which is there. */
export async function olderRound(
  snapshots: BulkStore,
  manifest: Pick<SnapshotManifest, "round">,
  { bucket, key }: SnapshotObject,
  abandoned: readonly AbandonedRounds[],
): Promise<SnapshotManifest | null> {
  const rounds = (await snapshots.rounds()).filter((round) => round < manifest.round);
  for (const round of rounds.toReversed()) {
    const older = await snapshots.manifest(round).catch(ifDamaged);
    const object = older?.objects[bucket];
    if (object === undefined || object.key === key || isAbandoned(older!, abandoned)) continue;
    if ((await snapshots.missing([object])).length === 0) return older;
  }
  return null;
}

function ifDamaged(error: unknown): null {
  if (error instanceof RecordError) return null;
  throw error;
}

/** Of each stream where its first bucket was sealed, epoch milliseconds: since then its events have to come again. */
export function sealsOf({ groups }: Pick<SnapshotManifest, "groups">): Readonly<Record<string, number>> {
  const seals: Record<string, number> = {};
  for (const group of Object.values(groups)) {
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      const sealMs = decodeGroupControl(controlIn(group, bucket)).sealIndex * group.base_ms;
      seals[group.stream] = Math.min(seals[group.stream] ?? Number.POSITIVE_INFINITY, sealMs);
    }
  }
  return seals;
}

async function describe(
  snapshots: BulkStore,
  round: string,
  abandoned: readonly AbandonedRounds[],
): Promise<RoundSummary> {
  try {
    const manifest = await snapshots.manifest(round);
    const { started_us, epoch, objects } = manifest;
    const damage = isAbandoned(manifest, abandoned)
      ? "an older round was restored since, or the store recovered without one: it lacks late events that were counted then"
      : null;
    const sum = (of: "records" | "bytes"): number => objects.reduce((total, object) => total + object[of], 0);
    return {
      ...{ round, epoch, seals: sealsOf(manifest), damage, startedMs: Math.floor(started_us / 1_000) },
      ...{ records: sum("records"), bytes: sum("bytes") },
    };
  } catch (error) {
    if (!(error instanceof RecordError)) throw error;
    return { round, damage: error.message, startedMs: 0, epoch: 0, records: 0, bytes: 0, seals: {} };
  }
}
