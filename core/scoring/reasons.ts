/** Which features raised a score, in words that a person can read. */
import type { Plan, Scalar } from "../plan.ts";

export interface Reason {
  readonly name: string;
  readonly text: string;
  /** In log-odds. */
  readonly contribution: number;
}

const MAX_REASONS = 5;

/** What each input of a vector is called: the feature's description where it has one. */
export function createLabels(plan: Pick<Plan, "views">): (name: string) => string {
  const described = new Map(
    plan.views.flatMap(({ features }) => features.map(({ name, description }) => [name, description] as const)),
  );
  const words = (name: string) => name.replaceAll("_", " ");
  return (name) => {
    const description = described.get(name);
    if (description) return description;
    const [left, right] = name.split(":");
    if (right === undefined) return words(left);
    return left === "request" ? `${words(right)} of the request` : `${words(right)} of ${words(left)}`;
  };
}

/**
 * The features that raised the score most, at most five.
 * @param contributions aligned with `names` and `values`
 */
export function reasonsOf(
  names: readonly string[],
  values: readonly Scalar[],
  contributions: readonly number[],
  label: (name: string) => string,
): Reason[] {
  return names
    .map((name, i) => ({ name, value: values[i], contribution: contributions[i] }))
    .filter(({ contribution }) => contribution > 0)
    .sort((a, b) => b.contribution - a.contribution)
    .slice(0, MAX_REASONS)
    .map(({ name, value, contribution }) => ({ name, text: `${label(name)}: ${textOf(value)}`, contribution }));
}

const textOf = (value: Scalar): string => {
  if (value === null) return "not known";
  if (typeof value !== "number") return String(value);
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
};
