import { CfnReplicationGroup } from "aws-cdk-lib/aws-elasticache";
import { Construct } from "constructs";
import { type Deployment, physicalName } from "../deployment.ts";
import { connectPlainly } from "./endpoint-online-store.ts";
import type { NodeFunction } from "./node-function.ts";
import type { OnlineStore } from "./online-store.ts";

/**
 * The replication group of an emulator, which answers with the address of a real Valkey process on this machine. Whatever
 * the template says of TLS and users, that process is plaintext and knows none, so neither is asked for.
 */
export class EmulatedOnlineStore extends Construct implements OnlineStore {
  readonly placement = {};
  private readonly group: CfnReplicationGroup;

  constructor(scope: Construct, id: string, props: { readonly deployment: Deployment }) {
    super(scope, id);
    const { deployment } = props;
    this.group = new CfnReplicationGroup(this, "ReplicationGroup", {
      replicationGroupId: physicalName(deployment, "online"),
      replicationGroupDescription: `Freshet online store (${deployment.stage.name})`,
      engine: "valkey",
      cacheNodeType: deployment.stage.onlineStore.nodeType,
      numCacheClusters: 1,
      automaticFailoverEnabled: false,
      transitEncryptionEnabled: false,
    });
  }

  grantRead(fn: NodeFunction): void {
    this.grantReadWrite(fn);
  }

  grantReadWrite(fn: NodeFunction): void {
    connectPlainly(fn, this.group.attrPrimaryEndPointAddress, this.group.attrPrimaryEndPointPort);
  }

  watch(): void {}
}
