import { Duration } from "aws-cdk-lib";
import { Key } from "aws-cdk-lib/aws-kms";
import type { Construct } from "constructs";
import { type Deployment, physicalName } from "../deployment.ts";
import { removalOf } from "./removal.ts";

/** The key of one stateful stack's data: rotated yearly, kept as long as the data. */
export function dataKey(scope: Construct, deployment: Deployment, what: string): Key {
  return new Key(scope, "Key", {
    alias: `alias/${physicalName(deployment, what)}`,
    description: `Freshet ${what} (${deployment.stage.name})`,
    enableKeyRotation: true,
    removalPolicy: removalOf(deployment),
    pendingWindow: Duration.days(30),
  });
}
