import type { FeatureValue } from "../core/plan.ts";

/** One entity whose views are asked for. Views of one entity over several streams are read in the same trip. */
export interface EntityRequest {
  readonly tenant: string;
  /** The entity's name in the plan, as `card`. */
  readonly entity: string;
  readonly id: string;
  /** Full feature names, `view:feature`, all of this entity. */
  readonly features: readonly string[];
  /**
   * Those of `features` that the tenant has registered, by their places there; the plan knows the others. A list of features that has
   * any is one tenant's, at one state of its registrations. @default none
   */
  readonly registered?: readonly RegisteredRead[] | null;
}

/** Where a registered feature is stored, and for how long its values are good. */
export interface RegisteredRead {
  /** In the request's `features`. */
  readonly position: number;
  /** Field of the entity's hash. */
  readonly field: string;
  readonly id: number;
  readonly ttlMs: number;
  readonly reachMs: number;
}

export interface EntityAnswer {
  /** Aligned with the request's `features`. */
  readonly values: readonly FeatureValue[];
  /** Why the values may lag behind what was acknowledged, as `restoring`; null when the store is whole. */
  readonly degraded: string | null;
}

/** The read side of the online store, as the API sees it. */
export interface OnlineReader {
  /**
   * Reads all requests in one pipelined trip (a second one where an entity has fallen behind the seal).
   * @param asOfMs the reader's clock; windows end in the base tile that holds it
   * @throws InfrastructureError `store_unavailable` when Valkey does not answer within the call's budget
   */
  read(requests: readonly EntityRequest[], asOfMs: number): Promise<readonly EntityAnswer[]>;
  /** What `/ready` shows: whether Valkey answers, its control state, and the seal of each stream. */
  state(): Promise<StoreState>;
  close(): Promise<void>;
}

export interface StoreState {
  readonly reachable: boolean;
  /** The worst of all buckets; `STORE_STATES` says what each means. `unknown` when it is not reachable. */
  readonly control: "ok" | "new" | "lost" | "restoring" | "failover" | "unknown";
  readonly seals: Readonly<Record<string, number>>;
}
