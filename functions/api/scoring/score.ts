/** `POST /v1/score/{service}` and `…/batch`. How a score comes about is in `score-run.ts`. */
import { typeName } from "../../../core/errors.ts";
import { type JsonObject, readObject } from "../body.ts";
import { completed, sentName, withOwnNames } from "../familiar.ts";
import { MAX_BATCH_ROWS, MAX_QUERY_BYTES } from "../limits.ts";
import { Problem } from "../problems.ts";
import type { Answer, Call, Handle } from "../router.ts";
import { createExplanations } from "./explanation.ts";
import { readRequestFields } from "./request-fields.ts";
import { createTargets, elapsed, explainOf, type ScoreHandlerDependencies, variantOf } from "./score-request.ts";
import type { ScoredRow, ScoredService, ScoreRequest } from "./score-run.ts";

export function createScoreHandlers(deps: ScoreHandlerDependencies): { one: Handle; batch: Handle; familiar: Handle } {
  const { runner, scoring, telemetry, plan } = deps;
  const targetOf = createTargets(deps);
  const explain = createExplanations(deps.plan, scoring);
  const rowJson = (row: ScoredRow) => ({
    score: row.score,
    decision: row.decision,
    model_version: row.modelVersion,
    variant: row.variant,
    features_used: row.evaluation.used,
    features_missing: row.evaluation.missing,
    degraded: row.degraded !== null,
    degraded_reason: row.degraded,
    snapshot_age_ms: row.snapshotAgeMs ?? undefined,
  });

  async function one(
    { c, principal, requestId, startedAt, waitedMs, ticket }: Call,
    isComplete: boolean,
  ): Promise<Answer> {
    const target = targetOf(c.req.param("service") as string, principal.tenant);
    const sent = await readObject(c, MAX_QUERY_BYTES);
    const how = explainOf(sent["explain"]);
    const given = requestOf(target, sent, "", isComplete ? null : joinKeysOf(target));
    const admitted = ticket.charge(1);
    const { asOfMs, rows } = await runner.run(target, principal.tenant, [given], requestId, waitedMs);
    await admitted;
    const [row] = rows;
    const explanation = how === false ? undefined : await explain(target, row, given, how);
    const latencyMs = elapsed(startedAt);
    telemetry.score(target.service.name, row.evaluation.missing.length, row.degraded, latencyMs);
    scoring?.logger.record({ target, tenant: principal.tenant, requestId, asOfMs, requests: [given], rows });
    const tail = { latency_ms: latencyMs, as_of_ms: asOfMs, request_id: requestId };
    return { status: 200, body: JSON.stringify({ ...rowJson(row), explanation, ...tail }) };
  }
  const joinKeysOf = ({ service }: ScoredService) =>
    plan.entities.filter(({ name }) => service.entities.includes(name)).map(({ joinKey }) => joinKey);

  return {
    one: (call) => one(call, true),
    familiar: (call) => one(call, false),

    async batch({ c, principal, requestId, startedAt, waitedMs, ticket, turn }: Call): Promise<Answer> {
      const target = targetOf(c.req.param("service") as string, principal.tenant);
      const body = await readObject(c, MAX_QUERY_BYTES);
      const given = rowsOf(body["rows"]).map((row, i) => requestOf(target, row, `rows[${i}].`));
      await turn(given.length);
      const admitted = ticket.charge(given.length);
      const { asOfMs, rows } = await runner.run(target, principal.tenant, given, requestId, waitedMs);
      await admitted;
      const latencyMs = elapsed(startedAt);
      for (const row of rows) {
        telemetry.score(target.service.name, row.evaluation.missing.length, row.degraded, latencyMs);
      }
      scoring?.logger.record({ target, tenant: principal.tenant, requestId, asOfMs, requests: given, rows });
      const tail = { latency_ms: latencyMs, as_of_ms: asOfMs, request_id: requestId };
      return { status: 200, body: JSON.stringify({ rows: rows.map(rowJson), ...tail }) };
    },
  };
}

/** @param absent keys that are null where they are left out, with the service's fields; null for none that may be left out */
function requestOf(
  { service, definition: { aliases } }: ScoredService,
  sent: JsonObject,
  prefix: string,
  absent: readonly string[] | null = null,
): ScoreRequest {
  const own = withOwnNames(aliases, sent);
  const row = absent === null ? own : completed(service, absent, own);
  return {
    keys: row,
    request: readRequestFields(service, row, (name) => `${prefix}${sentName(aliases, sent, name)}`),
    variant: variantOf(row["variant"], prefix),
    prefix,
  };
}

function rowsOf(given: unknown): JsonObject[] {
  if (!Array.isArray(given) || given.length === 0) {
    throw new Problem(given === undefined ? "field_missing" : "wrong_type", "rows is a list of at least one object", {
      field: "rows",
      repair: "send each row as the body of a single score",
    });
  }
  if (given.length > MAX_BATCH_ROWS) {
    throw new Problem("too_many_rows", `a batch has at most ${MAX_BATCH_ROWS} rows, given ${given.length}`, {
      field: "rows",
      repair: "send several requests",
    });
  }
  given.forEach((row, i) => {
    if (typeof row === "object" && row !== null && !Array.isArray(row)) return;
    throw new Problem("wrong_type", `rows[${i}] is an object, given ${typeName(row)}`, {
      field: `rows[${i}]`,
      repair: "send each row as the body of a single score",
    });
  });
  return given;
}
