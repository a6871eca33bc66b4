/**
 * `POST /v1/score/{service}`. Missing features never fail a score: a store that does not answer leaves every stored feature
 * missing, declared defaults stand in, the rules decide, and the answer says `degraded`.
 */
import type { EntityAnswer, EntityRequest, OnlineReader } from "../../adapters/online-store.ts";
import { FreshetError, InfrastructureError } from "../../core/errors.ts";
import type { Scorer } from "../../core/scoring.ts";
import { readObject } from "./body.ts";
import { MAX_QUERY_BYTES } from "./limits.ts";
import { Problem } from "./problems.ts";
import { readRequestFields } from "./request-fields.ts";
import type { Answer, Call, Handle } from "./router.ts";
import { addReads, type Catalogue, emptyRow, fillRow, type SelectionPart, typeName } from "./selection.ts";
import type { Telemetry } from "./telemetry.ts";

/** What answered: models get the name of their alias, the rules this. */
const FALLBACK_VARIANT = "fallback";

export function createScoreHandler(deps: {
  catalogue: Catalogue;
  reader: OnlineReader;
  scorers: ReadonlyMap<string, Scorer>;
  telemetry: Telemetry;
  clock: () => number;
  /** Told about a read that failed, a function that threw: the caller gets a score all the same. */
  onFault: (fault: {
    requestId: string;
    service: string;
    code: string;
    names?: readonly string[];
    error?: unknown;
  }) => void;
}): Handle {
  const { catalogue, reader, scorers, telemetry, clock, onFault } = deps;

  return async ({ c, principal, requestId, startedAt }: Call): Promise<Answer> => {
    const name = c.req.param("service") as string;
    const { service, selection } = catalogue.service(name);
    const scorer = scorers.get(service.name);
    if (scorer === undefined || service.fallback === null) {
      throw new Problem("service_without_model", `service ${service.name} has no model and declares no fallback`, {
        field: "service",
        repair: "declare fallback: rules(...) in its definition and deploy",
      });
    }
    const body = await readObject(c, MAX_QUERY_BYTES);
    const explain = explainOf(body["explain"]);
    const request = readRequestFields(service, body, "");
    const requests: EntityRequest[] = [];
    const targets: SelectionPart[] = [];
    addReads(selection, principal.tenant, body, "", requests, targets);

    const asOfMs = clock();
    const stored = emptyRow(selection);
    let degraded: string | null = null;
    let answers: readonly EntityAnswer[] = [];
    try {
      if (requests.length > 0) answers = await reader.read(requests, asOfMs);
    } catch (error) {
      degraded = storeFault(error);
      if (degraded === null) throw error;
      onFault({ requestId, service: name, code: degraded, error });
    }
    for (let i = 0; i < answers.length; i++) {
      fillRow(stored, targets[i], answers[i].values);
      degraded ??= answers[i].degraded;
    }
    const evaluation = scorer.evaluate(request, stored);
    const result = scorer.score(request, evaluation);
    if (result === null) throw new Error(`service ${name} lost its fallback`);
    if (evaluation.faults.length + result.faults.length > 0) {
      onFault({ requestId, service: name, code: "function_threw", names: [...evaluation.faults, ...result.faults] });
    }
    const latencyMs = Math.round((performance.now() - startedAt) * 1000) / 1000;
    telemetry.score(name, evaluation.missing.length, degraded, latencyMs);
    return {
      status: 200,
      body: JSON.stringify({
        score: result.score,
        decision: result.decision,
        model_version: result.modelVersion,
        variant: FALLBACK_VARIANT,
        features_used: evaluation.used,
        features_missing: evaluation.missing,
        degraded: degraded !== null,
        degraded_reason: degraded,
        explanation: explain
          ? {
              base: result.base,
              contributions: result.contributions,
              features: Object.fromEntries(scorer.inputs.map((input, i) => [input, evaluation.values[i]])),
            }
          : undefined,
        latency_ms: latencyMs,
        as_of_ms: asOfMs,
        request_id: requestId,
      }),
    };
  };
}

/** Why the store gave nothing; null for any other error, which is a bug and must not pass for an outage. */
function storeFault(error: unknown): string | null {
  if (error instanceof InfrastructureError) return "store_unavailable";
  return error instanceof FreshetError && error.code === "read_overtaken" ? error.code : null;
}

function explainOf(given: unknown): boolean {
  if (given === undefined) return false;
  if (typeof given === "boolean") return given;
  throw new Problem("wrong_type", `explain is true or false, given ${typeName(given)}`, {
    field: "explain",
    repair: 'send "explain": true',
  });
}
