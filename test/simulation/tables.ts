/** Tables in memory of which restores and erasures keep how far they are, with their conditions. */
import type { BatchPlace, BatchRuns } from "../../adapters/control-table/batch-runs.ts";
import type { Erasure, Erasures } from "../../adapters/erasure/erasures.ts";
import type { Actor, Scheduler } from "./scheduler.ts";

/** How far the walk through pushed values has come. */
export class MemoryRuns {
  private readonly places = new Map<string, BatchPlace>();

  of(scheduler: Scheduler, actor: Actor): BatchRuns {
    return {
      place: (view: string) => scheduler.operation(actor, "table place", () => this.places.get(view) ?? null),
      keepPlace: (view: string, place: BatchPlace) =>
        scheduler.operation(actor, "table place", () => {
          this.places.set(view, place);
        }),
    } as unknown as BatchRuns;
  }
}

export class MemoryErasures {
  readonly records = new Map<string, Erasure>();
  private readonly opened = new Set<string>();
  private store: string | null = null;

  of(scheduler: Scheduler, actor: Actor): Erasures {
    const ask = <T>(work: (share: number) => T): Promise<T> => scheduler.operation(actor, "table erasures", work);
    const { records, opened } = this;
    return {
      create: async (erasure: Erasure) => {
        await ask(() => opened.add(erasure.id));
        await ask(() => records.set(erasure.id, erasure));
      },
      update: (erasure: Erasure) =>
        ask(() => {
          if (records.get(erasure.id)?.version !== erasure.version) return null;
          const next = { ...structuredClone(erasure), version: erasure.version + 1 };
          records.set(erasure.id, next);
          return next;
        }),
      get: (_tenant: string, id: string) => ask(() => records.get(id) ?? null),
      open: () => ask(() => [...opened].flatMap((id) => records.get(id) ?? [])),
      close: ({ id }: Erasure) => ask(() => opened.delete(id)),
      getStore: () => ask(() => this.store),
      putStore: (identity: string) =>
        ask(() => {
          this.store = identity;
        }),
    } as unknown as Erasures;
  }
}
