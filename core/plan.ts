/**
 * The compiled form of all definitions: data only, no functions. `core/compile/compile.ts` makes it from `features/` and the lock
 * file; the aggregate function, the reader, the SQL generator and the infrastructure consume it.
 */

import type { Deprecation } from "./pushed-feature.ts";

/** A scalar that an event field, a feature or a request field may hold. `null` is an absent value. */
export type Scalar = number | string | boolean | null;
/** What a feature holds: a list of scalars where its operator keeps several. */
export type Value = Scalar | readonly Scalar[];
export type FieldType = "string" | "double" | "long" | "boolean" | "map";
export interface ContractField {
  readonly type: FieldType;
  readonly nullable: boolean;
}
/** What the plan knows of an Avro contract: its name with version, and its fields by name. */
export interface Contract {
  readonly name: string;
  readonly fields: Readonly<Record<string, ContractField>>;
}

/** `where` as data. Two-valued: a null never equals anything, and `ne` is true for a null. */
export type Where =
  | { readonly op: "eq" | "ne" | "lt" | "lte" | "gt" | "gte"; readonly field: string; readonly value: Scalar }
  | { readonly op: "in"; readonly field: string; readonly values: readonly Scalar[] }
  | { readonly op: "isNull"; readonly field: string }
  | { readonly op: "and" | "or"; readonly of: readonly Where[] }
  | { readonly op: "not"; readonly of: Where };

/** What one event gives to a slot. `value` is null for a slot that needs no field, as a count of events. */
export interface Input {
  readonly field: string | null;
  readonly where: Where | null;
  /** Decimal places of minor units; null for values that are taken as they are. */
  readonly scale: number | null;
}

/**
 * A primitive accumulator that tiles hold. Cells (`count`, `sum`, `squares`, `min`, `max`) have a fixed size and live
 * in the tile itself; objects (`first`, `last`, `lastN`, `distinct`, `buckets`, `tally`) vary in size and have a hash field each.
 */
export type SlotKind =
  | "count"
  | "sum"
  | "squares"
  | "min"
  | "max"
  | "first"
  | "last"
  | "lastN"
  | "distinct"
  | "buckets"
  | "tally";
export interface Slot {
  /** Stable for ever in this group, from the lock file. For cells the upper two bits give the size class. */
  readonly id: number;
  readonly kind: SlotKind;
  /** Index into `Group.channels`: what the slot is fed with. */
  readonly channel: number;
  /** Levels at which the slot is kept, ascending indices into `Group.levels`; always holds 0, the base. */
  readonly levels: readonly number[];
  /** True when a lifetime window needs it: it is absorbed for ever past the coarsest level. */
  readonly lifetime: boolean;
  /** Of `lastN` alone: how many values its state keeps. */
  readonly keep?: number;
}

/** One thing that is taken from each event, shared by all slots that are fed with it. */
export interface Channel {
  readonly input: Input;
  /** Contract type of the field; null for a channel that only says "an event happened". */
  readonly type: FieldType | null;
}

/** One tile size of a group. Level 0 is the base. */
export interface Level {
  /** Stable for ever in this group, from the lock file; part of stored field names. */
  readonly id: number;
  readonly sizeMs: number;
  /** Index of the level whose tiles are folded into this one; -1 for the base. */
  readonly parts: number;
  /** A tile of this level is needed until `retainMs` after its end; 0 when only folding needs it. */
  readonly retainMs: number;
}

/** Everything stored for one (entity, stream): one hash an entity id, shared by all views over the pair. */
export interface Group {
  /** Stable for ever, from the lock file; one byte in calls to the store. */
  readonly id: number;
  /** `entity:stream`. */
  readonly name: string;
  readonly entity: string;
  readonly stream: string;
  readonly baseMs: number;
  readonly levels: readonly Level[];
  /** Index of the level that lifetime slots are absorbed from: the coarsest. */
  readonly absorbing: number;
  readonly channels: readonly Channel[];
  readonly slots: readonly Slot[];
  readonly hasLifetime: boolean;
  /** A silent key expires this long after its newest event; null for groups with a lifetime slot. */
  readonly expireMs: number | null;
}

export type Operator =
  | "count"
  | "sum"
  | "mean"
  | "min"
  | "max"
  | "variance"
  | "stddev"
  | "first"
  | "last"
  | "approxDistinct"
  | "timeSinceLast"
  | "lastN"
  | "approxPercentile"
  | "topK"
  | "decayedSum";

export interface HoppingWindow {
  readonly kind: "hopping";
  readonly sizeMs: number;
  readonly hopMs: number;
  readonly delayMs: number;
  /** True when each hop counts for itself, as a decayed sum's: then no tile coarser than a hop is read. */
  readonly byHop?: true;
}
export type Window = HoppingWindow | { readonly kind: "lifetime" };

/** One value that can be read: an operator over a window. */
export interface Feature {
  /** `view:feature`, with the window's name if it has one: `card_activity:amount_sum_1h`. */
  readonly name: string;
  readonly view: string;
  readonly operator: Operator;
  readonly window: Window;
  /** Position in `Group.slots`, in the order that the operator's `lower` expects. */
  readonly slots: readonly number[];
  readonly scale: number | null;
  readonly sample: boolean;
  readonly dtype: Dtype | ListDtype;
  /** What the operator is told beside its field: n of `lastN`, k of `topK`, p of `approxPercentile`, half-life of `decayedSum` in ms. */
  readonly parameter?: number;
  readonly description: string;
  /** Of its values, as `EUR`. */
  readonly unit?: string;
  readonly deprecated?: Deprecation;
}

export type Dtype = "int64" | "double" | "string" | "boolean";
export type ListDtype = `${Dtype}[]`;

export interface View {
  readonly name: string;
  readonly entity: string;
  readonly stream: string;
  readonly group: number;
  readonly ttlMs: number;
  /** The longest reach of any window of the view, W + D; null when one is lifetime. */
  readonly reachMs: number | null;
  readonly owner: string;
  readonly description: string;
  readonly tags: readonly string[];
  readonly features: readonly Feature[];
}

/** One column of a batch view's query. */
export interface BatchFeature {
  /** `view:feature`. */
  readonly name: string;
  readonly view: string;
  /** Stable for ever in this view, from the lock file: stored values carry it. Another type is another id. */
  readonly id: number;
  readonly dtype: "int64" | "double" | "string" | "boolean";
  readonly description: string;
  /** Of its values, as `EUR`. */
  readonly unit?: string;
  readonly deprecated?: Deprecation;
}

/** SQL over the offline store, on a schedule. Of its values the newest wins, by (event time, hash of dtype and value). */
export interface BatchView {
  readonly name: string;
  readonly entity: string;
  readonly sql: string;
  /** That the query reads. */
  readonly streams: readonly string[];
  readonly everyMs: number;
  /** How far before a run's beginning events are shown to it; null for all. */
  readonly lookbackMs: number | null;
  readonly ttlMs: number;
  /** Values older than this are not known any more: a while longer than `ttlMs`. */
  readonly reachMs: number;
  readonly owner: string;
  readonly description: string;
  readonly tags: readonly string[];
  readonly features: readonly BatchFeature[];
}

/** A field of a stream's events that HTTP ingest fills with a feature's value. */
export interface Lookup {
  readonly field: string;
  /** Full name. */
  readonly feature: string;
  readonly entity: string;
  /** Field of the event that names the entity. */
  readonly joinKey: string;
}

export interface Stream {
  readonly name: string;
  readonly contract: string;
  /** Fields of the contract's newest version. */
  readonly fields: Readonly<Record<string, ContractField>>;
  readonly eventId: string;
  readonly eventTime: string;
  readonly partitionKey: string;
  readonly allowedLatenessMs: number;
  readonly baseMs: number;
  /** Left out where there is none. */
  readonly enrich?: readonly Lookup[];
}

export interface Entity {
  readonly name: string;
  readonly joinKey: string;
  readonly description: string;
  /** Snapshots of it are kept, to be read while the online store does not answer. */
  readonly fallback?: true;
}

/** A feature of a service that each tenant registers and pushes, if it does. */
export interface RegisteredInput {
  /** `view:feature`. */
  readonly name: string;
  readonly version: number;
  readonly entity: string;
  readonly dtype: Dtype;
}

export interface Service {
  readonly name: string;
  /** Full feature names, in the order a model sees them; on-demand features follow. */
  readonly features: readonly string[];
  /** Those of `features` that tenants register, in their order. Left out where there is none. */
  readonly registered?: readonly RegisteredInput[];
  readonly onDemand: readonly string[];
  readonly request: Readonly<Record<string, "string" | "double" | "long" | "boolean">>;
  /** What stands in for a stored feature without a value, by its full name: a model is fed it like any value. */
  readonly defaults: Readonly<Record<string, Scalar>>;
  /** Entities that its features describe; a caller sends the join key of each. */
  readonly entities: readonly string[];
  readonly task: string;
  readonly fallback: string | null;
  /** The entity whose ids are the candidates of a ranking; absent where the service does not rank. */
  readonly candidate?: string;
}

export interface Plan {
  readonly version: 1;
  /** First 64 bits of SHA-256 over the canonical JSON of everything else, in hex. */
  readonly hash: string;
  /** The same over what decides stored bytes only; function libraries carry it in their names. */
  readonly layoutHash: string;
  readonly entities: readonly Entity[];
  readonly streams: readonly Stream[];
  readonly groups: readonly Group[];
  readonly views: readonly View[];
  readonly batchViews: readonly BatchView[];
  readonly services: readonly Service[];
}

export type Status = "PRESENT" | "NULL_VALUE" | "NOT_FOUND" | "OUTSIDE_MAX_AGE" | "NOT_READY";
export interface FeatureValue {
  readonly value: Value;
  readonly status: Status;
  /** Newest event time behind the view at the instant of the read, or null when there is none. */
  readonly eventTimeMs: number | null;
}
