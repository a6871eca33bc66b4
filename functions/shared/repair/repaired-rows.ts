/** What repair writes into the archive: rows that take the place of those that were late. */
import type { ArchiveRow } from "../../../adapters/archive/archive.ts";
import { hash64 } from "../../../adapters/hash.ts";
import type { LateItem } from "../../../adapters/late-queue/late-queue.ts";
import type { PendingItem } from "../../../adapters/late-queue/late-work.ts";
import type { EntityUpdate } from "../../../adapters/valkey/record.ts";

/** An item that may be folded, with what will be: the payload of one of its deliveries. */
export interface Candidate {
  readonly item: PendingItem;
  readonly row: ArchiveRow;
  readonly fingerprint: number;
  readonly update: EntityUpdate;
  /** Of every entity of the plan that the payload names. */
  readonly updates: readonly EntityUpdate[];
}

export interface Repaired {
  readonly candidate: Candidate;
  /** The store's clock when it was folded. */
  readonly visibleMs: number;
}

/** First 32 bits of a hash over the payload as the archive holds it. */
export const fingerprintOf = ({ fields }: ArchiveRow): number =>
  Number.parseInt(hash64(JSON.stringify(fields)).slice(0, 8), 16);

const isUnnamed =
  ({ fates }: ArchiveRow) =>
  ({ entity }: { readonly entity: string }): boolean =>
    !fates.some((fate) => fate.entity === entity);

/** A row for each delivery: its fates, with those that were repaired anew, and every entity of the plan that it did not name as late. */
export function completedRows(repaired: readonly Repaired[]): ArchiveRow[] {
  const deliveries = Map.groupBy(repaired, ({ candidate: { row } }) => row);
  return [...deliveries].map(([row, own]): ArchiveRow => {
    const unnamed = own[0]!.candidate.updates.filter(isUnnamed(row));
    const late = unnamed.map(({ entity, id }) => ({ entity, id, fate: "late" as const, visibleMs: null }));
    const fates = [...row.fates, ...late].map((fate) => {
      const mended = own.find(({ candidate: { item } }) => item.entity === fate.entity && item.id === fate.id);
      return mended === undefined ? fate : { ...fate, fate: "repaired" as const, visibleMs: mended.visibleMs };
    });
    return { ...row, fates };
  });
}

/** Entities that a row does not name would take the event from its repair on, so it is late for them as well: what is to be queued. */
export const lateElsewhere = (repaired: readonly Repaired[]): LateItem[] =>
  repaired.flatMap(({ candidate: { item, row, updates } }) =>
    updates.filter(isUnnamed(row)).map(({ entity, id, baseIndex }): LateItem => {
      const { tenant, stream, identity, eventId, eventTimeMs, arrivalMs } = item;
      return { tenant, stream, identity, eventId, eventTimeMs, arrivalMs, entity, id, baseIndex };
    }),
  );
