/**
 * Arms of an experiment, compared: rates with intervals, and differences with theirs. Chance deals keys, not scores, and the
 * scores of one key are alike; so a key is the unit that every interval counts.
 */
import {
  type Interval,
  newcombe,
  type Part,
  pairedDifference,
  type Rate,
  rateOverUnits,
  ratioDifference,
} from "./intervals.ts";

/** How a model judged a case. */
export interface Verdict {
  readonly arm: string;
  readonly score: number;
  readonly declined: boolean;
}

interface Case {
  /** The key that was dealt, or what else cases have in common. */
  readonly unit: string;
  /** What it turned out to be; null while nobody knows. */
  readonly positive: boolean | null;
}

/** A case of one arm. */
export interface Outcome extends Case, Verdict {}

/** A case that two models judged. */
export interface Pair extends Case {
  readonly champion: Verdict;
  readonly shadow: Verdict;
}

export interface Arm {
  readonly arm: string;
  readonly units: number;
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

interface Tally {
  scored: number;
  sum: number;
  declined: number;
  positives: number;
  negatives: number;
  declinedPositives: number;
  declinedNegatives: number;
}
/** By unit. */
type Sample = Map<string, Tally>;

const RATES: Readonly<Record<RateName, (tally: Tally) => Part>> = {
  decline_rate: ({ declined, scored }) => ({ sum: declined, of: scored }),
  precision: ({ declinedPositives: sum, declinedNegatives }) => ({ sum, of: sum + declinedNegatives }),
  recall: ({ declinedPositives, positives }) => ({ sum: declinedPositives, of: positives }),
  false_positive_rate: ({ declinedNegatives, negatives }) => ({ sum: declinedNegatives, of: negatives }),
  fraud_rate: ({ positives, negatives }) => ({ sum: positives, of: positives + negatives }),
};
const NAMES = Object.keys(RATES) as RateName[];
const scoreOf = ({ sum, scored }: Tally): Part => ({ sum, of: scored });

/** @returns arms by name, and what each differs in from `baseline` */
export function compareArms(
  outcomes: Iterable<Outcome>,
  baseline: string,
): { arms: Arm[]; differences: { arm: string; of: Difference[] }[] } {
  const samples = new Map<string, Sample>();
  for (const outcome of outcomes) {
    let sample = samples.get(outcome.arm);
    if (sample === undefined) samples.set(outcome.arm, (sample = new Map()));
    count(sample, outcome, outcome);
  }
  const names = [...samples.keys()].sort((a, b) => Number(b === baseline) - Number(a === baseline) || (a < b ? -1 : 1));
  const arms = names.map((name) => armOf(name, samples.get(name)!));
  const base = arms.find(({ arm }) => arm === baseline);
  const others = base === undefined ? [] : arms.filter((arm) => arm !== base);
  const scores = (name: string) => [...samples.get(name)!.values()].map(scoreOf);
  return {
    arms,
    differences: others.map(({ arm, rates }) => ({
      arm,
      of: [
        ...NAMES.map((name) => described(name, newcombe(rates[name], base!.rates[name]))),
        described("mean_score", ratioDifference(scores(arm), scores(baseline))),
      ],
    })),
  };
}

export interface ShadowComparison {
  readonly champion: Arm;
  readonly shadow: Arm;
  /** Shadow minus champion. */
  readonly of: readonly Difference[];
}

/** Each shadow beside the champion that answered, over the same cases: their difference alone is left to chance. */
export function compareShadows(pairs: Iterable<Pair>): ShadowComparison[] {
  const samples = new Map<string, { names: [string, string]; champion: Sample; shadow: Sample }>();
  for (const pair of pairs) {
    const names: [string, string] = [pair.champion.arm, pair.shadow.arm];
    const key = names.join("\n");
    let found = samples.get(key);
    if (found === undefined) samples.set(key, (found = { names, champion: new Map(), shadow: new Map() }));
    count(found.champion, pair, pair.champion);
    count(found.shadow, pair, pair.shadow);
  }
  return [...samples.values()].map(({ names, champion, shadow }) => {
    // Both were filled by the same cases, so their units come in the same order.
    const differ = (part: (tally: Tally) => Part) =>
      pairedDifference([...shadow.values()].map(part), [...champion.values()].map(part));
    return {
      champion: armOf(names[0], champion),
      shadow: armOf(names[1], shadow),
      of: [
        // What the cases are does not depend on who judges them.
        ...NAMES.filter((name) => name !== "fraud_rate").map((name) => described(name, differ(RATES[name]))),
        described("mean_score", differ(scoreOf)),
      ],
    };
  });
}

function count(sample: Sample, { unit, positive }: Case, { score, declined }: Verdict): void {
  let tally = sample.get(unit);
  if (tally === undefined) {
    const labelled = { positives: 0, negatives: 0, declinedPositives: 0, declinedNegatives: 0 };
    sample.set(unit, (tally = { scored: 0, sum: 0, declined: 0, ...labelled }));
  }
  tally.scored++;
  tally.sum += score;
  if (declined) tally.declined++;
  if (positive === true) tally.positives++;
  if (positive === false) tally.negatives++;
  if (declined && positive === true) tally.declinedPositives++;
  if (declined && positive === false) tally.declinedNegatives++;
}

function armOf(arm: string, sample: Sample): Arm {
  const tallies = [...sample.values()];
  const rates = Object.fromEntries(NAMES.map((name) => [name, rateOverUnits(tallies.map(RATES[name]))]));
  const scored = tallies.reduce((sum, one) => sum + one.scored, 0);
  return {
    arm,
    units: tallies.length,
    scored,
    labelled: tallies.reduce((sum, one) => sum + one.positives + one.negatives, 0),
    meanScore: scored === 0 ? null : tallies.reduce((sum, one) => sum + one.sum, 0) / scored,
    rates: rates as Record<RateName, Rate>,
  };
}

function described(name: Difference["name"], found: Interval | null): Difference {
  if (found === null) return { name, difference: null, low: null, high: null, significant: false };
  return { name, ...found, significant: found.low > 0 || found.high < 0 };
}
