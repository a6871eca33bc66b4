/** Does what a caller has asked for: runs of batch views for its tenant alone, one period after another. */
import type { BatchRuns } from "../../../adapters/control-table/batch-runs.ts";
import {
  isEnded,
  type MaterializeRequest,
  type MaterializeRequests,
} from "../../../adapters/jobs/materialize-requests.ts";
import { FreshetError } from "../../../core/errors.ts";
import type { Plan } from "../../../core/plan.ts";
import { type RunReport, type RunRequest, stepsOf, viewOf } from "./materialization.ts";

/**
 * Doing it again gives the same values, so one that was cut off is done again when the table tells of it again.
 * @param deadlineMs no run is begun after it
 * @returns null where there was nothing to do
 */
export async function runMaterializeRequest(
  ports: {
    readonly plan: Plan;
    readonly runs: Pick<BatchRuns, "get">;
    readonly requests: Pick<MaterializeRequests, "get" | "put">;
    readonly materialize: (request: RunRequest) => Promise<RunReport>;
    readonly clock: () => number;
  },
  of: { readonly tenant: string; readonly id: string },
  deadlineMs: number,
): Promise<MaterializeRequest | null> {
  const { plan, requests, clock } = ports;
  const request = await requests.get(of.tenant, of.id);
  if (request === null || isEnded(request.state)) return null;
  const told = async (change: Pick<MaterializeRequest, "state" | "error">) => {
    const changed = { ...request, ...change, updatedMs: clock() };
    await requests.put(changed);
    return changed;
  };
  await told({ state: "running", error: null });
  try {
    for (const name of request.views) {
      const view = viewOf(plan, name);
      const record = request.fromMs === null ? await ports.runs.get(name) : null;
      const fromMs = request.fromMs ?? record?.toMs ?? request.toMs - view.everyMs;
      for (const step of fromMs < request.toMs ? stepsOf(view, fromMs, request.toMs) : []) {
        if (clock() > deadlineMs) {
          throw new FreshetError("materialization_unfinished", `${name} is materialized up to ${step.fromMs} ms only`);
        }
        await ports.materialize({ view: name, tenant: request.tenant, ...step });
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
