/** How a score came about, as answers tell it. */
import type { Plan } from "../../../core/plan.ts";
import { createLabels, reasonsOf } from "../../../core/scoring/reasons.ts";
import { type ScoredRow, type ScoredService, type ScoreRequest, vectorValues } from "./score-run.ts";
import type { ScoringPorts } from "./scoring-ports.ts";

/** `path`: along the decision path; `exact`: Shapley values. Rules explain themselves, however it is asked. */
export type Explain = false | "path" | "exact";

/** @param scoring null on hosts without models */
export function createExplanations(plan: Plan, scoring: Pick<ScoringPorts, "explainer"> | null) {
  const label = createLabels(plan);
  return async function explain(target: ScoredService, row: ScoredRow, { request }: ScoreRequest, how: Explain) {
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
  };
}
