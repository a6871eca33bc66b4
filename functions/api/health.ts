/** Liveness, readiness and metrics: the calls without a key, for supervisors and load balancers. */
import type { OnlineReader, StoreState } from "../../adapters/online-store.ts";
import { STORE_STATES, type StoreCondition } from "../../adapters/store-states.ts";
import type { Plan } from "../../core/plan.ts";
import { problemType } from "./problems.ts";
import type { Answer, Handle } from "./router.ts";
import type { PrometheusTelemetry } from "./telemetry.ts";

export const health: Handle = () => ({ status: 200, body: '{"status":"ok"}' });

export function createReadyHandler(plan: Plan, reader: OnlineReader): Handle {
  return async ({ requestId }): Promise<Answer> => {
    const state = await reader.state().catch((): StoreState => UNREACHABLE);
    const trouble = conditionOf(state);
    const checks = {
      online_store: { reachable: state.reachable, control: state.control, seals_ms: state.seals },
      plan: { hash: plan.hash, services: plan.services.map(({ name }) => name) },
    };
    if (trouble === null) return { status: 200, body: JSON.stringify({ status: "ready", checks }) };
    const { ready, sentence, repair } = trouble;
    if (ready) {
      return { status: 200, body: JSON.stringify({ status: "degraded", reason: sentence, repair, checks }) };
    }
    return {
      status: 503,
      contentType: "application/problem+json",
      body: JSON.stringify({
        type: problemType("not_ready"),
        title: "Not ready",
        status: 503,
        detail: sentence,
        code: "not_ready",
        repair,
        request_id: requestId,
        checks,
      }),
      headers: { "retry-after": "5" },
    };
  };
}

const UNREACHABLE: StoreState = { reachable: false, control: "unknown", seals: {} };

function conditionOf({ reachable, control }: StoreState): StoreCondition | null {
  if (!reachable || control === "unknown") return STORE_STATES.unreachable;
  return control === "ok" ? null : STORE_STATES[control];
}

/** One instance of many, and only those requests that came to it: not what a scraper would take it for. */
const ONE_INSTANCE =
  "# One instance of the function, since it started. All of them together: CloudWatch, namespace Freshet.\n";

/** @param shared true where other instances answer too */
export function createMetricsHandler(telemetry: PrometheusTelemetry, shared: boolean): Handle {
  return async () => ({
    status: 200,
    body: `${shared ? ONE_INSTANCE : ""}${await telemetry.text()}`,
    contentType: telemetry.contentType,
  });
}
