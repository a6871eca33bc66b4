import type { Construct } from "constructs";
import type { OnlineStore } from "./constructs/online-store.ts";
import type { Deployment } from "./deployment.ts";
import { FreshetStack } from "./freshet-stack.ts";

/** Valkey, and the network that it is private to. Stateful. */
export class OnlineStoreStack extends FreshetStack {
  readonly store: OnlineStore;

  constructor(scope: Construct, deployment: Deployment) {
    super(scope, "online-store", { deployment, description: "Freshet: online store" });
    this.store = deployment.target.onlineStore(this, "Store", deployment);
  }
}
