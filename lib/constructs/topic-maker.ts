import { CustomResource, Duration, RemovalPolicy, Stack } from "aws-cdk-lib";
import { PolicyStatement } from "aws-cdk-lib/aws-iam";
import { LogGroup } from "aws-cdk-lib/aws-logs";
import { AwsCustomResource, AwsCustomResourcePolicy, PhysicalResourceId, Provider } from "aws-cdk-lib/custom-resources";
import { Construct } from "constructs";
import { type Deployment, physicalName } from "../deployment.ts";
import type { MskCluster } from "./msk-cluster.ts";
import { NodeFunction, type Placement } from "./node-function.ts";

export interface TopicMakerProps {
  readonly deployment: Deployment;
  readonly placement: Placement;
  readonly cluster: MskCluster;
}

/**
 * Makes the topics of a deployment, by Kafka's own protocol from inside the network, and sets what they say otherwise: MSK's own
 * resource for a topic knows provisioned clusters only. Topics are never removed; they go with their cluster.
 */
export class TopicMaker extends Construct {
  readonly fn: NodeFunction;
  /** Known to no template: asked of MSK when the cluster is there. */
  readonly bootstrapServers: string;

  constructor(scope: Construct, id: string, props: TopicMakerProps) {
    super(scope, id);
    const { deployment, placement, cluster } = props;
    const { plan, stage } = deployment;
    const logs = (name: string) =>
      new LogGroup(this, name, { retention: stage.logRetentionDays, removalPolicy: RemovalPolicy.DESTROY });
    const call = {
      service: "Kafka",
      action: "GetBootstrapBrokers",
      parameters: { ClusterArn: cluster.arn },
      physicalResourceId: PhysicalResourceId.of(`${cluster.name}-bootstrap`),
      outputPaths: ["BootstrapBrokerStringSaslIam"],
    };
    const bootstrap = new AwsCustomResource(this, "Bootstrap", {
      resourceType: "Custom::FreshetBootstrapServers",
      onUpdate: call,
      policy: AwsCustomResourcePolicy.fromStatements([
        new PolicyStatement({ actions: ["kafka:GetBootstrapBrokers"], resources: [cluster.arn] }),
      ]),
      installLatestAwsSdk: false,
      logGroup: logs("BootstrapLog"),
    });
    this.bootstrapServers = bootstrap.getResponseField("BootstrapBrokerStringSaslIam");
    this.fn = new NodeFunction(this, "Topics", {
      deployment,
      name: "topics",
      description: "Makes the topics of a deployment, and sets what they say otherwise",
      placement,
      timeout: Duration.minutes(5),
    });
    const provider = new Provider(this, "Provider", { onEventHandler: this.fn.lambda, logGroup: logs("ProviderLog") });
    const topics = new CustomResource(this, "Made", {
      serviceToken: provider.serviceToken,
      resourceType: "Custom::FreshetTopics",
      properties: {
        Topics: Stack.of(this).toJsonString(
          plan.streams.map(({ name }) => ({
            name: physicalName(deployment, name),
            partitions: stage.kafka.partitions,
            replication: cluster.replication,
            configuration: {
              "cleanup.policy": "delete",
              "message.timestamp.type": "LogAppendTime",
              "retention.bytes": "-1",
              "retention.ms": String(Duration.hours(stage.stream.retentionHours).toMilliseconds()),
            },
          })),
        ),
        // A cluster that was made anew has none.
        Cluster: cluster.arn,
      },
    });
    topics.node.addDependency(this.fn);
  }
}
