import type { Bucket, Limit } from "../../core/token-bucket.ts";

export interface ChargeRequest {
  readonly tenant: string;
  /** Route class, as `score`. */
  readonly routeClass: string;
  readonly limit: Limit;
  /** Tokens that were spent without asking. */
  readonly spent: number;
  /** Tokens asked for; 0 to tell what was spent and no more. */
  readonly cost: number;
}

export interface Charged {
  readonly admitted: boolean;
  /** As it is afterwards. */
  readonly bucket: Bucket;
  /** The store's clock, µs since 1970. */
  readonly nowUs: number;
}

/** Token buckets that all hosts share. */
export interface TokenBuckets {
  /** @throws InfrastructureError when the store does not answer, or cannot write */
  charge(request: ChargeRequest): Promise<Charged>;
}
