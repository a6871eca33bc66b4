import type { Environment } from "aws-cdk-lib";
import type { Construct } from "constructs";
import type { NodeFunction } from "./constructs/node-function.ts";
import type { OnlineStore } from "./constructs/online-store.ts";
import type { Deployment } from "./deployment.ts";

/**
 * Where the app runs. A target chooses the implementation of a component; stacks ask it and hold no conditions. All that
 * differs between a laptop and AWS is in the two files under `targets/`.
 */
export interface Target {
  readonly name: "aws" | "local";
  /** Account and region of the stacks; empty to take those of the credentials at deployment. */
  readonly environment: Environment;
  onlineStore(scope: Construct, id: string, deployment: Deployment): OnlineStore;
  /** Lists each service's models where the platform's own tools look for them. */
  catalogueModels(scope: Construct, id: string, deployment: Deployment): void;
  /** Brings the functions' metrics, which they write to their logs in the embedded metric format, to CloudWatch. */
  deliverMetrics(scope: Construct, id: string, deployment: Deployment, functions: readonly NodeFunction[]): void;
}
