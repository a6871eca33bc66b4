/** The word that declares a batch feature view: SQL over the offline store, on a schedule. Exported by `definition.ts`. */
import type { EntityDefinition, RequestType } from "./definition.ts";
import type { Duration } from "./duration.ts";
import type { Deprecation } from "./pushed-feature.ts";

/** What the catalogue tells of a batch view's feature. */
interface AboutFeature {
  readonly description?: string;
  readonly unit?: string;
  readonly deprecated?: Deprecation;
}

export interface BatchFeatureViewDefinition {
  readonly kind: "batchFeatureView";
  readonly name: string;
  readonly entity: EntityDefinition;
  readonly sql: string;
  readonly every: Duration;
  readonly lookback: Duration | null;
  readonly ttl: Duration;
  readonly owner: string;
  readonly description: string;
  readonly tags: readonly string[];
  readonly features: Readonly<Record<string, RequestType>>;
  readonly about: Readonly<Record<string, AboutFeature>>;
  /** Some of the view's features, by name: `merchantRisk.only("chargeback_rate_30d")`. */
  only(...features: string[]): {
    readonly kind: "selection";
    readonly view: BatchFeatureViewDefinition;
    readonly features: readonly string[];
  };
}

/** Features of one entity that a query over the offline store yields. */
export function batchFeatureView(
  name: string,
  options: {
    entity: EntityDefinition;
    /**
     * One SELECT over relations that are named after streams: each visible event once, with the fields of its contract as
     * columns, and `event_time_ms`, `visible_ms` (BIGINT, epoch ms) and `event_identity` beside them. It yields the entity's join key, `event_time_ms` (when the
     * row became true) and every feature. `{from_ms}` and `{to_ms}` are the bounds of the run, half-open; no event is seen that happened
     * or became visible at `{to_ms}` or later. It runs in DuckDB and in Athena: cast with CAST(x AS double), which also keeps
     * integers from dividing as integers; write 30 days as 2592000000, since a product of small numbers overflows at 2^31; add up money as CAST(x AS decimal(18, 2)), since sums of doubles depend on their order.
     */
    sql: string;
    /** How often it runs; runs begin and end at whole multiples of it since 1970, in UTC. */
    every: Duration;
    /** Events older than this at the beginning of a run are not shown to it. @default all are shown */
    lookback?: Duration;
    /** Values older than this are not served. */
    ttl: Duration;
    owner: string;
    description?: string;
    tags?: readonly string[];
    /** Type of each column that becomes a feature. A null is a value too: it replaces an older one. */
    features: Record<string, RequestType>;
    /** What the catalogue tells of features, by name. */
    about?: Record<string, AboutFeature>;
  },
): BatchFeatureViewDefinition {
  const view: BatchFeatureViewDefinition = {
    kind: "batchFeatureView",
    name,
    description: "",
    tags: [],
    lookback: null,
    about: {},
    ...options,
    only: (...features) => ({ kind: "selection", view, features }),
  };
  return view;
}
