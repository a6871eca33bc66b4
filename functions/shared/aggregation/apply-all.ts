/** Applies events of a batch so that one over which the store's function throws stops nobody else. */
import type { ApplyResult, EntityFate, StoreApplier } from "../../../adapters/valkey/applier.ts";
import type { PreparedEvent } from "../../../adapters/valkey/record.ts";
import { FreshetError } from "../../../core/errors.ts";

export interface AppliedAll<T> extends Omit<ApplyResult, "fates"> {
  /** Aligned with the events; null for one of `thrown`. */
  readonly fates: readonly (readonly EntityFate[] | null)[];
  readonly thrown: readonly { readonly event: T; readonly error: unknown }[];
}

/** All at once; when the function itself throws over one of them, one by one. @throws InfrastructureError */
export async function applyAll<T extends { readonly prepared: PreparedEvent }>(
  applier: Pick<StoreApplier, "apply">,
  events: readonly T[],
): Promise<AppliedAll<T>> {
  try {
    const result: ApplyResult = await applier.apply(events.map(({ prepared }) => prepared));
    return { ...result, thrown: [] };
  } catch (error) {
    if (!isFunctionError(error)) throw error;
  }
  const fates: (readonly EntityFate[] | null)[] = [];
  const thrown: { event: T; error: unknown }[] = [];
  let nowMs: number | null = null;
  let failover = false;
  for (const event of events) {
    try {
      const one = await applier.apply([event.prepared]);
      fates.push(one.fates[0]);
      nowMs = one.nowMs ?? nowMs;
      failover ||= one.failover;
    } catch (error) {
      if (!isFunctionError(error)) throw error;
      fates.push(null);
      thrown.push({ event, error });
    }
  }
  return { fates, nowMs, failover, thrown };
}

const isFunctionError = (error: unknown): boolean =>
  error instanceof FreshetError && error.code === "store_function_failed";
