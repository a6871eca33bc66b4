/** Whether a model may take the champion's place: not worse where it counts, and not much worse anywhere that is guarded. */
export interface GateDefinition {
  /** What must not get worse. */
  readonly metric: string;
  /** Share of the champion's value by which `metric` may be worse. */
  readonly tolerance: number;
  /** Metrics that may be worse by at most this share of the champion's value. */
  readonly guards: Readonly<Record<string, number>>;
}

/** A challenger that ranks as well, but finds a tenth less fraud or is a tenth worse calibrated, is no improvement. */
export const DEFAULT_GATE: GateDefinition = {
  metric: "pr_auc",
  tolerance: 0,
  guards: { recall_at_fpr_1pct: 0.1, brier: 0.1 },
};

/** Of these, less is better. */
const LOSSES: ReadonlySet<string> = new Set(["log_loss", "brier"]);

type Values = Readonly<Record<string, number | null | undefined>>;

/** What a model's manifest says of how well it did, and on what. */
export interface Measured {
  /** Of its test slice. */
  readonly metrics: Values;
  /** The training set's manifest; the test slice is its last part. */
  readonly trainingSet: Readonly<Record<string, unknown>>;
  /** How the champion of its training did on its own test slice. */
  readonly champion?: { readonly manifestSha256: string; readonly metrics: Values } | null;
}

export interface GateCheck {
  readonly metric: string;
  readonly candidate: number | null;
  /** What it is held to: the champion's value at the candidate's base rate, or chance where there is no champion. */
  readonly baseline: number | null;
  /** The champion's value as it was measured, on the candidate's rows if it was; null where there is no champion. */
  readonly measured: number | null;
  /** By how much of the baseline the candidate is worse; negative where it is better. */
  readonly worseBy: number | null;
  readonly allowed: number;
  readonly passed: boolean;
}

export interface Verdict {
  readonly passed: boolean;
  readonly checks: readonly GateCheck[];
  /** One sentence on the first check that failed; null when all passed. */
  readonly reason: string | null;
  /** What the comparison cannot tell; null when both were measured on the same rows, or nobody is champion. */
  readonly reservation: string | null;
}

/**
 * @param standing the champion; null when there is none, and then chance is to be beaten. Where the candidate's training has measured
 *   this very model on the candidate's rows, that is what counts.
 */
export function judge(
  candidate: Measured,
  standing: (Measured & { readonly manifestSha256: string }) | null,
  gate: GateDefinition = DEFAULT_GATE,
): Verdict {
  const measured = measuredBeside(candidate, standing, [gate.metric, ...Object.keys(gate.guards)]);
  const champion: Measured | null = measured ? { ...candidate, metrics: measured.metrics } : standing;
  const limits = [[gate.metric, gate.tolerance] as const, ...(champion === null ? [] : Object.entries(gate.guards))];
  const checks = limits.map(([metric, allowed]) =>
    check(metric, candidate.metrics, champion?.metrics ?? null, allowed),
  );
  const failed = checks.find(({ passed }) => !passed);
  return {
    passed: failed === undefined,
    checks,
    reason: failed === undefined ? null : reasonOf(failed, champion === null),
    reservation:
      champion === null || measured || isSameRows(candidate, champion)
        ? null
        : "the two were measured on different rows: the champion's values are brought to the candidate's base rate, other differences between the rows are not",
  };
}

/** The champion's values on the candidate's rows; null unless they say all that counts, as far as the champion's own do. */
function measuredBeside(
  { champion }: Measured,
  standing: (Measured & { readonly manifestSha256: string }) | null,
  metrics: readonly string[],
): Measured["champion"] {
  if (!champion || standing?.manifestSha256 !== champion.manifestSha256) return null;
  const lacks = (metric: string) =>
    numberOf(champion.metrics[metric]) === null && numberOf(standing.metrics[metric]) !== null;
  return metrics.some(lacks) ? null : champion;
}

function check(metric: string, candidate: Values, champion: Values | null, allowed: number): GateCheck {
  const given = numberOf(candidate[metric]);
  const baseRate = numberOf(candidate["base_rate"]);
  const measured = champion === null ? null : numberOf(champion[metric]);
  const wanted =
    champion === null
      ? chanceOf(metric, baseRate)
      : atBaseRate(metric, measured, numberOf(champion["base_rate"]), baseRate);
  const common = { metric, candidate: given, baseline: wanted, measured, allowed };
  // What the champion never measured cannot be held against a candidate.
  if (wanted === null) return { ...common, worseBy: null, passed: given !== null };
  if (given === null) return { ...common, worseBy: null, passed: false };
  const worse = LOSSES.has(metric) ? given - wanted : wanted - given;
  const worseBy = wanted === 0 ? (worse > 0 ? Number.POSITIVE_INFINITY : 0) : worse / Math.abs(wanted);
  return { ...common, worseBy, passed: champion === null ? worse < 0 : worseBy <= allowed };
}

/** What a score that knows nothing but the base rate p gets; null where that isn't known. */
function chanceOf(metric: string, p: number | null): number | null {
  if (metric === "roc_auc") return 0.5;
  if (metric === "recall_at_fpr_1pct") return 0.01;
  if (p === null) return null;
  if (metric === "pr_auc") return p;
  if (metric === "brier") return p * (1 - p);
  if (metric === "log_loss") return p <= 0 || p >= 1 ? 0 : -(p * Math.log(p) + (1 - p) * Math.log(1 - p));
  return null;
}

/**
 * A value measured at one base rate as it would be at another with the same skill: the same share of the way from chance to
 * perfection. Measures whose chance is the same at every base rate, or not known, stay as they are.
 */
function atBaseRate(metric: string, value: number | null, own: number | null, other: number | null): number | null {
  const [from, to] = [chanceOf(metric, own), chanceOf(metric, other)];
  // Not by way of a quotient of 1: a champion is not worse than itself by a rounding.
  if (value === null || from === null || to === null || from === to) return value;
  const best = LOSSES.has(metric) ? 0 : 1;
  return from === best ? value : best + ((value - best) * (to - best)) / (from - best);
}

/** A test slice is the last part of a training set, so equal sets with equal slices are the same rows. */
const isSameRows = (one: Measured, other: Measured): boolean =>
  ["from_ms", "to_ms", "row_count", "positives"].every((name) => one.trainingSet[name] === other.trainingSet[name]) &&
  ["rows_test", "base_rate"].every((name) => one.metrics[name] === other.metrics[name]);

const numberOf = (value: number | null | undefined): number | null =>
  typeof value === "number" && Number.isFinite(value) ? value : null;

function reasonOf({ metric, candidate, baseline, measured, worseBy, allowed }: GateCheck, isChance: boolean): string {
  if (candidate === null) return `${metric} was not measured`;
  if (isChance) return `${metric} ${round(candidate)} is no better than chance, ${round(baseline!)}`;
  const by = `${round(Math.abs(candidate - baseline!))} (${(worseBy! * 100).toFixed(1)} %)`;
  const moved = measured === baseline ? "" : ` (${round(measured!)} at its own base rate)`;
  return `${metric} ${round(candidate)} is ${by} worse than the champion's ${round(baseline!)}${moved}; ${allowed * 100} % is allowed`;
}

const round = (value: number): string => value.toFixed(4);
