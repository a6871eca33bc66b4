/** The operators that feature authors call, each over a field of the view's stream, and the windows that follow them. Data only. */
import type { Duration } from "./duration.ts";
import type { Operator } from "./plan.ts";
import type { Deprecation } from "./pushed-feature.ts";
import type { Condition } from "./where.ts";

export interface AggregationDefinition<F extends string = string> {
  readonly operator: Operator;
  readonly field: F | null;
  readonly where: Condition<F> | null;
  readonly scale: number | null;
  readonly sample: boolean;
  /** What the operator is told beside its field: n of `lastN`, k of `topK`, p of `approxPercentile`, half-life of `decayedSum`. */
  readonly parameter: number | Duration | null;
  /** As written: `["5m", "1h"]`; empty means lifetime. */
  readonly windows: readonly (Duration | "lifetime")[];
  readonly hop: Duration | null;
  readonly delay: Duration | null;
  readonly description: string;
  /** Of its values, as `EUR`; empty for none. */
  readonly unit: string;
  readonly deprecation: Deprecation | null;
  /** One feature for each window; `"lifetime"` counts for ever. */
  over(...windows: (Duration | "lifetime")[]): AggregationDefinition<F>;
  /** Step in which the window moves. @default by size: <= 10m 1m, < 12h 5m, < 12d 1h, else 1d */
  every(hop: Duration): AggregationDefinition<F>;
  /** Leaves out the newest `delay`, for outcomes that are only known later; the window covers whole hops. */
  delayedBy(delay: Duration): AggregationDefinition<F>;
  /** @param unit of its values, as `EUR` */
  describe(description: string, unit?: string): AggregationDefinition<F>;
  /**
   * Answers say that it should not be used from a day on, and what to use instead: `.deprecated("2027-01-31", "view:feature")`. It is served
   * as before.
   */
  deprecated(date: string, use?: string): AggregationDefinition<F>;
}

type Parts<F extends string> = Pick<
  AggregationDefinition<F>,
  "operator" | "field" | "where" | "scale" | "sample" | "parameter"
>;
type State<F extends string> = Parts<F> &
  Pick<AggregationDefinition<F>, "windows" | "hop" | "delay" | "description" | "unit" | "deprecation">;

function aggregation<F extends string>(state: State<F>): AggregationDefinition<F> {
  return {
    ...state,
    over: (...windows) => aggregation({ ...state, windows }),
    every: (hop) => aggregation({ ...state, hop }),
    delayedBy: (delay) => aggregation({ ...state, delay }),
    describe: (description, unit = "") => aggregation({ ...state, description, unit }),
    deprecated: (date, use) => aggregation({ ...state, deprecation: { date, use: use ?? null } }),
  };
}
const start = <F extends string>(parts: Partial<Parts<F>> & { operator: Operator }): AggregationDefinition<F> =>
  aggregation({
    field: null,
    where: null,
    scale: null,
    sample: false,
    parameter: null,
    windows: [],
    hop: null,
    delay: null,
    description: "",
    unit: "",
    deprecation: null,
    ...parts,
  });

interface Filter<F extends string> {
  where?: Condition<F>;
}
interface Scaled<F extends string> extends Filter<F> {
  /** Decimal places kept: 2 turns 12.34 into 1234 minor units, which add up exactly in any order. */
  scale: number;
}
const pick = <F extends string>(options?: Filter<NoInfer<F>>) => ({ where: (options?.where as Condition<F>) ?? null });

/** Number of events. */
export const count = <const F extends string = never>(options?: { where?: Condition<F> }): AggregationDefinition<F> =>
  start({ operator: "count", where: options?.where ?? null });
/** Exact sum in minor units; null over no values. */
export const sum = <const F extends string, const G extends string = never>(field: F, options: Scaled<G>) =>
  start<F | G>({ operator: "sum", field, scale: options?.scale ?? null, ...pick<F | G>(options as Filter<F | G>) });
export const mean = <const F extends string, const G extends string = never>(field: F, options: Scaled<G>) =>
  start<F | G>({ operator: "mean", field, scale: options?.scale ?? null, ...pick<F | G>(options as Filter<F | G>) });
/**
 * Sum in which a value weighs half as much for each `halfLife` of its age, in steps of the window's hop: all of the newest hop weighs
 * 1. Give it a window of about ten half-lives, and a smaller `.every(…)` for finer steps.
 */
export const decayedSum = <const F extends string, const G extends string = never>(
  field: F,
  options: Scaled<G> & { halfLife: Duration },
) =>
  start<F | G>({
    operator: "decayedSum",
    field,
    scale: options?.scale ?? null,
    parameter: options?.halfLife ?? null,
    ...pick<F | G>(options as Filter<F | G>),
  });
/** Population variance; `sample: true` divides by n - 1. */
export const variance = <const F extends string, const G extends string = never>(
  field: F,
  options: Scaled<G> & { sample?: boolean },
) =>
  start<F | G>({
    operator: "variance",
    field,
    scale: options?.scale ?? null,
    sample: options?.sample ?? false,
    ...pick<F | G>(options as Filter<F | G>),
  });
export const stddev = <const F extends string, const G extends string = never>(
  field: F,
  options: Scaled<G> & { sample?: boolean },
) =>
  start<F | G>({
    operator: "stddev",
    field,
    scale: options?.scale ?? null,
    sample: options?.sample ?? false,
    ...pick<F | G>(options as Filter<F | G>),
  });
export const min = <const F extends string, const G extends string = never>(field: F, options?: Filter<G>) =>
  start<F | G>({ operator: "min", field, ...pick<F | G>(options as Filter<F | G>) });
export const max = <const F extends string, const G extends string = never>(field: F, options?: Filter<G>) =>
  start<F | G>({ operator: "max", field, ...pick<F | G>(options as Filter<F | G>) });
/** Value of the event with the smallest event time; ties go to the smaller id hash. */
export const first = <const F extends string, const G extends string = never>(field: F, options?: Filter<G>) =>
  start<F | G>({ operator: "first", field, ...pick<F | G>(options as Filter<F | G>) });
/** Value of the event with the greatest event time; ties go to the greater id hash. */
export const last = <const F extends string, const G extends string = never>(field: F, options?: Filter<G>) =>
  start<F | G>({ operator: "last", field, ...pick<F | G>(options as Filter<F | G>) });
/** The newest `n` values (1 to 32) as a list, newest first; equal times go by the id hash. Served, but no input of a model. */
export const lastN = <const F extends string, const G extends string = never>(
  field: F,
  options: Filter<G> & { n: number },
) =>
  start<F | G>({ operator: "lastN", field, parameter: options?.n ?? null, ...pick<F | G>(options as Filter<F | G>) });
/**
 * The `k` values (1 to 32) that occur most often, as a list, the most frequent first. Exact, and null once the window holds more
 * than 64 different values. Served, but no input of a model.
 */
export const topK = <const F extends string, const G extends string = never>(
  field: F,
  options: Filter<G> & { k: number },
) => start<F | G>({ operator: "topK", field, parameter: options?.k ?? null, ...pick<F | G>(options as Filter<F | G>) });
/** The value below or at which a share `p` of the values lies, 0.95 for the 95th percentile: within 0.8 % of that value. */
export const approxPercentile = <const F extends string, const G extends string = never>(
  field: F,
  options: Filter<G> & { p: number },
) =>
  start<F | G>({
    operator: "approxPercentile",
    field,
    parameter: options?.p ?? null,
    ...pick<F | G>(options as Filter<F | G>),
  });
/** Number of distinct values: exact to 48, about 3 % error beyond. */
export const approxDistinct = <const F extends string, const G extends string = never>(field: F, options?: Filter<G>) =>
  start<F | G>({ operator: "approxDistinct", field, ...pick<F | G>(options as Filter<F | G>) });
/** Seconds from the newest event to the instant of the read, never below 0. */
export const timeSinceLast = <const F extends string = never>(options?: { where?: Condition<F> }) =>
  start<F>({ operator: "timeSinceLast", where: options?.where ?? null });
