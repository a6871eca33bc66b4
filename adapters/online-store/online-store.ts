import type { FeatureValue } from "../../core/plan.ts";

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
  /** Why the values may lag behind what was acknowledged, as `restoring` or `snapshot`; null when the store is whole. */
  readonly degraded: string | null;
  /** Of values from a snapshot: how long ago they were all there was, in ms. */
  readonly snapshotAgeMs?: number;
  /** Neither the store nor a snapshot answered for the entity, and its values say nothing. Only where it was asked for. */
  readonly lost?: true;
}

export interface ReadOptions {
  /**
   * For a caller that goes on without what is lost: answers with some entities `lost` rather than with none at all, and in time for the caller
   * to go on. @default false: one that is lost fails the read
   */
  readonly partial?: boolean;
  /** What the call has used up of its budget before it came to read, in ms. @default 0 */
  readonly spentMs?: number;
}

/** The read side of the online store, as the API sees it. */
export interface OnlineReader {
  /**
   * Reads all requests in one pipelined trip (a second one where an entity has fallen behind the seal).
   * @param asOfMs the reader's clock; windows end in the base tile that holds it
   * @throws InfrastructureError `store_unavailable` when nothing answers within the call's budget
   */
  read(requests: readonly EntityRequest[], asOfMs: number, options?: ReadOptions): Promise<readonly EntityAnswer[]>;
  /** Names the primary that answers for an entity, as far as that is known without asking. @default one answers for all */
  primaryOf?(request: Pick<EntityRequest, "tenant" | "entity" | "id">): string;
  /** What `/ready` shows: whether Valkey answers, its control state, and the seal of each stream. */
  state(): Promise<StoreState>;
  close(): Promise<void>;
}

/** Why there is no answer from a snapshot. */
export type SnapshotLoss =
  /** The entity's type keeps none. */
  | "not_declared"
  /** The table did not answer in time. */
  | "unavailable"
  /** No round has been through all entities yet. */
  | "not_covered"
  /** Of a store that has been begun anew since. */
  | "older_epoch"
  /** Of definitions under which its tiles mean something else. */
  | "other_layout"
  /** The entity was too large to be kept. */
  | "too_large"
  | "corrupt";

export type SnapshotAnswer =
  | { readonly values: readonly FeatureValue[]; readonly ageMs: number }
  | { readonly lost: SnapshotLoss };

/** What stands in for the online store while it does not answer. */
export interface SnapshotSource {
  /** Whether there are snapshots of such entities at all. */
  keeps(entity: string): boolean;
  /** Opens what a first read would wait for; never throws. */
  warm(): Promise<void>;
  /**
   * @param withinMs when to give up
   * @returns aligned with the requests; never throws
   */
  read(requests: readonly EntityRequest[], asOfMs: number, withinMs: number): Promise<readonly SnapshotAnswer[]>;
}

export interface StoreState {
  readonly reachable: boolean;
  /** The worst of all buckets; `STORE_STATES` says what each means. `unknown` when it is not reachable. */
  readonly control: "ok" | "new" | "lost" | "restoring" | "failover" | "restoring_pushed" | "unknown";
  /** A primary has no memory left and refuses writes. @default false */
  readonly full?: boolean;
  readonly seals: Readonly<Record<string, number>>;
}
