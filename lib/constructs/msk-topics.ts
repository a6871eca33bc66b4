import { Duration, Fn, Stack } from "aws-cdk-lib";
import { ComparisonOperator, Metric, TreatMissingData } from "aws-cdk-lib/aws-cloudwatch";
import { type ISecurityGroup, type IVpc, Peer, Port, SecurityGroup } from "aws-cdk-lib/aws-ec2";
import { EventSourceMapping, type IEventSourceDlq, StartingPosition } from "aws-cdk-lib/aws-lambda";
import { Construct } from "constructs";
import { type Deployment, physicalName } from "../deployment.ts";
import type { Stage } from "../stage.ts";
import { type Board, graph } from "./board.ts";
import { topicNamesJson } from "./endpoint-topics.ts";
import { type EventStreams, giveUpAfter } from "./event-streams.ts";
import { labelled } from "./metrics.ts";
import type { MskCluster } from "./msk-cluster.ts";
import type { NodeFunction, Placement } from "./node-function.ts";
import { ProvisionedCluster } from "./provisioned-cluster.ts";
import { ServerlessCluster } from "./serverless-cluster.ts";
import { TopicMaker } from "./topic-maker.ts";

/** Of brokers that authenticate by IAM, over TLS. */
const PORT = 9098;
/** The most that a mapping takes. Without a number, one that has a failure destination gives up after ten. */
const ATTEMPTS = 10_000;

export interface MskTopicsProps {
  readonly deployment: Deployment;
  /** Of functions in the network that the cluster is to be in. */
  readonly placement: Placement;
  readonly kind: Stage["kafka"]["cluster"];
}

/** A topic for each stream that the plan declares, in a cluster of MSK that is private to the online store's network. */
export class MskTopics extends Construct implements EventStreams {
  readonly placement: Placement;
  readonly outputs: Readonly<Record<string, string>>;
  private readonly deployment: Deployment;
  private readonly cluster: MskCluster;
  private readonly bootstrapServers: string;

  constructor(scope: Construct, id: string, props: MskTopicsProps) {
    super(scope, id);
    const { deployment, placement, kind } = props;
    const { vpc, vpcSubnets, securityGroups: [clients] = [] } = placement;
    if (vpc === undefined || clients === undefined) throw new Error("MSK needs a store that has a network");
    this.deployment = deployment;
    this.placement = placement;
    this.cluster = new (kind === "serverless" ? ServerlessCluster : ProvisionedCluster)(this, "Msk", {
      deployment,
      subnetIds: vpc.selectSubnets(vpcSubnets).subnetIds,
      securityGroup: this.brokersGroup(vpc, clients),
    });
    const maker = new TopicMaker(this, "TopicMaker", { deployment, placement, cluster: this.cluster });
    this.bootstrapServers = maker.bootstrapServers;
    this.connect(maker.fn);
    maker.fn.allow(
      [
        "kafka-cluster:AlterTopic",
        "kafka-cluster:AlterTopicDynamicConfiguration",
        "kafka-cluster:CreateTopic",
        "kafka-cluster:DescribeTopicDynamicConfiguration",
      ],
      this.topicArns(),
    );
    this.outputs = {
      Broker: Stack.of(this).toJsonString({ kind: "kafka", bootstrapServers: this.bootstrapServers, auth: "iam" }),
      KafkaCluster: this.cluster.arn,
    };
  }

  namesJson(scope: Construct): string {
    return topicNamesJson(scope, this.deployment);
  }

  grantPut(fn: NodeFunction): void {
    this.connect(fn);
    fn.allow(["kafka-cluster:WriteData"], this.topicArns());
  }

  grantHeartbeat(fn: NodeFunction): void {
    this.grantPut(fn);
    // Whether arrivals are the broker's.
    fn.allow(["kafka-cluster:DescribeTopicDynamicConfiguration"], this.topicArns());
  }

  /** An operator's command reads the topics, as it reads shards. */
  grantReplay(fn: NodeFunction): void {
    fn.set("streams", this.namesJson(fn));
  }

  deliver(scope: Construct, fn: NodeFunction, onFailure: IEventSourceDlq): void {
    const { plan, stage } = this.deployment;
    this.grantConsume(fn);
    for (const { name } of plan.streams) {
      // Blocks instead of skipping, as long as it can be told to; what it gives up nevertheless is delivered again from the failure
      // destination. All of this a mapping of Kafka can in provisioned mode only, which also needs no endpoint of Lambda's.
      new EventSourceMapping(scope, `From-${name}`, {
        target: fn.lambda,
        eventSourceArn: this.cluster.arn,
        kafkaTopic: physicalName(this.deployment, name),
        kafkaConsumerGroupId: this.groupOf(name),
        startingPosition: StartingPosition.TRIM_HORIZON,
        batchSize: stage.aggregation.batchSize,
        maxBatchingWindow: Duration.seconds(stage.aggregation.batchWindowSeconds),
        provisionedPollerConfig: {
          minimumPollers: stage.kafka.pollers.minimum,
          maximumPollers: stage.kafka.pollers.maximum,
        },
        bisectBatchOnError: true,
        reportBatchItemFailures: true,
        retryAttempts: ATTEMPTS,
        maxRecordAge: giveUpAfter(stage),
        onFailure,
        supportS3OnFailureDestination: true,
      });
    }
  }

  watch(board: Board): void {
    const { plan, stage } = this.deployment;
    const lagOf = (stream: string) =>
      new Metric({
        namespace: "AWS/Kafka",
        metricName: "SumOffsetLag",
        statistic: "Maximum",
        period: Duration.minutes(1),
        dimensionsMap: {
          "Cluster Name": this.cluster.name,
          "Consumer Group": this.groupOf(stream),
          Topic: physicalName(this.deployment, stream),
        },
      });
    board.row("Kafka", [
      graph(
        "Records that wait in each topic",
        plan.streams.map(({ name }) => labelled(name, lagOf(name))),
      ),
    ]);
    this.cluster.watch(board);
    for (const { name: of } of plan.streams) {
      board.alarm({
        runbook: "consumer-lag",
        of,
        meaning: `More than ${stage.alarms.lagRecords} records of ${of} wait in their topic.`,
        metric: lagOf(of),
        comparison: ComparisonOperator.GREATER_THAN_THRESHOLD,
        threshold: stage.alarms.lagRecords,
        periods: 5,
        missingData: TreatMissingData.NOT_BREACHING,
        missingDataReason:
          "MSK writes it only while the consumers are settled; a topic that nobody reads raises stream-lag",
      });
    }
  }

  /** Reached by the functions that use the online store, and by Lambda's pollers, which carry the brokers' own group. */
  private brokersGroup(vpc: IVpc, clients: ISecurityGroup): SecurityGroup {
    const brokers = new SecurityGroup(this, "BrokersGroup", {
      vpc,
      description: "Kafka brokers: reached by functions and by the pollers of their mappings",
      allowAllOutbound: false,
    });
    brokers.connections.allowFrom(clients, Port.tcp(PORT), "Kafka");
    brokers.connections.allowInternally(Port.tcp(PORT), "Pollers");
    // Pollers put what they give up into S3; there is a route to nothing else.
    brokers.addEgressRule(Peer.anyIpv4(), Port.tcp(443), "Endpoints");
    return brokers;
  }

  /** What the mapping does with its function's role. */
  private grantConsume(fn: NodeFunction): void {
    fn.allow(["kafka:DescribeClusterV2", "kafka:GetBootstrapBrokers"], [this.cluster.arn]);
    fn.allow(["kafka-cluster:Connect", "kafka-cluster:DescribeClusterDynamicConfiguration"], [this.cluster.arn]);
    fn.allow(["kafka-cluster:DescribeTopic", "kafka-cluster:ReadData"], this.topicArns());
    fn.allow(
      ["kafka-cluster:AlterGroup", "kafka-cluster:DescribeGroup"],
      this.deployment.plan.streams.map(({ name }) => this.arnOf("group", this.groupOf(name))),
    );
    fn.allowForAttachment(["ec2:DescribeSecurityGroups", "ec2:DescribeVpcs"]);
    fn.set("streams", this.namesJson(fn));
    fn.set("broker", "kafka");
    fn.set("partialResponses", "1");
  }

  private connect(fn: NodeFunction): void {
    fn.allow(["kafka-cluster:Connect"], [this.cluster.arn]);
    fn.allow(["kafka-cluster:DescribeTopic"], this.topicArns());
    fn.set("streams", this.namesJson(fn));
    fn.set("broker", "kafka");
    fn.set("kafkaAuth", "iam");
    fn.set("bootstrapServers", this.bootstrapServers);
  }

  private topicArns(): string[] {
    return this.deployment.plan.streams.map(({ name }) => this.arnOf("topic", physicalName(this.deployment, name)));
  }

  /** `arn:…:topic/<cluster>/<its uuid>/<name>`; the cluster's own ARN ends in `cluster/<cluster>/<its uuid>`. */
  private arnOf(what: "topic" | "group", name: string): string {
    const uuid = Fn.select(2, Fn.split("/", this.cluster.arn));
    return Stack.of(this).formatArn({ service: "kafka", resource: `${what}/${this.cluster.name}/${uuid}/${name}` });
  }

  /** One for each topic: a group has to be the mapping's own. */
  private groupOf(stream: string): string {
    return physicalName(this.deployment, `aggregate-${stream}`);
  }
}
