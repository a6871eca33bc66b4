import { Stack } from "aws-cdk-lib";
import type { Construct } from "constructs";
import { type Deployment, physicalName } from "./deployment.ts";

export interface FreshetStackProps {
  readonly deployment: Deployment;
  readonly description: string;
}

/** Name, place and tags of every stack of the app: `freshet-dev-streams`. */
export class FreshetStack extends Stack {
  constructor(scope: Construct, id: string, props: FreshetStackProps) {
    const { deployment, description } = props;
    super(scope, physicalName(deployment, id), {
      description,
      env: deployment.target.environment,
      terminationProtection: deployment.stage.retainData,
      tags: { application: "freshet", stage: deployment.stage.name },
    });
  }
}
