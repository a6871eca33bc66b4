/**
 * `POST /v1/rank/{service}`: candidates of one entity in the order of their scores, for one of each other entity. A ranking is a
 * batch of scores that share all but the candidate; how a score comes about is in `score-run.ts`.
 */
import { randomUUID } from "node:crypto";
import { typeName } from "../../../core/errors.ts";
import type { Plan } from "../../../core/plan.ts";
import { type JsonObject, readObject } from "../body.ts";
import { CANDIDATES_PER_TOKEN, DEFAULT_RANKED, MAX_CANDIDATES, MAX_EXPLAINED, MAX_QUERY_BYTES } from "../limits.ts";
import { Problem } from "../problems.ts";
import { checkKey } from "../reading/selection.ts";
import type { Answer, Call, Handle } from "../router.ts";
import { createExplanations } from "./explanation.ts";
import { readRequestFields } from "./request-fields.ts";
import { createTargets, elapsed, explainOf, type ScoreHandlerDependencies, variantOf } from "./score-request.ts";
import type { ScoredRow, ScoredService, ScoreRequest } from "./score-run.ts";

/** What candidates share makes each as much work as a part of a batch's row. */
const CANDIDATES_PER_ROW = 4;

/** A candidate with its score, in the ranking's order. */
interface Ranked {
  readonly id: string;
  readonly request: ScoreRequest;
  readonly row: ScoredRow;
}

export function createRankHandler(deps: ScoreHandlerDependencies): Handle {
  const { plan, runner, scoring, telemetry } = deps;
  const targetOf = createTargets(deps);
  const explain = createExplanations(plan, scoring);
  const joinKeys = new Map(plan.entities.map(({ name, joinKey }) => [name, joinKey]));

  return async ({ c, principal, requestId, startedAt, waitedMs, ticket, turn }: Call): Promise<Answer> => {
    const { tenant } = principal;
    const target = targetOf(c.req.param("service") as string, tenant);
    const { service } = target;
    const joinKey = service.candidate === undefined ? undefined : joinKeys.get(service.candidate);
    if (joinKey === undefined) throw withoutRanking(plan, service.name);
    const body = await readObject(c, MAX_QUERY_BYTES);
    const [k, how] = [countOf(body["k"]), explainOf(body["explain"])];
    const names = [...joinKeys.values(), ...Object.keys(service.request)];
    const candidates = candidatesOf(target, joinKey, names, body);
    const requests = candidates.map(({ request }) => request);
    await turn(candidates.length / CANDIDATES_PER_ROW);
    const admitted = ticket.charge(Math.max(1, Math.ceil(candidates.length / CANDIDATES_PER_TOKEN)));
    const { asOfMs, rows } = await runner.run(target, tenant, requests, requestId, waitedMs);
    await admitted;

    const scored = candidates.map((candidate, i): Ranked => ({ ...candidate, row: rows[i] }));
    // The sort is stable: equal scores stay in the order in which they came.
    const ranked = scored.sort((a, b) => b.row.score - a.row.score).slice(0, k);
    const items = [];
    for (const [i, { id, request, row }] of ranked.entries()) {
      items.push({
        id,
        score: row.score,
        event_id: request.eventId,
        features_missing: row.evaluation.missing,
        explanation: how === false || i >= MAX_EXPLAINED ? undefined : await explain(target, row, request, how),
      });
    }
    const latencyMs = elapsed(startedAt);
    for (const { row } of ranked) {
      telemetry.score(service.name, row.evaluation.missing.length, row.degraded, latencyMs);
    }
    scoring?.logger.record({
      target,
      tenant,
      requestId,
      asOfMs,
      requests: ranked.map(({ request }) => request),
      rows: ranked.map(({ row }) => row),
    });
    // One arm scores all of a ranking, and what ails the store ails them all.
    const first = ranked.length === 0 ? null : ranked[0].row;
    return {
      status: 200,
      body: JSON.stringify({
        items,
        candidates: candidates.length,
        model_version: first?.modelVersion ?? null,
        variant: first?.variant ?? null,
        degraded: first !== null && first.degraded !== null,
        degraded_reason: first?.degraded ?? null,
        snapshot_age_ms: first?.snapshotAgeMs ?? undefined,
        latency_ms: latencyMs,
        as_of_ms: asOfMs,
        request_id: requestId,
      }),
    };
  };
}

/**
 * Each id once, as it came first. A request field is the candidate's own, else the body's.
 * @param names of join keys and request fields: all that is copied for each candidate, however much else was sent
 */
function candidatesOf({ service }: ScoredService, joinKey: string, names: readonly string[], sent: JsonObject) {
  const variant = variantOf(sent["variant"], "");
  const body: JsonObject = Object.fromEntries(
    names.filter((name) => Object.hasOwn(sent, name)).map((name) => [name, sent[name]]),
  );
  const taken = new Set<string>();
  const ranked: { id: string; request: ScoreRequest }[] = [];
  // Outcomes are joined by an event's id: whoever shows an item has one to send that no other showing has.
  const ranking = randomUUID();
  // What candidates without fields of their own share, once one of them is met.
  let shared: ScoreRequest["request"] | null = null;
  listOf(sent["candidates"]).forEach((given, i) => {
    const path = `candidates[${i}]`;
    const own = candidateOf(given, joinKey, path);
    const id = typeof own === "string" ? own : (own[joinKey] as string);
    if (taken.has(id)) return;
    taken.add(id);
    const request =
      typeof own === "string"
        ? (shared ??= readRequestFields(service, body, (name) => `${path}.${name}`))
        : readRequestFields(service, { ...body, ...own }, (name) => `${path}.${name}`);
    const keys = { ...body, [joinKey]: id };
    ranked.push({ id, request: { keys, request, variant, prefix: "", eventId: `${ranking}-${i}` } });
  });
  return ranked;
}

/** @throws Problem `wrong_type`, `key_missing_in_body`, `key_invalid`, `key_too_long` */
function candidateOf(given: unknown, joinKey: string, path: string): string | JsonObject {
  if (typeof given === "string") return checkKey(given, path);
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw new Problem("wrong_type", `${path} is an id or an object, given ${typeName(given)}`, {
      field: path,
      repair: `send the ${joinKey} in quotes, or {"${joinKey}": "…"} with request fields of its own`,
    });
  }
  const own = given as JsonObject;
  const id = Object.hasOwn(own, joinKey) ? own[joinKey] : undefined;
  if (typeof id === "string") {
    checkKey(id, `${path}.${joinKey}`);
    return own;
  }
  const isMissing = id === undefined;
  throw new Problem(
    isMissing ? "key_missing_in_body" : "wrong_type",
    `${path}.${joinKey} is a string, given ${isMissing ? "nothing" : typeName(id)}`,
    { field: `${path}.${joinKey}`, repair: `send the ${joinKey} of each candidate` },
  );
}

/** @throws Problem `field_missing`, `wrong_type`, `too_many_candidates` */
function listOf(given: unknown): readonly unknown[] {
  if (!Array.isArray(given)) {
    throw new Problem(
      given === undefined ? "field_missing" : "wrong_type",
      `candidates is a list, given ${given === undefined ? "nothing" : typeName(given)}`,
      { field: "candidates", repair: "send the ids to rank, or an object for each" },
    );
  }
  if (given.length <= MAX_CANDIDATES) return given;
  throw new Problem(
    "too_many_candidates",
    `a ranking has at most ${MAX_CANDIDATES} candidates, given ${given.length}`,
    {
      field: "candidates",
      repair: "choose fewer before you rank, by a cheaper rule",
    },
  );
}

/** How many are asked for. @throws Problem `wrong_type` */
function countOf(given: unknown): number {
  if (given === undefined || given === null) return DEFAULT_RANKED;
  if (typeof given === "number" && Number.isInteger(given) && given >= 1 && given <= MAX_CANDIDATES) return given;
  const shown = typeof given === "number" ? String(given) : typeName(given);
  throw new Problem("wrong_type", `k is a whole number from 1 to ${MAX_CANDIDATES}, given ${shown}`, {
    field: "k",
    repair: `send how many of the best you need, or leave k out for ${DEFAULT_RANKED}`,
  });
}

function withoutRanking(plan: Plan, name: string): Problem {
  const others = plan.services.filter(({ candidate }) => candidate !== undefined).map((one) => one.name);
  return new Problem("service_without_ranking", `service ${name} declares nothing that it ranks`, {
    field: "service",
    repair:
      others.length > 0
        ? `use ${others.join(" or ")}, or declare rank: { candidate: … } in its definition`
        : "declare rank: { candidate: … } in its definition",
  });
}
