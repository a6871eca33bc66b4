/**
 * The words that feature authors use. Everything here is data; `compile.ts` checks it and turns it into the plan. Files in
 * `features/` import this module alone.
 */
import type { Duration } from "./duration.ts";
import type { GateDefinition } from "./gate.ts";
import type { Operator, Scalar } from "./plan.ts";
import type { Condition } from "./where.ts";

export type { Duration } from "./duration.ts";
export { and, eq, gt, gte, isIn, isNull, lt, lte, ne, not, or } from "./where.ts";

/**
 * Field types of every Avro contract, by contract name; filled by declaration merging from the generated
 * `schemas/contracts.d.ts`, so that a view over a field that its contract lacks does not compile.
 */
// biome-ignore lint/suspicious/noEmptyInterface: it is open for merging
export interface Contracts {}
type FieldsOf<C> = C extends keyof Contracts ? keyof Contracts[C] & string : string;

export interface EntityDefinition<J extends string = string> {
  readonly kind: "entity";
  readonly name: string;
  readonly joinKey: J;
  readonly description: string;
}

/** Something that features describe, as a card; `joinKey` is the event field that holds its id. */
export function entity<const J extends string>(
  name: string,
  options: { joinKey: J; description?: string },
): EntityDefinition<J> {
  return { kind: "entity", name, joinKey: options.joinKey, description: options.description ?? "" };
}

export interface StreamDefinition<C extends string = string> {
  readonly kind: "stream";
  readonly name: string;
  readonly schema: C;
  readonly eventId: string;
  readonly eventTime: string;
  readonly partitionKey: string;
  readonly allowedLateness: Duration;
  readonly base: Duration;
}

/** A named source of events with an Avro contract. */
export function stream<const C extends string>(
  name: string,
  options: {
    schema: C;
    eventId: FieldsOf<C>;
    eventTime: FieldsOf<C>;
    partitionKey: FieldsOf<C>;
    /** How far the seal stays behind arrivals. @default "10m" */
    allowedLateness?: Duration;
    /** The smallest tile, part of the stored layout: never change it. @default "1m" */
    base?: Duration;
  },
): StreamDefinition<C> {
  return { kind: "stream", name, allowedLateness: "10m", base: "1m", ...options };
}

export interface AggregationDefinition<F extends string = string> {
  readonly operator: Operator;
  readonly field: F | null;
  readonly where: Condition<F> | null;
  readonly scale: number | null;
  readonly sample: boolean;
  /** What the operator is told beside its field: n of `lastN`, p of `approxPercentile`. */
  readonly parameter: number | null;
  /** As written: `["5m", "1h"]`; empty means lifetime. */
  readonly windows: readonly (Duration | "lifetime")[];
  readonly hop: Duration | null;
  readonly delay: Duration | null;
  readonly description: string;
  /** One feature for each window; `"lifetime"` counts for ever. */
  over(...windows: (Duration | "lifetime")[]): AggregationDefinition<F>;
  /** Step in which the window moves. @default by size: <= 10m 1m, < 12h 5m, < 12d 1h, else 1d */
  every(hop: Duration): AggregationDefinition<F>;
  /** Leaves out the newest `delay`, for outcomes that are only known later; the window covers whole hops. */
  delayedBy(delay: Duration): AggregationDefinition<F>;
  describe(description: string): AggregationDefinition<F>;
}

type Parts<F extends string> = Pick<
  AggregationDefinition<F>,
  "operator" | "field" | "where" | "scale" | "sample" | "parameter"
>;
type State<F extends string> = Parts<F> & Pick<AggregationDefinition<F>, "windows" | "hop" | "delay" | "description">;

function aggregation<F extends string>(state: State<F>): AggregationDefinition<F> {
  return {
    ...state,
    over: (...windows) => aggregation({ ...state, windows }),
    every: (hop) => aggregation({ ...state, hop }),
    delayedBy: (delay) => aggregation({ ...state, delay }),
    describe: (description) => aggregation({ ...state, description }),
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

export interface FeatureViewDefinition {
  readonly kind: "featureView";
  readonly name: string;
  readonly entity: EntityDefinition;
  readonly source: StreamDefinition;
  readonly ttl: Duration;
  readonly owner: string;
  readonly description: string;
  readonly tags: readonly string[];
  readonly features: Readonly<Record<string, AggregationDefinition>>;
  /** Some of the view's features, by name with window: `deviceActivity.only("cards_24h")`. */
  only(...features: string[]): ViewSelection;
}
export interface ViewSelection {
  readonly kind: "selection";
  readonly view: FeatureViewDefinition;
  readonly features: readonly string[];
}

/** Windowed aggregations of one stream for one entity. */
export function featureView<const C extends string>(
  name: string,
  options: {
    entity: EntityDefinition<FieldsOf<C>>;
    source: StreamDefinition<C>;
    ttl: Duration;
    owner: string;
    description?: string;
    tags?: readonly string[];
    features: Record<string, AggregationDefinition<FieldsOf<C>>>;
  },
): FeatureViewDefinition {
  const view: FeatureViewDefinition = {
    kind: "featureView",
    name,
    description: "",
    tags: [],
    ...(options as unknown as Omit<FeatureViewDefinition, "kind" | "name" | "description" | "tags" | "only">),
    only: (...features) => ({ kind: "selection", view, features }),
  };
  return view;
}

export type RequestType = "string" | "double" | "long" | "boolean";
type RequestValues<R> = {
  readonly [K in keyof R]: (R[K] extends "string" ? string : R[K] extends "boolean" ? boolean : number) | null;
};
/** What an on-demand feature or a rule sees. `f` gives a feature's value, null when it is missing. */
export interface RuleContext<R = Record<string, RequestType>> {
  readonly request: RequestValues<R>;
  readonly f: (name: string) => Scalar;
}
export interface Rule<R = Record<string, RequestType>> {
  readonly name: string;
  /** Chance that a case is bad when only this rule fires, 0 to 1. */
  readonly weight: number;
  readonly reason: string;
  readonly when: (context: RuleContext<R>) => boolean;
}
export interface RulesDefinition<R = Record<string, RequestType>> {
  readonly version: string;
  /** Score when no rule fires. */
  readonly base: number;
  readonly rules: readonly Rule<R>[];
  /** Scores at or above these are reviewed or declined. */
  readonly review: number;
  readonly decline: number;
}
/** A scorer that needs no training: score = 1 - (1 - base) x product of (1 - weight) over the rules that fire. */
export const rules = <R>(version: string, options: Omit<RulesDefinition<R>, "version">): RulesDefinition<R> => ({
  version,
  ...options,
});

/** From these scores on a model's answer is reviewed or declined. */
export interface DecisionDefinition {
  readonly review: number;
  readonly decline: number;
}
/** A challenger's part in the traffic. An entity keeps its variant, since its key decides. */
export interface ExperimentDefinition {
  /** A join key or request field. */
  readonly key: string;
  /** Share of keys that the challenger scores, 0 to 1. */
  readonly challenger: number;
  /** Another text deals the keys out anew. @default the service's name */
  readonly salt?: string;
}
/** What the inference log holds. */
export interface LogDefinition {
  /** Share of requests that are logged, 0 to 1. */
  readonly sample: number;
  /** Request fields that are logged as hashes only. */
  readonly pii: readonly string[];
}

export interface FeatureServiceDefinition<R = any> {
  readonly kind: "featureService";
  readonly name: string;
  readonly features: readonly (FeatureViewDefinition | ViewSelection)[];
  readonly request: Readonly<Record<string, RequestType>>;
  readonly onDemand: Readonly<Record<string, (context: RuleContext<R>) => Scalar>>;
  readonly task: "binary" | "ranking";
  readonly fallback: RulesDefinition<R> | null;
  /** Values for features that are missing, by full name. */
  readonly defaults: Readonly<Record<string, Scalar>>;
  /** Where outcomes come from, and how long after the event they are complete. */
  readonly labels: { readonly stream: StreamDefinition; readonly delay: Duration } | null;
  /** Null for the fallback's limits, and without those 0.5 and 0.85. */
  readonly decision: DecisionDefinition | null;
  /** Null for no experiment: a challenger then scores only for who asks for it. */
  readonly experiment: ExperimentDefinition | null;
  /** What a new champion is held to; null for the default gate. */
  readonly gate: GateDefinition | null;
  readonly log: LogDefinition;
}

/** The ordered list of features that one model consumes. */
export function featureService<const R extends Record<string, RequestType>>(
  name: string,
  options: {
    features: readonly (FeatureViewDefinition | ViewSelection)[];
    request: R;
    onDemand?: Record<string, (context: RuleContext<R>) => Scalar>;
    task: "binary" | "ranking";
    fallback?: RulesDefinition<R>;
    defaults?: Record<string, Scalar>;
    labels?: { stream: StreamDefinition; delay: Duration };
    /** @default the fallback's review and decline */
    decision?: DecisionDefinition;
    experiment?: ExperimentDefinition;
    /** @default pr_auc may not fall; recall at 1 % false positives and the Brier score may be a tenth worse */
    gate?: GateDefinition;
    /** @default every score is logged, with all of its request fields */
    log?: { sample?: number; pii?: readonly (keyof R & string)[] };
  },
): FeatureServiceDefinition<R> {
  const absent = { fallback: null, labels: null, decision: null, experiment: null, gate: null };
  const log = { sample: 1, pii: [], ...options.log };
  return { kind: "featureService", name, onDemand: {}, defaults: {}, ...absent, ...options, log } as any;
}

/** a / b, null when either is missing or b is 0. For on-demand features. */
export function ratio(a: Scalar, b: Scalar): number | null {
  return typeof a === "number" && typeof b === "number" && b !== 0 ? a / b : null;
}

/** All definitions of an app, in the order they should be listed. */
export interface Definitions {
  readonly entities: readonly EntityDefinition[];
  readonly streams: readonly StreamDefinition[];
  readonly views: readonly FeatureViewDefinition[];
  readonly services: readonly FeatureServiceDefinition[];
}
