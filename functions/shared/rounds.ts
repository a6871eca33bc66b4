/** Which rounds of bulk snapshots there are, for people and for whoever chooses one. */

import { controlIn } from "../../adapters/snapshot/bulk-manifest.ts";
import type { BulkStore } from "../../adapters/snapshot/bulk-store.ts";
import { BUCKETS, decodeGroupControl } from "../../adapters/valkey/layout.ts";
import { RecordError } from "../../core/errors.ts";

export interface RoundSummary {
  readonly round: string;
  /** Why it cannot be read; null for one that can. */
  readonly damage: string | null;
  /** When it began, on the store's clock. */
  readonly startedMs: number;
  readonly epoch: number;
  readonly records: number;
  readonly bytes: number;
  /** By stream, ms: a restore replays what has arrived since the least of them. */
  readonly seals: Readonly<Record<string, number>>;
}

/** The newest first. @throws InfrastructureError `snapshots_unavailable` */
export async function describeRounds(snapshots: BulkStore, newest: number): Promise<RoundSummary[]> {
  const rounds = (await snapshots.rounds()).slice(-newest).reverse();
  return Promise.all(rounds.map((round) => describe(snapshots, round)));
}

async function describe(snapshots: BulkStore, round: string): Promise<RoundSummary> {
  try {
    const { started_us, epoch, objects, groups } = await snapshots.manifest(round);
    const seals: Record<string, number> = {};
    for (const group of Object.values(groups)) {
      for (let bucket = 0; bucket < BUCKETS; bucket++) {
        const sealMs = decodeGroupControl(controlIn(group, bucket)).sealIndex * group.base_ms;
        seals[group.stream] = Math.min(seals[group.stream] ?? Number.POSITIVE_INFINITY, sealMs);
      }
    }
    const sum = (of: "records" | "bytes"): number => objects.reduce((total, object) => total + object[of], 0);
    return {
      ...{ round, epoch, seals, damage: null, startedMs: Math.floor(started_us / 1_000) },
      ...{ records: sum("records"), bytes: sum("bytes") },
    };
  } catch (error) {
    if (!(error instanceof RecordError)) throw error;
    return { round, damage: error.message, startedMs: 0, epoch: 0, records: 0, bytes: 0, seals: {} };
  }
}
