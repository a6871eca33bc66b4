/** Runs of batch views that callers ask for, for their own entities. The table's changes wake the function that does them. */
import { JobItems, type JobsTable, SILENT_MS } from "./job-items.ts";

export interface MaterializeRequest {
  readonly tenant: string;
  readonly id: string;
  readonly views: readonly string[];
  /** Null for where each view's schedule has come to. */
  readonly fromMs: number | null;
  readonly toMs: number;
  readonly state: "queued" | "running" | "done" | "failed";
  readonly createdMs: number;
  readonly updatedMs: number;
  readonly error: { readonly code: string; readonly detail: string } | null;
}

/** Who does it, told to those that the table wakes. */
export const MATERIALIZE_RUNNER = "materialize";

export class MaterializeRequests {
  readonly #items: JobItems<MaterializeRequest>;

  constructor(to: JobsTable) {
    this.#items = new JobItems(to, "materialize", "a request to materialize");
  }

  /** New or changed. @throws InfrastructureError `jobs_unavailable`, as do all here */
  put(request: MaterializeRequest): Promise<void> {
    return this.#items.put(request, { runner: { S: MATERIALIZE_RUNNER } });
  }

  get(tenant: string, id: string): Promise<MaterializeRequest | null> {
    return this.#items.get(tenant, id);
  }

  /** The tenant's that are neither done nor lost. */
  async open(tenant: string, nowMs: number): Promise<MaterializeRequest[]> {
    // Older ones cannot be under way.
    const requests = await this.#items.newest(tenant, idAt(nowMs - 2 * SILENT_MS));
    return requests.filter(({ state, updatedMs }) => !isEnded(state) && nowMs - updatedMs < SILENT_MS);
  }
}

export const isEnded = (state: MaterializeRequest["state"]): boolean => state === "done" || state === "failed";
/** Beginning of the id of a request that is made at a time; in the order of times. */
export const idAt = (ms: number): string => Math.floor(ms).toString().padStart(15, "0");
