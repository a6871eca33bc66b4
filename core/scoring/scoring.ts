/**
 * Evaluation of a feature service: on-demand features and the rule-based fallback. Pure, so the API and the offline join
 * run the same functions and agree.
 */
import type { DecisionDefinition, FeatureServiceDefinition, RuleContext, RulesDefinition } from "../definition.ts";
import { DefinitionError } from "../errors.ts";
import type { FeatureValue, Plan, Scalar, Service } from "../plan.ts";
import { checkServing } from "./variant.ts";

export type Decision = "approve" | "review" | "decline";
/** Where neither the service nor its rules say otherwise. */
const DEFAULT_DECISION: DecisionDefinition = { review: 0.5, decline: 0.85 };

export const decide = (score: number, { review, decline }: DecisionDefinition): Decision =>
  score >= decline ? "decline" : score >= review ? "review" : "approve";

/** The limits that a model's scores are held to. */
export const limitsOf = ({ decision, fallback }: FeatureServiceDefinition): DecisionDefinition =>
  decision ?? fallback ?? DEFAULT_DECISION;
export type RequestFields = Readonly<Record<string, Scalar>>;

/** A rule that fired, and its share of `score - base`. */
export interface Contribution {
  readonly name: string;
  readonly reason: string;
  readonly weight: number;
  readonly contribution: number;
}

/** The service's inputs, evaluated: stored features first, on-demand features after, as a model sees them. */
export interface Evaluation {
  /** Aligned with `Scorer.inputs`; a declared default stands in for a feature without a value. */
  readonly values: readonly Scalar[];
  /** Names that had a value of their own. */
  readonly used: readonly string[];
  /** Names that had none, whether or not a default stood in. */
  readonly missing: readonly string[];
  /** On-demand functions that threw (their feature counts as missing). */
  readonly faults: readonly string[];
}

export interface Score {
  /** 0 to 1. */
  readonly score: number;
  readonly decision: Decision;
  readonly modelVersion: string;
  /** Score when no rule fires; the contributions add up to `score - base`. */
  readonly base: number;
  readonly contributions: readonly Contribution[];
  /** Rules that threw (they count as not fired). */
  readonly faults: readonly string[];
}

export interface Scorer {
  readonly service: Service;
  /** Names of the inputs in order: stored features, then on-demand ones. */
  readonly inputs: readonly string[];
  /**
   * @param stored aligned with `service.features`; null when the store could not be read
   * @param request request fields by name; null for a field that the caller does not know
   */
  evaluate(request: RequestFields, stored: readonly FeatureValue[] | null): Evaluation;
  /** Scores with the rules; null when the service declares no fallback. */
  score(request: RequestFields, evaluation: Evaluation): Score | null;
}

/**
 * Binds a service of the plan to its functions. Every function is tried once without any value, so that one that reads a
 * feature outside the service, or cannot live with a missing one, is refused at start and not at the first bad request.
 * @throws DefinitionError `service_mismatch`, `feature_unknown`, `function_throws`, `rules_invalid`
 */
export function createScorer(service: Service, definition: FeatureServiceDefinition): Scorer {
  const inputs = [...service.features, ...service.onDemand];
  const position = new Map(inputs.map((name, index) => [name, index]));
  const onDemand = service.onDemand.map((name) => {
    const compute = definition.onDemand[name];
    if (compute === undefined) {
      throw new DefinitionError("service_mismatch", `the plan's on-demand feature ${name} has no function`, {
        field: `${service.name}.onDemand.${name}`,
        repair: "compile the plan from the same definitions that are loaded",
      });
    }
    return { name, compute };
  });
  const defaults = inputs.map((name) => definition.defaults[name] ?? null);
  for (const name of Object.keys(definition.defaults)) if (!position.has(name)) throw unknownFeature(service, name);
  if (definition.fallback) checkRules(service, definition.fallback);
  tryWithoutValues(service, definition, position);

  return {
    service,
    inputs,

    evaluate(request, stored) {
      const values: Scalar[] = new Array(inputs.length).fill(null);
      const missing: string[] = [];
      const faults: string[] = [];
      const settle = (index: number, value: Scalar) => {
        if (value === null) missing.push(inputs[index]);
        values[index] = value ?? defaults[index];
      };
      const storedCount = service.features.length;
      for (let i = 0; i < storedCount; i++) {
        // No list: compileService refuses those.
        const given = stored === null ? undefined : stored[i];
        settle(i, given !== undefined && given.status === "PRESENT" ? (given.value as Scalar) : null);
      }
      const context: RuleContext = { request: request as any, f: (name) => values[position.get(name) ?? -1] ?? null };
      for (let i = 0; i < onDemand.length; i++) {
        let value: Scalar = null;
        try {
          const computed = onDemand[i].compute(context) ?? null;
          value = typeof computed === "number" && !Number.isFinite(computed) ? null : computed;
        } catch {
          faults.push(onDemand[i].name);
        }
        settle(storedCount + i, value);
      }
      return { values, used: missing.length === 0 ? inputs : without(inputs, missing), missing, faults };
    },

    score(request, evaluation) {
      const rules = definition.fallback;
      if (!rules) return null;
      const { values } = evaluation;
      const context: RuleContext = { request: request as any, f: (name) => values[position.get(name) ?? -1] ?? null };
      return applyRules(rules, context);
    },
  };
}

/** @param out some of the names, in their order */
function without(names: readonly string[], out: readonly string[]): string[] {
  let next = 0;
  return names.filter((name) => {
    const isOut = name === out[next];
    if (isOut) next++;
    return !isOut;
  });
}

/**
 * Noisy-or: every fired rule is an independent chance that the case is bad, `1 - score = (1 - base) x product(1 - weight)`.
 * In the logarithm of `1 - score` the rules add up, so each gets the share of `score - base` that its logarithm has of
 * the sum: independent of order, and the shares add up to the difference.
 */
function applyRules(rules: RulesDefinition, context: RuleContext): Score {
  let good = 1 - rules.base;
  let logSum = 0;
  const fired: { name: string; reason: string; weight: number; log: number }[] = [];
  const faults: string[] = [];
  for (const rule of rules.rules) {
    try {
      if (!rule.when(context)) continue;
    } catch {
      faults.push(rule.name);
      continue;
    }
    const log = Math.log1p(-rule.weight);
    good *= 1 - rule.weight;
    logSum += log;
    fired.push({ name: rule.name, reason: rule.reason, weight: rule.weight, log });
  }
  // What nothing has changed stays as declared: 1 - (1 - 0.1) is below 0.1.
  const score = fired.length === 0 ? rules.base : 1 - good;
  const raised = score - rules.base;
  return {
    score,
    decision: decide(score, rules),
    modelVersion: rules.version,
    base: rules.base,
    contributions: fired.map(({ name, reason, weight, log }) => ({
      name,
      reason,
      weight,
      contribution: (raised * log) / logSum,
    })),
    faults,
  };
}

function checkRules(service: Service, rules: RulesDefinition): void {
  const field = `${service.name}.fallback`;
  const refuse = (message: string, repair: string) => {
    throw new DefinitionError("rules_invalid", `${rules.version}: ${message}`, { field, repair });
  };
  if (!(rules.base >= 0 && rules.base < 1)) {
    refuse(`base is a probability from 0 to below 1, given ${rules.base}`, "use the share of bad cases, as 0.01");
  }
  if (!(rules.review > 0 && rules.review <= rules.decline && rules.decline <= 1)) {
    refuse(
      `0 < review <= decline <= 1 must hold, given review ${rules.review} and decline ${rules.decline}`,
      "set review below decline, as 0.5 and 0.85",
    );
  }
  const names = new Set<string>();
  for (const rule of rules.rules) {
    if (!(rule.weight > 0 && rule.weight < 1)) {
      refuse(
        `weight of rule ${rule.name} lies between 0 and 1, both excluded, given ${rule.weight}`,
        "use 0.99 for a rule that should decide alone; leave out a rule that should not count",
      );
    }
    if (names.has(rule.name)) refuse(`rule ${rule.name} is declared twice`, "give every rule its own name");
    names.add(rule.name);
  }
}

function tryWithoutValues(
  service: Service,
  definition: FeatureServiceDefinition,
  position: ReadonlyMap<string, number>,
): void {
  const request = Object.fromEntries(Object.keys(service.request).map((name) => [name, null]));
  const attempt = (what: string, run: (context: RuleContext) => unknown) => {
    const f = (name: string): Scalar => {
      if (!position.has(name)) throw unknownFeature(service, name);
      return null;
    };
    try {
      run({ request: request as any, f });
    } catch (cause) {
      if (cause instanceof DefinitionError) throw cause;
      throw new DefinitionError("function_throws", `${what} throws when its inputs are missing`, {
        field: `${service.name}.${what}`,
        repair: "request fields and f(name) may be null; test for null before use",
        cause,
      });
    }
  };
  for (const [name, compute] of Object.entries(definition.onDemand)) attempt(`onDemand.${name}`, compute);
  for (const rule of definition.fallback?.rules ?? []) attempt(`fallback.${rule.name}`, rule.when);
}

const unknownFeature = (service: Service, name: string) =>
  new DefinitionError("feature_unknown", `service ${service.name} has no feature "${name}"`, {
    field: service.name,
    repair: `add it to the service's features, or use one of ${[...service.features, ...service.onDemand].join(", ")}`,
  });

/** Makes every service's scorer once, so that what it would refuse is refused before anything is deployed. @throws DefinitionError */
export function checkServices(
  plan: Pick<Plan, "services" | "entities" | "streams">,
  definitions: readonly FeatureServiceDefinition[],
): void {
  for (const service of plan.services) {
    const definition = definitions.find(({ name }) => name === service.name)!;
    createScorer(service, definition);
    checkServing(plan, service, definition);
  }
}
