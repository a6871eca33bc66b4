/** Rebuilds of single entities that callers ask for. The table's changes wake the function that does them. */
import { JobItems, type JobsTable, SILENT_MS } from "./job-items.ts";
import { idAt, isEnded } from "./materialize-requests.ts";

export interface RebuildRequest {
  readonly tenant: string;
  readonly id: string;
  readonly entities: readonly string[];
  readonly entityId: string;
  readonly state: "queued" | "running" | "done" | "failed";
  readonly createdMs: number;
  readonly updatedMs: number;
  readonly error: { readonly code: string; readonly detail: string } | null;
}

/** Who does it, told to those that the table wakes. */
export const REBUILD_RUNNER = "rebuild";

export class RebuildRequests {
  readonly #items: JobItems<RebuildRequest>;

  constructor(to: JobsTable) {
    this.#items = new JobItems(to, "rebuild", "a request to rebuild");
  }

  /** New or changed. @throws InfrastructureError `jobs_unavailable`, as do all here */
  put(request: RebuildRequest): Promise<void> {
    return this.#items.put(request, { runner: { S: REBUILD_RUNNER } });
  }

  get(tenant: string, id: string): Promise<RebuildRequest | null> {
    return this.#items.get(tenant, id);
  }

  /** The tenant's that are neither done nor lost. */
  async open(tenant: string, nowMs: number): Promise<RebuildRequest[]> {
    // Older ones cannot be under way.
    const requests = await this.#items.newest(tenant, idAt(nowMs - 2 * SILENT_MS));
    return requests.filter(({ state, updatedMs }) => !isEnded(state) && nowMs - updatedMs < SILENT_MS);
  }
}
