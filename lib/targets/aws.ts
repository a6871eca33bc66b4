import { ClusterOnlineStore } from "../constructs/cluster-online-store.ts";
import type { Target } from "../target.ts";

/** AWS. CloudWatch takes metrics out of the functions' logs by itself. */
export const awsTarget: Target = {
  name: "aws",
  environment: {},
  onlineStore: (scope, id, deployment) => new ClusterOnlineStore(scope, id, { deployment }),
  deliverMetrics() {},
};
