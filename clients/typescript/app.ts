/** How the names and types of an app become those of calls and answers. */
import type { FeatureValue, Variant } from "./answers.ts";

/** What the generated part says of an app. */
export interface AppShape {
  /** Join key by entity. */
  readonly entities: object;
  /** By full name. */
  readonly features: object;
  readonly services: object;
  readonly streams: object;
}
interface FeatureShape {
  readonly joinKey: string;
  readonly entity: string;
  readonly value: unknown;
}
interface ServiceShape {
  /** Join keys; those that a request may leave out are optional. */
  readonly keys: object;
  readonly request: object;
  readonly features: string;
  readonly onDemand: string;
  /** Join key of what is ranked; never where the service does not rank. */
  readonly candidate: string;
}

export type Key<T> = keyof T & string;
export type FeatureOf<A extends AppShape, F> = F extends keyof A["features"] ? A["features"][F] : never;
export type ValueOf<A extends AppShape, F> = FeatureOf<A, F> extends FeatureShape ? FeatureOf<A, F>["value"] : never;
export type JoinKeyOf<A extends AppShape, F> =
  FeatureOf<A, F> extends FeatureShape ? FeatureOf<A, F>["joinKey"] : never;
export type FeaturesOf<A extends AppShape, E> = {
  [F in Key<A["features"]>]: FeatureOf<A, F> extends { entity: E } ? F : never;
}[Key<A["features"]>];
export type ServiceOf<A extends AppShape, S> = S extends keyof A["services"]
  ? A["services"][S] extends ServiceShape
    ? A["services"][S]
    : never
  : never;
export type RankedBy<A extends AppShape> = {
  [S in Key<A["services"]>]: [ServiceOf<A, S>["candidate"]] extends [never] ? never : S;
}[Key<A["services"]>];
export type Values<A extends AppShape, F extends string> = { readonly [N in F]: FeatureValue<ValueOf<A, N>> };
export type EntityKeys<A extends AppShape, F> = { readonly [K in JoinKeyOf<A, F>]: string | null };
export type ScoreRequest<A extends AppShape, S> = ServiceOf<A, S>["keys"] &
  ServiceOf<A, S>["request"] & { readonly variant?: Variant };
/** A request field is the request's, and a candidate's own where it has one; or every candidate's. */
export type RankRequest<A extends AppShape, S> = Omit<ServiceOf<A, S>["keys"], ServiceOf<A, S>["candidate"]> & {
  readonly k?: number;
  readonly variant?: Variant;
  readonly explain?: boolean | "exact";
} & (
    | (ServiceOf<A, S>["request"] & {
        readonly candidates: readonly (string | (CandidateOf<A, S> & Partial<ServiceOf<A, S>["request"]>))[];
      })
    | (Partial<ServiceOf<A, S>["request"]> & {
        readonly candidates: readonly (CandidateOf<A, S> & ServiceOf<A, S>["request"])[];
      })
  );
type CandidateOf<A extends AppShape, S> = { readonly [K in ServiceOf<A, S>["candidate"]]: string };
/** Epoch milliseconds, a day, or a time with its zone. */
type Time = number | string;
/** Labelled events of a range, what was scored in it (`from_log`), or rows of one's own. */
export type HistoricalRequest<A extends AppShape> = {
  readonly service: Key<A["services"]>;
  /** Registered features to join beside the service's own. */
  readonly features?: readonly string[];
  readonly from?: Time;
  readonly to?: Time;
} & (
  | { readonly labels?: Key<A["streams"]>; readonly as_of?: "event_time" | "arrival"; readonly from_log?: false }
  | { readonly labels?: Key<A["streams"]>; readonly from_log: boolean }
  | { readonly rows: readonly HistoricalRow[] }
);
/** With join keys, request fields, and further columns, which are kept. */
export type HistoricalRow = { readonly as_of_ms: Time } & Readonly<Record<string, unknown>>;
/** Stored features and those that are computed on demand. */
export type NamesOf<A extends AppShape, S> = ServiceOf<A, S>["features"] | ServiceOf<A, S>["onDemand"];
