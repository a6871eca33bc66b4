/** Liveness, readiness and metrics: the calls without a key, for supervisors and load balancers. */
import type { OnlineReader, StoreState } from "../../adapters/online-store.ts";
import type { Plan } from "../../core/plan.ts";
import { problemType } from "./problems.ts";
import type { Answer, Handle } from "./router.ts";
import type { PrometheusTelemetry } from "./telemetry.ts";

/** Per state of the store's control data: what it means for callers, and what repairs it. */
const STATES: Record<StoreState["control"], { ready: boolean; reason: string | null; repair: string | null }> = {
  ok: { ready: true, reason: null, repair: null },
  failover: {
    ready: true,
    reason: "the store failed over and may have lost its newest writes; the seal is frozen until they are replayed",
    repair: "wait for the replay; freshet status shows it",
  },
  new: {
    ready: false,
    reason: "the store has no control data yet",
    repair: "run freshet deploy; on AWS the control function writes it within a minute",
  },
  lost: {
    ready: false,
    reason: "control data of the store is gone: events are kept in the stream and not applied",
    repair: "restore the store from its snapshot or append-only file; applies go on by themselves",
  },
  restoring: { ready: false, reason: "the store is being restored", repair: "wait until it is done" },
  unknown: {
    ready: false,
    reason: "the state of the store is not known",
    repair: "look at the control function's log",
  },
};

export const health: Handle = () => ({ status: 200, body: '{"status":"ok"}' });

export function createReadyHandler(plan: Plan, reader: OnlineReader): Handle {
  return async ({ requestId }): Promise<Answer> => {
    const state = await reader.state().catch((): StoreState => UNREACHABLE);
    const known = STATES[state.control];
    const verdict = state.reachable
      ? { ...known, repair: state.repair ?? known.repair }
      : {
          ready: false,
          reason:
            "the online store does not answer: scores are degraded, feature reads fail, events wait in the stream",
          repair: state.repair ?? "start Valkey (locally: freshet up) or look at the cache's events",
        };
    const checks = {
      online_store: { reachable: state.reachable, control: state.control, seals_ms: state.seals },
      plan: { hash: plan.hash, services: plan.services.map(({ name }) => name) },
    };
    if (verdict.ready) {
      const body = { status: state.control === "ok" ? "ready" : "degraded", ...reasonOf(verdict), checks };
      return { status: 200, body: JSON.stringify(body) };
    }
    return {
      status: 503,
      contentType: "application/problem+json",
      body: JSON.stringify({
        type: problemType("not_ready"),
        title: "Not ready",
        status: 503,
        detail: verdict.reason,
        code: "not_ready",
        repair: verdict.repair,
        request_id: requestId,
        checks,
      }),
      headers: { "retry-after": "5" },
    };
  };
}

const UNREACHABLE: StoreState = { reachable: false, control: "unknown", repair: null, seals: {} };

const reasonOf = ({ reason, repair }: { reason: string | null; repair: string | null }) =>
  reason === null ? {} : { reason, repair };

export function createMetricsHandler(telemetry: PrometheusTelemetry): Handle {
  return async () => ({ status: 200, body: await telemetry.text(), contentType: telemetry.contentType });
}
