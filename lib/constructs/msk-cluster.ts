import type { ISecurityGroup } from "aws-cdk-lib/aws-ec2";
import type { Deployment } from "../deployment.ts";
import type { Board } from "./board.ts";

/** A cluster of MSK that takes IAM and TLS, and nothing else. */
export interface MskCluster {
  readonly arn: string;
  readonly name: string;
  /** Of each topic that is made. */
  readonly replication: number;
  watch(board: Board): void;
}

export interface MskClusterProps {
  readonly deployment: Deployment;
  readonly subnetIds: string[];
  readonly securityGroup: ISecurityGroup;
}
