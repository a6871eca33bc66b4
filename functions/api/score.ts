/** `POST /v1/score/{service}` and `…/batch`. How a score comes about is in `score-run.ts`. */
import type { FeatureServiceDefinition } from "../../core/definition.ts";
import type { Plan } from "../../core/plan.ts";
import { createLabels, reasonsOf } from "../../core/reasons.ts";
import type { Scorer } from "../../core/scoring.ts";
import { type JsonObject, readObject } from "./body.ts";
import { MAX_BATCH_ROWS, MAX_QUERY_BYTES } from "./limits.ts";
import { Problem } from "./problems.ts";
import { readRequestFields } from "./request-fields.ts";
import type { Answer, Call, Handle } from "./router.ts";
import {
  type ScoredRow,
  type ScoredService,
  type ScoreRequest,
  type ScoreRunner,
  type Variant,
  vectorValues,
  withoutModel,
} from "./score-run.ts";
import type { ScoringPorts } from "./scoring-ports.ts";
import { type Catalogue, typeName } from "./selection.ts";
import type { Telemetry } from "./telemetry.ts";

type Explain = false | "path" | "exact";
const VARIANTS: readonly string[] = ["champion", "challenger", "fallback"] satisfies Variant[];

export function createScoreHandlers(deps: {
  plan: Plan;
  catalogue: Catalogue;
  services: readonly FeatureServiceDefinition[];
  scorers: ReadonlyMap<string, Scorer>;
  runner: ScoreRunner;
  scoring: Pick<ScoringPorts, "explainer" | "logger"> | null;
  telemetry: Telemetry;
}): { one: Handle; batch: Handle } {
  const { catalogue, services, scorers, runner, scoring, telemetry } = deps;
  const label = createLabels(deps.plan);
  const targets = new Map(
    services.flatMap((definition): [string, ScoredService][] => {
      const scorer = scorers.get(definition.name);
      return scorer === undefined
        ? []
        : [[definition.name, { ...catalogue.service(definition.name), scorer, definition }]];
    }),
  );
  const targetOf = (name: string, tenant: string): ScoredService => {
    const target = targets.get(catalogue.service(name).service.name);
    if (target === undefined) throw withoutModel(name);
    runner.require(target, tenant);
    return target;
  };
  const rowJson = (row: ScoredRow) => ({
    score: row.score,
    decision: row.decision,
    model_version: row.modelVersion,
    variant: row.variant,
    features_used: row.evaluation.used,
    features_missing: row.evaluation.missing,
    degraded: row.degraded !== null,
    degraded_reason: row.degraded,
  });

  async function explanationJson(target: ScoredService, row: ScoredRow, { request }: ScoreRequest, how: Explain) {
    const { scorer } = target;
    const features = Object.fromEntries(scorer.inputs.map((input, i) => [input, row.evaluation.values[i]]));
    if (row.byModel === null) {
      const { base, contributions } = row.byRules!;
      const reasons = contributions.map(({ name, reason, contribution }) => ({ name, text: reason, contribution }));
      return { method: "rules", base, raw_score: null, contributions, reasons, features };
    }
    const { served, vector, raw } = row.byModel;
    const { method, base, contributions } =
      how === "exact" && scoring !== null
        ? await scoring.explainer.explain(served.model, vector)
        : served.model.explain(vector);
    const names = served.model.manifest.features.map(({ name }) => name);
    const values = vectorValues(target, request, row.evaluation.values);
    return {
      method,
      base,
      raw_score: raw,
      // Those of zero add nothing to the sum, and little to the reader.
      contributions: names
        .map((name, i) => ({ name, value: values[i], contribution: contributions[i] }))
        .filter(({ contribution }) => contribution !== 0)
        .sort((a, b) => Math.abs(b.contribution) - Math.abs(a.contribution)),
      reasons: reasonsOf(names, values, contributions, label),
      features,
    };
  }

  return {
    async one({ c, principal, requestId, startedAt }: Call): Promise<Answer> {
      const target = targetOf(c.req.param("service") as string, principal.tenant);
      const body = await readObject(c, MAX_QUERY_BYTES);
      const how = explainOf(body["explain"]);
      const given = requestOf(target, body, "");
      const { asOfMs, rows } = await runner.run(target, principal.tenant, [given], requestId);
      const [row] = rows;
      const explanation = how === false ? undefined : await explanationJson(target, row, given, how);
      const latencyMs = elapsed(startedAt);
      telemetry.score(target.service.name, row.evaluation.missing.length, row.degraded, latencyMs);
      scoring?.logger.record({ target, tenant: principal.tenant, requestId, asOfMs, requests: [given], rows });
      const tail = { latency_ms: latencyMs, as_of_ms: asOfMs, request_id: requestId };
      return { status: 200, body: JSON.stringify({ ...rowJson(row), explanation, ...tail }) };
    },

    async batch({ c, principal, requestId, startedAt }: Call): Promise<Answer> {
      const target = targetOf(c.req.param("service") as string, principal.tenant);
      const body = await readObject(c, MAX_QUERY_BYTES);
      const given = rowsOf(body["rows"]).map((row, i) => requestOf(target, row, `rows[${i}].`));
      const { asOfMs, rows } = await runner.run(target, principal.tenant, given, requestId);
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

const elapsed = (startedAt: number): number => Math.round((performance.now() - startedAt) * 1000) / 1000;

function requestOf({ service }: ScoredService, row: JsonObject, prefix: string): ScoreRequest {
  return {
    keys: row,
    request: readRequestFields(service, row, prefix),
    variant: variantOf(row["variant"], prefix),
    prefix,
  };
}

function variantOf(given: unknown, prefix: string): Variant | null {
  if (given === undefined || given === null) return null;
  if (typeof given === "string" && VARIANTS.includes(given)) return given as Variant;
  throw new Problem("wrong_type", `${prefix}variant is one of ${VARIANTS.join(", ")}, given ${shown(given)}`, {
    field: `${prefix}variant`,
    repair: "leave variant out to let the experiment decide",
  });
}

const shown = (given: unknown) => (typeof given === "string" ? `"${given.slice(0, 40)}"` : typeName(given));

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

function explainOf(given: unknown): Explain {
  if (given === undefined || given === false) return false;
  if (given === true) return "path";
  if (given === "exact") return "exact";
  throw new Problem("wrong_type", `explain is true, false or "exact", given ${shown(given)}`, {
    field: "explain",
    repair: 'send "explain": true',
  });
}
