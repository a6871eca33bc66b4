/**
 * A record that is refused asks the store for nothing, so no tombstone meets it: delivered out of a backlog, or again, it may name somebody after the last look of
 * an erasure. While an erasure guards, what has been set aside since is looked at each day, and where it names one of the erased, everything is looked through once more.
 */
import { forEachLimited } from "../../../adapters/aws/durable-call.ts";
import type { Erasure, Erasures } from "../../../adapters/erasure/erasures.ts";
import { eraseQuarantined } from "../../../adapters/erasure/other-rows.ts";
import { getObject, type ObjectsPort } from "../../../adapters/erasure/rewrite.ts";
import { listObjects, type StoredObject } from "../../../adapters/s3/object-list.ts";
import { tenantPartition, UNATTRIBUTED } from "../../../adapters/s3/object-path.ts";
import { FreshetError } from "../../../core/errors.ts";
import { type OpenErasure, quarantinePrefix, refusedOf } from "./erasure-steps.ts";

export interface GuardPorts {
  readonly erasures: Pick<Erasures, "open" | "update">;
  readonly quarantine: ObjectsPort;
  readonly clock: () => number;
  readonly onFailure: (of: { readonly tenant: string; readonly id: string }, error: unknown) => void;
}

const EVERY_MS = 86_400_000;
/** S3 has a clock of its own, and dates an object when its writing began. */
const MARGIN_MS = 10 * 60_000;
const AT_ONCE = 8;

/**
 * Does what is due by `deadlineMs`; a tenant with more goes on where it was at the next call.
 * @returns how many erasures look through everything again
 * @throws InfrastructureError of the erasures' table; what the quarantine throws is told of each erasure that waits for it
 */
export async function lookAtRefused(ports: GuardPorts, deadlineMs: number): Promise<number> {
  const { erasures, clock, onFailure } = ports;
  const due = (await erasures.open()).filter(
    (erasure): erasure is OpenErasure =>
      erasure.state === "guarding" && erasure.subjects !== null && clock() - guardedSince(erasure) >= EVERY_MS,
  );
  let reopened = 0;
  for (const [, own] of Map.groupBy(due, ({ tenant }) => tenant)) {
    if (clock() >= deadlineMs) break;
    try {
      const { named, untilMs } = await namedSince(ports, own, deadlineMs);
      for (const erasure of own) {
        const again = { state: "confirming", waitUntilMs: clock() } as const;
        const guardedMs = Math.max(untilMs, guardedSince(erasure));
        const next = { ...erasure, guardedMs, ...(named.has(erasure.id) ? again : {}) };
        if ((await erasures.update(next)) !== null && named.has(erasure.id)) reopened++;
      }
    } catch (error) {
      for (const erasure of own) onFailure(erasure, error);
    }
  }
  return reopened;
}

/** Written before then, an object was there when it was looked for. */
function guardedSince({ guardedMs, looks, round, requestedMs }: Erasure): number {
  const begun = looks.find((look) => look.round === round)?.finishedMs ?? requestedMs;
  return guardedMs ?? begun;
}

/** @param own of one tenant. @returns those that are named by what was set aside since the oldest of their looks, and until when that was looked at */
async function namedSince({ quarantine, clock }: GuardPorts, own: readonly OpenErasure[], deadlineMs: number) {
  const begunMs = clock();
  const sinceMs = Math.min(...own.map(guardedSince)) - MARGIN_MS;
  const failure = { code: "quarantine_unavailable", what: `listing bucket ${quarantine.bucket}` };
  const partitions = [tenantPartition(own[0]!.tenant), UNATTRIBUTED];
  const listings = partitions.map(async (partition) => {
    const { objects } = await listObjects(quarantine, { prefix: quarantinePrefix(partition) }, failure);
    return objects.filter(({ writtenMs }) => writtenMs >= sinceMs).map((object) => ({ ...object, partition }));
  });
  // In the order in which they were written: where time is up, all before are done.
  const objects = (await Promise.all(listings)).flat().sort((a, b) => a.writtenMs - b.writtenMs);
  const named = new Set<string>();
  let untilMs = begunMs;
  for (let from = 0; from < objects.length; from += AT_ONCE) {
    if (from > 0 && clock() >= deadlineMs) {
      untilMs = Math.min(begunMs, objects[from]!.writtenMs + MARGIN_MS);
      break;
    }
    await forEachLimited(objects.slice(from, from + AT_ONCE), AT_ONCE, async (object) => {
      for (const id of await namedIn(quarantine, object, own)) named.add(id);
    });
  }
  return { named, untilMs };
}

/** Of one that cannot be read nothing is known: a whole look names it, and that has been told. */
async function namedIn(
  quarantine: ObjectsPort,
  { key, partition }: StoredObject & { readonly partition: string },
  own: readonly OpenErasure[],
): Promise<string[]> {
  const body = await getObject(quarantine, key);
  if (body === null) return [];
  try {
    return own.flatMap((erasure) =>
      eraseQuarantined(body, refusedOf(erasure, partition), () => {}) ? [erasure.id] : [],
    );
  } catch (error) {
    if (error instanceof FreshetError) return [];
    throw error;
  }
}
