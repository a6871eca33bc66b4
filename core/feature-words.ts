/** What a feature is, in words, from its definition: where nobody has described it. */
import { formatDuration } from "./duration.ts";
import type { Feature, Group, Operator, Scalar, Where, Window } from "./plan.ts";

const NOUNS: Readonly<Record<Operator, (field: string) => string>> = {
  count: () => "count",
  sum: (field) => `sum of ${field}`,
  mean: (field) => `mean of ${field}`,
  min: (field) => `least ${field}`,
  max: (field) => `greatest ${field}`,
  variance: (field) => `variance of ${field}`,
  stddev: (field) => `standard deviation of ${field}`,
  first: (field) => `first ${field}`,
  last: (field) => `last ${field}`,
  approxDistinct: (field) => `approximate number of different ${field}`,
  timeSinceLast: () => "time since the last one",
  lastN: (field) => `last values of ${field}`,
  approxPercentile: (field) => `approximate percentile of ${field}`,
  topK: (field) => `most frequent ${field}`,
  decayedSum: (field) => `fading sum of ${field}`,
};

/** `sum of amount in transactions of the last 24h, where status is declined`. */
export function wordsOf(feature: Feature, group: Pick<Group, "stream" | "slots" | "channels">): string {
  const { input } = group.channels[group.slots[feature.slots[0]].channel];
  const noun = NOUNS[feature.operator](words(input.field ?? "event"));
  const where = input.where === null ? "" : `, where ${condition(input.where)}`;
  return `${noun} in ${words(group.stream)} ${windowWords(feature.window)}${where}`;
}

function windowWords(window: Window): string {
  if (window.kind === "lifetime") return "of all time";
  const { sizeMs, delayMs } = window;
  return `of ${delayMs > 0 ? "" : "the last "}${formatDuration(sizeMs)}${delayMs > 0 ? ` that ended ${formatDuration(delayMs)} ago` : ""}`;
}

const words = (name: string): string => name.replaceAll("_", " ");
const literal = (value: Scalar): string => (value === null ? "missing" : String(value));

const COMPARISONS = {
  eq: "is",
  ne: "is not",
  lt: "is below",
  lte: "is at most",
  gt: "is above",
  gte: "is at least",
} as const;

function condition(where: Where): string {
  switch (where.op) {
    case "and":
    case "or":
      return where.of
        .map((each) => (each.op === "and" || each.op === "or" ? `(${condition(each)})` : condition(each)))
        .join(` ${where.op} `);
    case "not":
      return `not (${condition(where.of)})`;
    case "isNull":
      return `${words(where.field)} is missing`;
    case "in":
      return `${words(where.field)} is one of ${where.values.map(literal).join(", ")}`;
    default:
      return `${words(where.field)} ${COMPARISONS[where.op]} ${literal(where.value)}`;
  }
}
