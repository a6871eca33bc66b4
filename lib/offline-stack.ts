import { CfnOutput } from "aws-cdk-lib";
import type { Construct } from "constructs";
import type { Archive } from "./constructs/archive.ts";
import { Compactor } from "./constructs/compactor.ts";
import type { Deployment } from "./deployment.ts";
import { FreshetStack } from "./freshet-stack.ts";

export interface OfflineStackProps {
  readonly archive: Archive;
}

/** Keeps the offline store in the shape that queries want. Stateless. */
export class OfflineStack extends FreshetStack {
  readonly compactor: Compactor;

  constructor(scope: Construct, deployment: Deployment, props: OfflineStackProps) {
    super(scope, "offline", { deployment, description: "Freshet: compaction of the archive" });
    this.compactor = new Compactor(this, "Compactor", { deployment, ...props });
    new CfnOutput(this, "CompactFunction", { value: this.compactor.fn.lambda.functionName });
  }
}
