/** Applies events of a batch so that one over which the store's function throws stops nobody else. */
import type { ApplyResult, EntityFate, StoreApplier } from "../../../adapters/valkey/applier.ts";
import type { PreparedEvent } from "../../../adapters/valkey/record.ts";
import { FreshetError } from "../../../core/errors.ts";

export interface AppliedAll<T> extends Omit<ApplyResult, "fates"> {
  /** Aligned with the events; null for one of `thrown`. */
  readonly fates: readonly (readonly EntityFate[] | null)[];
  readonly thrown: readonly Thrown<T>[];
}

export interface Thrown<T> {
  readonly event: T;
  readonly error: unknown;
  /** Of its entities over which the function does not throw: the store has answered for them. */
  readonly others: readonly EntityFate[];
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
  const thrown: Thrown<T>[] = [];
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
      thrown.push({ event, error, others: await othersOf(applier, event.prepared) });
    }
  }
  return { fates, nowMs, failover, thrown };
}

/** An event's entities are several calls: what one of them throws over, others have counted. */
async function othersOf(applier: Pick<StoreApplier, "apply">, prepared: PreparedEvent): Promise<EntityFate[]> {
  const others: EntityFate[] = [];
  for (const update of prepared.updates.length > 1 ? prepared.updates : []) {
    try {
      const { fates } = await applier.apply([{ ...prepared, updates: [update] }]);
      others.push(...fates[0]!);
    } catch (error) {
      if (!isFunctionError(error)) throw error;
    }
  }
  return others;
}

const isFunctionError = (error: unknown): boolean =>
  error instanceof FreshetError && error.code === "store_function_failed";
