import { Stack } from "aws-cdk-lib";
import {
  FlowLogDestination,
  FlowLogTrafficType,
  GatewayVpcEndpointAwsService,
  InterfaceVpcEndpointAwsService,
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
import { ingestUsesStore } from "../ingest-placement.ts";
import type { Placement } from "./node-function.ts";
import { removalOf } from "./removal.ts";

export interface PrivateNetworkProps {
  readonly deployment: Deployment;
  /** Port that clients reach the store at. */
  readonly storePort: number;
}

/**
 * A VPC with no way out: isolated subnets, and the two gateway endpoints that cost nothing. All that a function in it may
 * need is the store, S3 and DynamoDB; a NAT gateway would add a bill and a path for data to leave. Where ingest reads the
 * store, an endpoint of Kinesis joins them, which is billed by the hour and zone.
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
    const vpc = new Vpc(this, "Vpc", {
      maxAzs: deployment.stage.onlineStore.availabilityZones,
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
    if (ingestUsesStore(deployment)) this.addKinesis(vpc);
  }

  private addKinesis(vpc: Vpc): void {
    const group = new SecurityGroup(this, "KinesisGroup", {
      vpc,
      description: "Kinesis endpoint: reached by the functions that use the online store",
      allowAllOutbound: false,
    });
    group.addIngressRule(this.clients, Port.tcp(443), "Kinesis");
    vpc
      .addInterfaceEndpoint("Kinesis", {
        service: InterfaceVpcEndpointAwsService.KINESIS_STREAMS,
        subnets: { subnetType: SubnetType.PRIVATE_ISOLATED },
        securityGroups: [group],
        open: false,
      })
      .addToPolicy(this.ownAccountOnly("kinesis"));
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
