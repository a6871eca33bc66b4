import { CfnModelPackageGroup } from "aws-cdk-lib/aws-sagemaker";
import { Construct } from "constructs";
import { ClusterOnlineStore } from "../constructs/cluster-online-store.ts";
import { physicalName } from "../deployment.ts";
import type { Target } from "../target.ts";

/** AWS. CloudWatch takes metrics out of the functions' logs by itself. */
export const awsTarget: Target = {
  name: "aws",
  environment: {},
  onlineStore: (scope, id, deployment) => new ClusterOnlineStore(scope, id, { deployment }),
  catalogueModels: (scope, id, deployment) => {
    const groups = new Construct(scope, id);
    for (const { name } of deployment.plan.services) {
      new CfnModelPackageGroup(groups, name, {
        modelPackageGroupName: physicalName(deployment, name),
        modelPackageGroupDescription: `Freshet: versions of the model of service ${name}`,
      });
    }
  },
  deliverMetrics() {},
};
