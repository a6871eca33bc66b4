import type { Deployment } from "./deployment.ts";

/**
 * Whether ingest uses the online store: to look fields up, or to share the buckets of tenants' limits with other hosts. Then it
 * runs in the store's network, which gets a way to Kinesis.
 */
export const ingestUsesStore = ({ plan, stage }: Pick<Deployment, "plan" | "stage">): boolean =>
  stage.ingest.sharesLimits || plan.streams.some(({ enrich }) => enrich !== undefined);
