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

export interface GateCheck {
  readonly metric: string;
  readonly candidate: number | null;
  /** What it is held to: the champion's value, or chance where there is no champion. */
  readonly baseline: number | null;
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
}

/** @param champion metrics of the present champion; null when there is none, and then chance is to be beaten */
export function judge(candidate: Values, champion: Values | null, gate: GateDefinition = DEFAULT_GATE): Verdict {
  const compared = champion ?? { [gate.metric]: candidate["base_rate"] };
  const limits = [[gate.metric, gate.tolerance] as const, ...(champion === null ? [] : Object.entries(gate.guards))];
  const checks = limits.map(([metric, allowed]) => check(metric, candidate, compared, allowed, champion === null));
  const failed = checks.find(({ passed }) => !passed);
  return {
    passed: failed === undefined,
    checks,
    reason: failed === undefined ? null : reasonOf(failed, champion === null),
  };
}

function check(metric: string, candidate: Values, baseline: Values, allowed: number, isChance: boolean): GateCheck {
  const given = numberOf(candidate[metric]);
  const wanted = numberOf(baseline[metric]);
  // What the champion never measured cannot be held against a candidate.
  if (wanted === null)
    return { metric, candidate: given, baseline: null, worseBy: null, allowed, passed: given !== null };
  if (given === null) return { metric, candidate: null, baseline: wanted, worseBy: null, allowed, passed: false };
  const worse = LOSSES.has(metric) ? given - wanted : wanted - given;
  const worseBy = wanted === 0 ? (worse > 0 ? Number.POSITIVE_INFINITY : 0) : worse / Math.abs(wanted);
  return {
    metric,
    candidate: given,
    baseline: wanted,
    worseBy,
    allowed,
    passed: isChance ? worse < 0 : worseBy <= allowed,
  };
}

const numberOf = (value: number | null | undefined): number | null =>
  typeof value === "number" && Number.isFinite(value) ? value : null;

function reasonOf({ metric, candidate, baseline, worseBy, allowed }: GateCheck, isChance: boolean): string {
  if (candidate === null) return `${metric} was not measured`;
  if (isChance) return `${metric} ${round(candidate)} is no better than chance, ${round(baseline!)}`;
  const by = `${round(Math.abs(candidate - baseline!))} (${(worseBy! * 100).toFixed(1)} %)`;
  return `${metric} ${round(candidate)} is ${by} worse than the champion's ${round(baseline!)}; ${allowed * 100} % is allowed`;
}

const round = (value: number): string => value.toFixed(4);
