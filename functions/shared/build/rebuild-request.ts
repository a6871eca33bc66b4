/** Does what a caller has asked for: one entity from the archive, as often as it takes until nobody else works below the seal. */
import { setTimeout as sleep } from "node:timers/promises";
import type { RebuildRequest, RebuildRequests } from "../../../adapters/jobs/rebuild-requests.ts";
import { FreshetError } from "../../../core/errors.ts";
import type { EntityBuildReport, EntityOf } from "./entity-build.ts";

const WAIT_MS = 5_000;

/**
 * @param deadlineMs after it no try is made
 * @returns null where there was nothing to do
 */
export async function runRebuildRequest(
  ports: {
    readonly requests: Pick<RebuildRequests, "get" | "put">;
    readonly rebuild: (of: EntityOf, streams?: readonly string[]) => Promise<EntityBuildReport[]>;
    readonly clock: () => number;
    /** @default real time */
    readonly wait?: (ms: number) => Promise<unknown>;
  },
  of: { readonly tenant: string; readonly id: string },
  deadlineMs: number,
): Promise<RebuildRequest | null> {
  const { requests, clock, wait = sleep } = ports;
  const request = await requests.get(of.tenant, of.id);
  if (request === null || request.state === "done" || request.state === "failed") return null;
  const told = async (change: Pick<RebuildRequest, "state" | "error">) => {
    const changed = { ...request, ...change, updatedMs: clock() };
    await requests.put(changed);
    return changed;
  };
  try {
    for (const entity of request.entities) {
      let streams: readonly string[] | undefined;
      for (;;) {
        await told({ state: "running", error: null });
        const reports = await ports.rebuild({ tenant: request.tenant, entity, id: request.entityId }, streams);
        const left = reports.filter(({ state }) => state === "waiting");
        if (left.length === 0) break;
        if (clock() + WAIT_MS > deadlineMs) throw new FreshetError("rebuild_waiting", left[0]!.reason!);
        streams = left.map(({ stream }) => stream);
        await wait(WAIT_MS);
      }
    }
    return await told({ state: "done", error: null });
  } catch (error) {
    const code = error instanceof FreshetError ? error.code : "internal";
    // What is not made for callers stays in the log.
    const detail = error instanceof FreshetError ? error.message : "an error on our side";
    await told({ state: "failed", error: { code, detail } });
    throw error;
  }
}
