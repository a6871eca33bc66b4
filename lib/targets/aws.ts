import { CfnModelPackageGroup } from "aws-cdk-lib/aws-sagemaker";
import { Construct } from "constructs";
import type { Broker } from "../broker.ts";
import { kinesisBroker } from "../brokers/kinesis.ts";
import { ArchiveTables } from "../constructs/archive-tables.ts";
import { ClusterOnlineStore } from "../constructs/cluster-online-store.ts";
import { SageMakerTraining } from "../constructs/sagemaker-training.ts";
import { physicalName } from "../deployment.ts";
import type { Target } from "../target.ts";

export interface AwsTargetProps {
  /** Image of the training container in ECR. @default tag 0.1.0 in the repository that the deployment makes */
  readonly trainingImage?: string;
  /** @default Kinesis */
  readonly broker?: Broker;
}

/** AWS. CloudWatch takes metrics out of the functions' logs by itself. */
export const awsTarget = ({ trainingImage, broker = kinesisBroker }: AwsTargetProps = {}): Target => ({
  name: "aws",
  environment: {},
  broker,
  onlineStore: (scope, id, deployment) => new ClusterOnlineStore(scope, id, { deployment }),
  asksAuthorizer: true,
  countsByAuthorizer: true,
  catalogueArchive: (scope, id, deployment, archive) => new ArchiveTables(scope, id, { deployment, archive }),
  catalogueModels: (scope, id, deployment) => {
    const groups = new Construct(scope, id);
    for (const { name } of deployment.plan.services) {
      new CfnModelPackageGroup(groups, name, {
        modelPackageGroupName: physicalName(deployment, name),
        modelPackageGroupDescription: `Freshet: versions of the model of service ${name}`,
      });
    }
  },
  training: (scope, id, deployment, data) =>
    new SageMakerTraining(scope, id, { deployment, data, image: trainingImage }),
  deliverMetrics() {},
});
