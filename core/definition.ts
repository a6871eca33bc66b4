/**
 * The words that feature authors use. Everything here is data; `compile.ts` checks it and turns it into the plan. Files in
 * `features/` import this module alone.
 */
import type { AggregationDefinition } from "./aggregation.ts";
import type { BatchFeatureViewDefinition } from "./batch-view.ts";
import type { Duration } from "./duration.ts";
import type { Scalar } from "./plan.ts";
import type { RegisteredFeatureDefinition } from "./registered-feature.ts";
import type { GateDefinition } from "./scoring/gate.ts";
import type { Condition } from "./where.ts";

export {
  type AggregationDefinition,
  approxDistinct,
  approxPercentile,
  count,
  decayedSum,
  first,
  last,
  lastN,
  max,
  mean,
  min,
  stddev,
  sum,
  timeSinceLast,
  topK,
  variance,
} from "./aggregation.ts";
export { batchFeatureView } from "./batch-view.ts";
export type { Duration } from "./duration.ts";
export { type RegisteredFeatureDefinition, registered } from "./registered-feature.ts";
export { and, eq, gt, gte, isIn, isNull, lt, lte, ne, not, or } from "./where.ts";

/**
 * Field types of every Avro contract, by contract name; filled by declaration merging from the generated
 * `schemas/contracts.d.ts`, so that a view over a field that its contract lacks does not compile.
 */
// biome-ignore lint/suspicious/noEmptyInterface: it is open for merging
export interface Contracts {}
type FieldsOf<C> = C extends keyof Contracts ? keyof Contracts[C] & string : string;
type NullableFieldsOf<C> = C extends keyof Contracts
  ? { [F in keyof Contracts[C]]: Contracts[C][F] extends `${string}?` ? F : never }[keyof Contracts[C]] & string
  : string;

export interface EntityDefinition<J extends string = string> {
  readonly kind: "entity";
  readonly name: string;
  readonly joinKey: J;
  readonly description: string;
  readonly fallback: boolean;
}

/** Something that features describe, as a card; `joinKey` is the event field that holds its id. */
export function entity<const J extends string>(
  name: string,
  options: {
    joinKey: J;
    description?: string;
    /**
     * Keeps a snapshot of each entity outside of the online store, which answers while the store does not. Costs a write for
     * each entity that has changed since the last round. @default false
     */
    fallback?: boolean;
  },
): EntityDefinition<J> {
  const { joinKey, description = "", fallback = false } = options;
  return { kind: "entity", name, joinKey, description, fallback };
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
  readonly enrich: Readonly<Record<string, LookupDefinition>>;
}

/** A feature whose value at ingest becomes a field of the event. */
export interface LookupDefinition {
  readonly kind: "lookup";
  readonly feature: string;
}
/** @param feature full name, as `merchant_risk:chargeback_rate_30d`. A name, since its view may itself be over this stream */
export const lookup = (feature: string): LookupDefinition => ({ kind: "lookup", feature });

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
    /**
     * Nullable fields that HTTP ingest fills from features of an entity that the event names, and that are recorded in the
     * event. Null where there is no value, and in events of producers that write to the stream themselves.
     * @default none
     */
    enrich?: Partial<Record<NullableFieldsOf<C>, LookupDefinition>>;
  },
): StreamDefinition<C> {
  const enrich = (options.enrich ?? {}) as Record<string, LookupDefinition>;
  return { kind: "stream", name, allowedLateness: "10m", base: "1m", ...options, enrich };
}

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
  readonly view: FeatureViewDefinition | BatchFeatureViewDefinition;
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
/** Where a service's outcomes come from. */
export interface LabelsDefinition {
  readonly stream: StreamDefinition;
  /** How long after the event its outcome is known. */
  readonly delay: Duration;
  /** Null where the stream's events are labels themselves, each of which judges one event of another stream. */
  readonly outcome: OutcomeDefinition | null;
}
/**
 * Outcomes that nobody sends, because they are events themselves: an item that was shown was clicked when a click names the
 * showing, and was not when none has within the delay.
 */
export interface OutcomeDefinition {
  /** Which events of the stream are judged. */
  readonly of: Condition;
  /** The stream's field in which a later event names the one that it follows, by its event id. */
  readonly namedBy: string;
}
/** How a service ranks: candidates of one entity, for one of each other entity. */
export interface RankDefinition {
  readonly candidate: EntityDefinition;
}
/** What the inference log holds. */
export interface LogDefinition {
  /** Share of requests that are logged, 0 to 1. */
  readonly sample: number;
  /** Request fields that are logged as hashes only. */
  readonly pii: readonly string[];
}

/** What a service takes features of. */
export type ServiceInput =
  | FeatureViewDefinition
  | BatchFeatureViewDefinition
  | ViewSelection
  | RegisteredFeatureDefinition;

export interface FeatureServiceDefinition<R = any> {
  readonly kind: "featureService";
  readonly name: string;
  readonly features: readonly ServiceInput[];
  readonly request: Readonly<Record<string, RequestType>>;
  /** Other words that callers have for request fields and join keys, each with the own one. */
  readonly aliases: Readonly<Record<string, string>>;
  readonly onDemand: Readonly<Record<string, (context: RuleContext<R>) => Scalar>>;
  readonly task: "binary" | "ranking";
  readonly fallback: RulesDefinition<R> | null;
  /** Values for features that are missing, by full name. */
  readonly defaults: Readonly<Record<string, Scalar>>;
  /** Null where only a given spine can have labels. */
  readonly labels: LabelsDefinition | null;
  /** Null for a service that scores and does not rank. */
  readonly rank: RankDefinition | null;
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
    features: readonly ServiceInput[];
    request: R;
    /** Other words that callers have for request fields and join keys: `{ transaction_amount: "amount" }`. @default none */
    aliases?: Record<string, string>;
    onDemand?: Record<string, (context: RuleContext<R>) => Scalar>;
    task: "binary" | "ranking";
    fallback?: RulesDefinition<R>;
    defaults?: Record<string, Scalar>;
    labels?: { stream: StreamDefinition; delay: Duration; outcome?: OutcomeDefinition };
    /** Opens `POST /v1/rank/{service}`. */
    rank?: RankDefinition;
    /** @default the fallback's review and decline */
    decision?: DecisionDefinition;
    experiment?: ExperimentDefinition;
    /** @default pr_auc may not fall; recall at 1 % false positives and the Brier score may be a tenth worse */
    gate?: GateDefinition;
    /** @default every score is logged, with all of its request fields */
    log?: { sample?: number; pii?: readonly (keyof R & string)[] };
  },
): FeatureServiceDefinition<R> {
  const absent = { fallback: null, rank: null, decision: null, experiment: null, gate: null };
  const log = { sample: 1, pii: [], ...options.log };
  const labels = options.labels === undefined ? null : { outcome: null, ...options.labels };
  return {
    kind: "featureService",
    name,
    onDemand: {},
    defaults: {},
    aliases: {},
    ...absent,
    ...options,
    labels,
    log,
  } as any;
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
  /** @default none */
  readonly batchViews?: readonly BatchFeatureViewDefinition[];
  readonly services: readonly FeatureServiceDefinition[];
}
