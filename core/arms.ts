/** Arms of an experiment, compared: rates with intervals, and differences with theirs. */

/** One scored case. */
export interface Outcome {
  readonly arm: string;
  readonly score: number;
  readonly declined: boolean;
  /** What it turned out to be; null while nobody knows. */
  readonly positive: boolean | null;
}

export interface Rate {
  readonly hits: number;
  readonly of: number;
  /** Null over nothing. */
  readonly rate: number | null;
  /** 95 %. */
  readonly low: number;
  readonly high: number;
}

export interface Arm {
  readonly arm: string;
  readonly scored: number;
  readonly labelled: number;
  readonly meanScore: number | null;
  readonly rates: Readonly<Record<RateName, Rate>>;
}
/**
 * decline_rate: declined of scored. precision: positives of the declined. recall: declined of the positives.
 * false_positive_rate: declined of the negatives. fraud_rate: positives of the labelled, which chance alone should keep apart.
 */
export type RateName = "decline_rate" | "precision" | "recall" | "false_positive_rate" | "fraud_rate";

export interface Difference {
  readonly name: RateName | "mean_score";
  /** Arm minus baseline; null where one of them has nothing to count. */
  readonly difference: number | null;
  readonly low: number | null;
  readonly high: number | null;
  /** The interval does not hold 0. */
  readonly significant: boolean;
}

/** Of the normal distribution, for 95 %. */
const Z = 1.959963984540054;

/** Wilson's score interval: right also for few cases and rates near 0 or 1. (Wilson 1927; Newcombe 1998, method 3.) */
export function wilson(hits: number, of: number): Rate {
  if (of === 0) return { hits, of, rate: null, low: 0, high: 1 };
  const rate = hits / of;
  const centre = (rate + (Z * Z) / (2 * of)) / (1 + (Z * Z) / of);
  const half = (Z / (1 + (Z * Z) / of)) * Math.sqrt((rate * (1 - rate)) / of + (Z * Z) / (4 * of * of));
  return { hits, of, rate, low: hits === 0 ? 0 : centre - half, high: hits === of ? 1 : centre + half };
}

/**
 * Interval of the difference of two independent rates from their own intervals. (Newcombe, "Interval estimation for the
 * difference between independent proportions", 1998, method 10.)
 */
export function newcombe(a: Rate, b: Rate): { difference: number; low: number; high: number } | null {
  if (a.rate === null || b.rate === null) return null;
  const difference = a.rate - b.rate;
  return {
    difference,
    low: difference - Math.hypot(a.rate - a.low, b.high - b.rate),
    high: difference + Math.hypot(a.high - a.rate, b.rate - b.low),
  };
}

interface Tally {
  scored: number;
  sum: number;
  squares: number;
  declined: number;
  positives: number;
  negatives: number;
  declinedPositives: number;
  declinedNegatives: number;
}

/** @returns arms by name, and what each differs in from `baseline` */
export function compareArms(
  outcomes: Iterable<Outcome>,
  baseline: string,
): { arms: Arm[]; differences: { arm: string; of: Difference[] }[] } {
  const tallies = new Map<string, Tally>();
  for (const { arm, score, declined, positive } of outcomes) {
    let tally = tallies.get(arm);
    if (tally === undefined) {
      const zeros = { positives: 0, negatives: 0, declinedPositives: 0, declinedNegatives: 0 };
      tallies.set(arm, (tally = { scored: 0, sum: 0, squares: 0, declined: 0, ...zeros }));
    }
    tally.scored++;
    tally.sum += score;
    tally.squares += score * score;
    if (declined) tally.declined++;
    if (positive === true) tally.positives++;
    if (positive === false) tally.negatives++;
    if (declined && positive === true) tally.declinedPositives++;
    if (declined && positive === false) tally.declinedNegatives++;
  }
  const names = [...tallies.keys()].sort((a, b) => Number(b === baseline) - Number(a === baseline) || (a < b ? -1 : 1));
  const arms = names.map((name) => armOf(name, tallies.get(name)!));
  const base = arms.find(({ arm }) => arm === baseline);
  const others = base === undefined ? [] : arms.filter((arm) => arm !== base);
  return {
    arms,
    differences: others.map((arm) => ({
      arm: arm.arm,
      of: [
        ...RATES.map((name) => described(name, newcombe(arm.rates[name], base!.rates[name]))),
        described("mean_score", meanDifference(tallies.get(arm.arm)!, tallies.get(baseline)!)),
      ],
    })),
  };
}

const RATES = ["decline_rate", "precision", "recall", "false_positive_rate", "fraud_rate"] as const;

function armOf(arm: string, tally: Tally): Arm {
  const { scored, sum, declined, positives, negatives, declinedPositives, declinedNegatives } = tally;
  return {
    arm,
    scored,
    labelled: positives + negatives,
    meanScore: scored === 0 ? null : sum / scored,
    rates: {
      decline_rate: wilson(declined, scored),
      precision: wilson(declinedPositives, declinedPositives + declinedNegatives),
      recall: wilson(declinedPositives, positives),
      false_positive_rate: wilson(declinedNegatives, negatives),
      fraud_rate: wilson(positives, positives + negatives),
    },
  };
}

/** Welch's, with the normal distribution's quantile: arms have far more than the thirty cases where it matters. */
function meanDifference(a: Tally, b: Tally): { difference: number; low: number; high: number } | null {
  if (a.scored < 2 || b.scored < 2) return null;
  const errorOf = ({ scored, sum, squares }: Tally) =>
    Math.max(0, (squares - (sum * sum) / scored) / (scored - 1)) / scored;
  const difference = a.sum / a.scored - b.sum / b.scored;
  const half = Z * Math.sqrt(errorOf(a) + errorOf(b));
  return { difference, low: difference - half, high: difference + half };
}

function described(
  name: Difference["name"],
  found: { difference: number; low: number; high: number } | null,
): Difference {
  if (found === null) return { name, difference: null, low: null, high: null, significant: false };
  return { name, ...found, significant: found.low > 0 || found.high < 0 };
}
