import { CfnServerlessCluster } from "aws-cdk-lib/aws-msk";
import { Construct } from "constructs";
import { physicalName } from "../deployment.ts";
import type { MskCluster, MskClusterProps } from "./msk-cluster.ts";
import { removalOf } from "./removal.ts";

/** MSK Serverless: no broker to size or to watch. It takes IAM and TLS only, and encrypts with a key of AWS's own. */
export class ServerlessCluster extends Construct implements MskCluster {
  readonly arn: string;
  readonly name: string;
  /** Its own choice, and the only one that it takes. */
  readonly replication = 3;

  constructor(scope: Construct, id: string, props: MskClusterProps) {
    super(scope, id);
    const { deployment, subnetIds, securityGroup } = props;
    this.name = physicalName(deployment, "events");
    const cluster = new CfnServerlessCluster(this, "Cluster", {
      clusterName: this.name,
      clientAuthentication: { sasl: { iam: { enabled: true } } },
      vpcConfigs: [{ subnetIds, securityGroups: [securityGroup.securityGroupId] }],
    });
    cluster.applyRemovalPolicy(removalOf(deployment));
    this.arn = cluster.attrArn;
  }

  watch(): void {}
}
