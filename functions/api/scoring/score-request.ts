/** What calls that score have in common: which service, whose variant, explained how. */
import type { FeatureServiceDefinition } from "../../../core/definition.ts";
import type { Plan } from "../../../core/plan.ts";
import type { Scorer } from "../../../core/scoring/scoring.ts";
import type { Telemetry } from "../observability/telemetry.ts";
import { Problem, shown } from "../problems.ts";
import type { Catalogue } from "../reading/selection.ts";
import type { Explain } from "./explanation.ts";
import { type ScoredService, type ScoreRunner, type Variant, withoutModel } from "./score-run.ts";
import type { ScoringPorts } from "./scoring-ports.ts";

export interface ScoreHandlerDependencies {
  readonly plan: Plan;
  readonly catalogue: Catalogue;
  readonly services: readonly FeatureServiceDefinition[];
  readonly scorers: ReadonlyMap<string, Scorer>;
  readonly runner: ScoreRunner;
  readonly scoring: Pick<ScoringPorts, "explainer" | "logger"> | null;
  readonly telemetry: Telemetry;
}

const VARIANTS: readonly string[] = ["champion", "challenger", "fallback"] satisfies Variant[];

/** Finds a service by name. The function throws Problem `service_unknown`, `service_without_model`. */
export function createTargets(
  deps: Pick<ScoreHandlerDependencies, "catalogue" | "services" | "scorers" | "runner">,
): (name: string, tenant: string) => ScoredService {
  const { catalogue, services, scorers, runner } = deps;
  const targets = new Map(
    services.flatMap((definition): [string, ScoredService][] => {
      const scorer = scorers.get(definition.name);
      return scorer === undefined
        ? []
        : [[definition.name, { ...catalogue.service(definition.name), scorer, definition }]];
    }),
  );
  return (name, tenant) => {
    const target = targets.get(catalogue.service(name).service.name);
    if (target === undefined) throw withoutModel(name);
    runner.require(target, tenant);
    return target;
  };
}

/** In milliseconds. */
export const elapsed = (startedAt: number): number => Math.round((performance.now() - startedAt) * 1000) / 1000;

/** @param prefix path of the row in the request, for errors. @throws Problem `wrong_type` */
export function variantOf(given: unknown, prefix: string): Variant | null {
  if (given === undefined || given === null) return null;
  if (typeof given === "string" && VARIANTS.includes(given)) return given as Variant;
  throw new Problem("wrong_type", `${prefix}variant is one of ${VARIANTS.join(", ")}, given ${shown(given)}`, {
    field: `${prefix}variant`,
    repair: "leave variant out to let the experiment decide",
  });
}

/** @throws Problem `wrong_type` */
export function explainOf(given: unknown): Explain {
  if (given === undefined || given === false) return false;
  if (given === true) return "path";
  if (given === "exact") return "exact";
  throw new Problem("wrong_type", `explain is true, false or "exact", given ${shown(given)}`, {
    field: "explain",
    repair: 'send "explain": true',
  });
}
