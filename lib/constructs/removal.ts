import { RemovalPolicy } from "aws-cdk-lib";
import type { Deployment } from "../deployment.ts";

/** What happens to data when its stack is deleted. */
export function removalOf(deployment: Deployment): RemovalPolicy {
  return deployment.stage.retainData ? RemovalPolicy.RETAIN : RemovalPolicy.DESTROY;
}
