import type { Environment } from "aws-cdk-lib";
import type { PolicyStatement } from "aws-cdk-lib/aws-iam";
import type { Construct } from "constructs";
import type { Broker } from "./broker.ts";
import type { Archive } from "./constructs/archive.ts";
import type { ArchiveTables } from "./constructs/archive-tables.ts";
import type { NodeFunction } from "./constructs/node-function.ts";
import type { OnlineStore } from "./constructs/online-store.ts";
import type { TrainingData } from "./constructs/training-data.ts";
import type { TrainingTask } from "./constructs/training-definition.ts";
import type { Deployment } from "./deployment.ts";

/** Makes the task that trains, with what a state machine needs to run it. */
export type MakeTraining = (
  scope: Construct,
  id: string,
  deployment: Deployment,
  data: TrainingData,
) => { readonly task: TrainingTask; readonly permissions: readonly PolicyStatement[] };

/**
 * Where the app runs. A target chooses the implementation of a component; stacks ask it and hold no conditions. All that
 * differs between a laptop and AWS is in the two files under `targets/`.
 */
export interface Target {
  readonly name: "aws" | "local";
  /** Account and region of the stacks; empty to take those of the credentials at deployment. */
  readonly environment: Environment;
  readonly broker: Broker;
  onlineStore(scope: Construct, id: string, deployment: Deployment): OnlineStore;
  /** Whether the platform's gateway asks a function who calls. Where it cannot, the router is the only wall. */
  readonly asksAuthorizer: boolean;
  /** Whether the platform's gateway counts a request by the key that an authorizer names, rather than by one that callers send. */
  readonly countsByAuthorizer: boolean;
  /** Makes the archive's streams tables of the platform's query engine; null where it has none. */
  catalogueArchive(scope: Construct, id: string, deployment: Deployment, archive: Archive): ArchiveTables | null;
  /** Lists each service's models where the platform's own tools look for them. */
  catalogueModels(scope: Construct, id: string, deployment: Deployment): void;
  /** Null where a command trains instead of a state machine. */
  readonly training: MakeTraining | null;
  /** Brings the functions' metrics, which they write to their logs in the embedded metric format, to CloudWatch. */
  deliverMetrics(scope: Construct, id: string, deployment: Deployment, functions: readonly NodeFunction[]): void;
}
