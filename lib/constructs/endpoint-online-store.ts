import { StringParameter } from "aws-cdk-lib/aws-ssm";
import { Construct } from "constructs";
import { type Deployment, physicalName } from "../deployment.ts";
import type { NodeFunction } from "./node-function.ts";
import type { OnlineStore } from "./online-store.ts";

export interface EndpointOnlineStoreProps {
  readonly deployment: Deployment;
  /** As the functions see it, which under Docker is not how the host sees it. */
  readonly host: string;
  readonly port: string;
}

/** A Valkey that is already there, plaintext and without users: for a laptop whose emulator has no ElastiCache. */
export class EndpointOnlineStore extends Construct implements OnlineStore {
  readonly placement = {};
  private readonly host: string;
  private readonly port: string;

  constructor(scope: Construct, id: string, props: EndpointOnlineStoreProps) {
    super(scope, id);
    this.host = props.host;
    this.port = props.port;
    // A stack has to hold something; this one says which store the deployment was given.
    new StringParameter(this, "Endpoint", {
      parameterName: `/${physicalName(props.deployment, "online-store")}`,
      stringValue: `${props.host}:${props.port}`,
    });
  }

  grantRead(fn: NodeFunction): void {
    this.grantReadWrite(fn);
  }

  grantReadWrite(fn: NodeFunction): void {
    connectPlainly(fn, this.host, this.port);
  }

  watch(): void {}
}

/** A standalone Valkey without TLS and users: there is no permission to give. */
export function connectPlainly(fn: NodeFunction, host: string, port: string): void {
  fn.set("valkeyHost", host);
  fn.set("valkeyPort", port);
  fn.set("valkeyTls", "0");
  fn.set("valkeyCluster", "0");
}
