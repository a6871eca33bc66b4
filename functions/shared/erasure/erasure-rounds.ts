/** All erasures that are under way: the store's tombstones first, then each in its turn. */
import type { Erasures } from "../../../adapters/erasure/erasures.ts";
import { replant, runErasure } from "./erasure.ts";

export interface DueErasures {
  /** Erasures that got on. */
  readonly worked: number;
  readonly failed: number;
  /** Entities whose tombstones were planted again. */
  readonly replanted: number;
  /** How long the oldest has been waiting that is not confirmed yet; 0 for none. */
  readonly oldestMs: number;
}

export interface RoundPorts extends Omit<Parameters<typeof runErasure>[0], "erasures"> {
  readonly erasures: Erasures;
  /** Names the store: another one after a loss, or where another primary answers. */
  readonly storeIdentity: () => Promise<string>;
  readonly onFailure: (of: { readonly tenant: string; readonly id: string }, error: unknown) => void;
}

/** One that fails keeps none of the others from getting on. @throws InfrastructureError of the erasures' table */
export async function eraseDue(
  ports: RoundPorts,
  deadlineMs: number,
  { replantOnly = false }: { readonly replantOnly?: boolean } = {},
): Promise<DueErasures> {
  const { erasures, clock, onFailure } = ports;
  const identity = await ports.storeIdentity();
  let replanted = 0;
  if (replantOnly || (await erasures.getStore()) !== identity) {
    replanted = await replant(ports);
    await erasures.putStore(identity);
  }
  let [worked, failed, oldestMs] = [0, 0, 0];
  // What has waited longest first; where time is up, the first step of each is still worth its seconds.
  for (const erasure of await erasures.open()) {
    if (erasure.confirmedMs === null) oldestMs = Math.max(oldestMs, clock() - erasure.requestedMs);
    if (replantOnly || (erasure.waitUntilMs ?? 0) > clock()) continue;
    if (erasure.state === "guarding" && erasure.block) continue;
    try {
      const after = await runErasure(ports, erasure, deadlineMs);
      if (after.version !== erasure.version) worked++;
    } catch (error) {
      failed++;
      onFailure({ tenant: erasure.tenant, id: erasure.id }, error);
    }
  }
  return { worked, failed, replanted, oldestMs };
}
