/** Operators: which accumulators each needs, and how their states become the value that is served. */

import type { HoppingWindow, Operator, SlotKind, Value, Window } from "../plan.ts";
import type { ByAge, Pointed, State } from "./accumulators.ts";
import { type Buckets, percentileOf } from "./buckets.ts";
import { decayedTotal } from "./decay.ts";
import { countDistinct, type Distinct } from "./distinct.ts";
import { mostFrequent, type Tally } from "./tally.ts";
import { OVERFLOWN, type Wide, wideToBigInt, wideToNumber } from "./wide.ts";

export interface LowerOptions {
  readonly scale: number | null;
  readonly parameter?: number;
  readonly sample: boolean;
  readonly window: Window;
  /** The reader's clock. */
  readonly asOfMs: number;
}

interface ParameterRule {
  readonly name: string;
  readonly rule: string;
  readonly example: string;
  holds(value: number): boolean;
}

interface OperatorRule {
  /** Kinds of the slots, in the order that `lower` takes their states. */
  readonly slots: readonly SlotKind[];
  /** True when the states are `ByAge`: one for each hop. */
  readonly byHop?: true;
  /** `required`: minor units are needed to be exact. `none`: the value is taken as it is. */
  readonly scale: "required" | "none";
  /** What an author must say beside the field. */
  readonly parameter?: ParameterRule;
  lower(states: readonly State[], options: LowerOptions): Value;
}

const scaled = (minor: number, scale: number): number => (scale === 0 ? minor : minor / 10 ** scale);

/**
 * Variance of n integers from their exact sums, in units squared: (n Σx² − (Σx)²) / (n · d · 10^2s), d = n or n − 1.
 * Numerator and denominator are exact, each is rounded once, then divided.
 */
function varianceOf([squares, sum, n]: readonly State[], { scale, sample }: LowerOptions): number | null {
  const events = n as number;
  if (events < (sample ? 2 : 1) || (squares as Wide).hi >= OVERFLOWN.hi) return null;
  const total = wideToBigInt(sum as Wide);
  const numerator = BigInt(events) * wideToBigInt(squares as Wide) - total * total;
  const denominator = BigInt(events) * BigInt(sample ? events - 1 : events) * 10n ** BigInt(2 * (scale as number));
  return Number(numerator) / Number(denominator);
}

export const OPERATORS: Readonly<Record<Operator, OperatorRule>> = {
  count: { slots: ["count"], scale: "none", lower: ([n]) => n as number },
  sum: {
    slots: ["sum", "count"],
    scale: "required",
    lower: ([total, n], { scale }) => {
      const minor = n === 0 ? null : wideToNumber(total as Wide);
      return minor === null ? null : scaled(minor, scale as number);
    },
  },
  mean: {
    slots: ["sum", "count"],
    scale: "required",
    lower: ([total, n], { scale }) => {
      const minor = n === 0 ? null : wideToNumber(total as Wide);
      return minor === null ? null : minor / ((n as number) * 10 ** (scale as number));
    },
  },
  variance: { slots: ["squares", "sum", "count"], scale: "required", lower: varianceOf },
  stddev: {
    slots: ["squares", "sum", "count"],
    scale: "required",
    lower: (states, options) => {
      const variance = varianceOf(states, options);
      return variance === null ? null : Math.sqrt(variance);
    },
  },
  min: { slots: ["min"], scale: "none", lower: ([value]) => (Number.isFinite(value) ? (value as number) : null) },
  max: { slots: ["max"], scale: "none", lower: ([value]) => (Number.isFinite(value) ? (value as number) : null) },
  first: { slots: ["first"], scale: "none", lower: ([state]) => (state as Pointed | null)?.value ?? null },
  last: { slots: ["last"], scale: "none", lower: ([state]) => (state as Pointed | null)?.value ?? null },
  approxDistinct: {
    slots: ["distinct"],
    scale: "none",
    lower: ([state]) => countDistinct(state as Distinct) || null,
  },
  timeSinceLast: {
    slots: ["max"],
    scale: "none",
    lower: ([newest], { asOfMs }) => (Number.isFinite(newest) ? Math.max(0, asOfMs - (newest as number)) / 1000 : null),
  },
  lastN: {
    slots: ["lastN"],
    scale: "none",
    parameter: {
      name: "n",
      rule: "a whole number from 1 to 32",
      example: "{ n: 5 }",
      holds: (n) => Number.isInteger(n) && n >= 1 && n <= 32,
    },
    lower: ([state]) => {
      const values = (state as readonly Pointed[]).map(({ value }) => value);
      return values.length === 0 ? null : values;
    },
  },
  topK: {
    slots: ["tally"],
    scale: "none",
    parameter: {
      name: "k",
      rule: "a whole number from 1 to 32",
      example: "{ k: 3 }",
      holds: (k) => Number.isInteger(k) && k >= 1 && k <= 32,
    },
    lower: ([state], { parameter }) => mostFrequent(state as Tally, parameter as number),
  },
  decayedSum: {
    slots: ["sum", "count"],
    scale: "required",
    byHop: true,
    parameter: {
      name: "halfLife",
      rule: "a duration",
      example: '{ scale: 2, halfLife: "6h" }',
      holds: (ms) => ms > 0,
    },
    lower: ([sums, counts], { scale, parameter, window }) => {
      const { hopMs } = window as HoppingWindow;
      return decayedTotal(sums as ByAge, counts as ByAge, {
        scale: scale as number,
        hopMs,
        halfLifeMs: parameter as number,
      });
    },
  },
  approxPercentile: {
    slots: ["buckets"],
    scale: "none",
    parameter: {
      name: "p",
      rule: "above 0 and below 1, of at most five decimals",
      example: "{ p: 0.95 } for the 95th percentile",
      holds: (p) => p > 0 && p < 1 && Math.round(p * 100_000) / 100_000 === p,
    },
    lower: ([state], { parameter }) => percentileOf(state as Buckets, parameter as number),
  },
};

/** Operators that give a list: it is served as it is, but is no input of a model. */
export const isList = (operator: Operator): boolean => operator === "lastN" || operator === "topK";
