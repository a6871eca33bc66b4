import { Fn, Stack } from "aws-cdk-lib";
import {
  FlowLogDestination,
  FlowLogTrafficType,
  GatewayVpcEndpointAwsService,
  type InterfaceVpcEndpointAwsService,
  type IVpc,
  Peer,
  Port,
  SecurityGroup,
  SubnetType,
  Vpc,
} from "aws-cdk-lib/aws-ec2";
import { AnyPrincipal, PolicyStatement } from "aws-cdk-lib/aws-iam";
import { LogGroup } from "aws-cdk-lib/aws-logs";
import { Construct } from "constructs";
import type { Deployment } from "../deployment.ts";
import type { Placement } from "./node-function.ts";
import { removalOf } from "./removal.ts";
import { registryReach } from "./schema-registry.ts";

export interface PrivateNetworkProps {
  readonly deployment: Deployment;
  /** Port that clients reach the store at. */
  readonly storePort: number;
}

/**
 * A VPC with no way out: isolated subnets, and the two gateway endpoints that cost nothing. All that a function in it may
 * need is the store, S3 and DynamoDB; a NAT gateway would add a bill and a path for data to leave. What more the broker needs is
 * an endpoint of its own, which is billed by the hour and zone.
 */
export class PrivateNetwork extends Construct {
  readonly vpc: IVpc;
  /** Of the store's nodes: reached from `clients` only. */
  readonly store: SecurityGroup;
  /** Of the functions that use the store. */
  readonly clients: SecurityGroup;

  constructor(scope: Construct, id: string, props: PrivateNetworkProps) {
    super(scope, id);
    const { deployment, storePort } = props;
    const { broker } = deployment.target;
    const zones = Math.max(deployment.stage.onlineStore.availabilityZones, broker.zones(deployment));
    const vpc = new Vpc(this, "Vpc", {
      // By number: where account and region are only known at deployment, CDK would give two and no more.
      availabilityZones: Array.from({ length: zones }, (_, zone) => Fn.select(zone, Fn.getAzs())),
      natGateways: 0,
      subnetConfiguration: [{ name: "isolated", subnetType: SubnetType.PRIVATE_ISOLATED, cidrMask: 20 }],
      flowLogs: {
        // Refused packets only: in a network without a way out, each one is a question worth asking.
        rejected: {
          destination: FlowLogDestination.toCloudWatchLogs(
            new LogGroup(this, "FlowLog", {
              retention: deployment.stage.logRetentionDays,
              removalPolicy: removalOf(deployment),
            }),
          ),
          trafficType: FlowLogTrafficType.REJECT,
        },
      },
    });
    this.vpc = vpc;
    for (const [name, service] of [
      ["S3", GatewayVpcEndpointAwsService.S3],
      ["DynamoDb", GatewayVpcEndpointAwsService.DYNAMODB],
    ] as const) {
      vpc.addGatewayEndpoint(name, { service }).addToPolicy(this.ownAccountOnly(name === "S3" ? "s3" : "dynamodb"));
    }
    this.store = new SecurityGroup(this, "StoreGroup", {
      vpc,
      description: "Online store: reached by its clients only",
      allowAllOutbound: false,
    });
    this.clients = new SecurityGroup(this, "ClientGroup", {
      vpc,
      description: "Functions that use the online store",
      allowAllOutbound: false,
    });
    this.store.addIngressRule(this.clients, Port.tcp(storePort), "Valkey");
    this.clients.addEgressRule(this.store, Port.tcp(storePort), "Valkey");
    // Addresses of S3 and DynamoDB; there is a route to nothing else.
    this.clients.addEgressRule(Peer.anyIpv4(), Port.tcp(443), "Endpoints");
    const { endpoints, port } = registryReach(deployment);
    for (const [name, service] of Object.entries({ ...broker.endpoints(deployment), ...endpoints })) {
      this.addEndpoint(vpc, name, service);
    }
    // The way there, a peering or an endpoint of the registry's own, is for who runs the registry to add.
    if (port !== null) this.clients.addEgressRule(Peer.anyIpv4(), Port.tcp(port), "Schema registry");
  }

  private addEndpoint(vpc: Vpc, name: string, service: InterfaceVpcEndpointAwsService): void {
    const group = new SecurityGroup(this, `${name}Group`, {
      vpc,
      description: `${name} endpoint: reached by the functions that use the online store`,
      allowAllOutbound: false,
    });
    group.addIngressRule(this.clients, Port.tcp(443), name);
    vpc
      .addInterfaceEndpoint(name, {
        service,
        subnets: { subnetType: SubnetType.PRIVATE_ISOLATED },
        securityGroups: [group],
        open: false,
      })
      .addToPolicy(this.ownAccountOnly(name.toLowerCase()));
  }

  get placement(): Placement {
    return {
      vpc: this.vpc,
      vpcSubnets: { subnetType: SubnetType.PRIVATE_ISOLATED },
      securityGroups: [this.clients],
    };
  }

  /** What a function holds of this account cannot be put into a bucket or table of another one. */
  private ownAccountOnly(service: string): PolicyStatement {
    const { account } = Stack.of(this);
    return new PolicyStatement({
      principals: [new AnyPrincipal()],
      actions: [`${service}:*`],
      resources: ["*"],
      conditions: { StringEquals: { "aws:PrincipalAccount": account, "aws:ResourceAccount": account } },
    });
  }
}
