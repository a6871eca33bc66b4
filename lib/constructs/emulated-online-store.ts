import { CfnReplicationGroup } from "aws-cdk-lib/aws-elasticache";
import { Construct } from "constructs";
import { type Deployment, physicalName } from "../deployment.ts";
import { EndpointOnlineStore } from "./endpoint-online-store.ts";
import type { NodeFunction } from "./node-function.ts";
import type { OnlineStore } from "./online-store.ts";

/**
 * The replication group of an emulator, which answers with the address of a real Valkey process on this machine. Whatever
 * the template says of TLS and users, that process is plaintext and knows none, so neither is asked for.
 */
export class EmulatedOnlineStore extends Construct implements OnlineStore {
  readonly placement = {};
  private readonly endpoint: EndpointOnlineStore;

  constructor(scope: Construct, id: string, props: { readonly deployment: Deployment }) {
    super(scope, id);
    const { deployment } = props;
    const group = new CfnReplicationGroup(this, "ReplicationGroup", {
      replicationGroupId: physicalName(deployment, "online"),
      replicationGroupDescription: `Freshet online store (${deployment.stage.name})`,
      engine: "valkey",
      cacheNodeType: deployment.stage.onlineStore.nodeType,
      numCacheClusters: 1,
      automaticFailoverEnabled: false,
      transitEncryptionEnabled: false,
    });
    this.endpoint = new EndpointOnlineStore(group.attrPrimaryEndPointAddress, group.attrPrimaryEndPointPort);
  }

  grantRead(fn: NodeFunction): void {
    this.endpoint.grantRead(fn);
  }

  grantReadWrite(fn: NodeFunction): void {
    this.endpoint.grantReadWrite(fn);
  }

  watch(): void {}
}
