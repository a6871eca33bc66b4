/** Liveness, readiness and metrics: the calls without a key, for supervisors and load balancers. */

import type { ModelServing } from "../../../adapters/model/serving.ts";
import type { Dependency } from "../../../adapters/online-store/fallback-reader.ts";
import type { OnlineReader, StoreState } from "../../../adapters/online-store/online-store.ts";
import { STORE_STATES, type StoreCondition } from "../../../adapters/online-store/store-states.ts";
import type { Plan } from "../../../core/plan.ts";
import { charge, FULL, type Limit, shortageOf } from "../../../core/token-bucket.ts";
import { problemType } from "../problems.ts";
import type { Answer, Handle } from "../router.ts";
import type { PrometheusTelemetry } from "./telemetry.ts";

type Trouble = Pick<StoreCondition, "ready" | "sentence" | "repair">;

export const health: Handle = () => ({ status: 200, body: '{"status":"ok"}' });

/** @param models null for a host that scores with rules alone */
export function createReadyHandler(
  plan: Plan,
  reader: OnlineReader,
  models: ModelServing | null,
  host: {
    readonly hasFallback: boolean;
    /** What calls are kept from; null where nothing keeps them from it. */
    readonly open: () => readonly Dependency[] | null;
    readonly isDraining: () => boolean;
  },
): Handle {
  const look = boundedLook(reader);
  return async ({ requestId }): Promise<Answer> => {
    const state = await look();
    const trouble = host.isDraining() ? DRAINING : (conditionOf(state, host.hasFallback) ?? modelTrouble(models));
    const checks = {
      online_store: {
        reachable: state.reachable,
        control: state.control,
        full: state.full ?? false,
        seals_ms: state.seals,
      },
      breakers: breakersJson(host.open()),
      plan: { hash: plan.hash, services: plan.services.map(({ name }) => name) },
      models: models === null ? undefined : modelsJson(models),
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

/** Anyone may ask, and a look is a command for each bucket: a flood of questions sees what was seen a moment ago. */
const LOOKS: Limit = { perSecond: 5, burst: 20, perDay: null };

function boundedLook(reader: OnlineReader): () => Promise<StoreState> {
  let bucket = FULL;
  let last: Promise<StoreState> | null = null;
  return () => {
    const nowUs = performance.now() * 1_000;
    if (last !== null && shortageOf(bucket, LOOKS, 1, nowUs) !== null) return last;
    bucket = charge(bucket, LOOKS, 1, nowUs);
    last = reader.state().catch((): StoreState => UNREACHABLE);
    return last;
  };
}

function breakersJson(open: readonly Dependency[] | null) {
  if (open === null) return undefined;
  const stateOf = (of: Dependency) => (open.includes(of) ? "open" : "closed");
  return { store: stateOf("store"), snapshots: stateOf("snapshots") };
}

/** How many are refused and why, not whose: anybody may read this page. The log names them. */
function modelsJson(models: ModelServing) {
  const { polledMs, loaded, refused } = models.state();
  const counts: Record<string, number> = {};
  for (const { code } of refused) counts[code] = (counts[code] ?? 0) + 1;
  return { polled_ms: polledMs, loaded, refused: counts };
}

/** A model that is refused is no reason to take no requests: the one before it, or the rules, go on. */
function modelTrouble(models: ModelServing | null): Trouble | null {
  if (models === null) return null;
  const { polledMs, refused } = models.state();
  if (polledMs === null) {
    const repair = "look at the model table and at the permission on it; rules score meanwhile";
    return { ready: true, sentence: "the model registry does not answer", repair };
  }
  if (refused.length === 0) return null;
  const sentence = `${refused.length} of the models that aliases name are not served, ${refused[0].code}; what served before goes on`;
  return { ready: true, sentence, repair: "freshet models rollback, or register and promote a whole artefact" };
}

const UNREACHABLE: StoreState = { reachable: false, control: "unknown", seals: {} };

const DRAINING: Trouble = {
  ready: false,
  sentence: "draining: this host has been told to end and takes nothing new",
  repair: "send calls to another host",
};

/** All hosts share the store: to take each of them out of service while it is away would end what snapshots keep going. */
function conditionOf({ reachable, control, full }: StoreState, hasFallback: boolean): Trouble | null {
  if (!reachable || control === "unknown") return { ...STORE_STATES.unreachable, ready: hasFallback };
  if (control !== "ok") return STORE_STATES[control];
  return full ? STORE_STATES.full : null;
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
