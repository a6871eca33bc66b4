/** Ends repairs whose rows are durable: the store forgets their identities, and puts of these entities wait for them no longer. */
import type { StoreApplier } from "../../../adapters/valkey/applier.ts";
import { encodeMend } from "../../../adapters/valkey/mend.ts";

export interface SettledEntity {
  readonly bucket: number;
  readonly key: string;
  readonly groupId: number;
  /** Of events that the archive holds as visible for it. */
  readonly identities: readonly string[];
}

/** One that the store has forgotten, or never knew, changes nothing. @throws InfrastructureError when the store does not answer */
export async function settleRepairs(
  applier: Pick<StoreApplier, "mend">,
  entities: readonly SettledEntity[],
): Promise<void> {
  if (entities.length === 0) return;
  const settled = entities.map(({ bucket, key, groupId, identities }) => ({
    ...{ bucket, key },
    blob: encodeMend(groupId, { generation: 0, clock: 0 }, [], identities),
  }));
  await applier.mend(callsOf(settled).map(({ bucket, members }) => ({ bucket, puts: members })));
}

/** A call for each bucket. */
export function callsOf<E extends { readonly bucket: number }>(
  entities: readonly E[],
): { bucket: number; members: E[] }[] {
  return [...Map.groupBy(entities, ({ bucket }) => bucket)].map(([bucket, members]) => ({ bucket, members }));
}
