import { Duration } from "aws-cdk-lib";
import { ComparisonOperator, type IMetric, MathExpression, Metric, TreatMissingData } from "aws-cdk-lib/aws-cloudwatch";
import { LogGroup } from "aws-cdk-lib/aws-logs";
import { CfnCluster, CfnConfiguration } from "aws-cdk-lib/aws-msk";
import { Construct } from "constructs";
import { type Deployment, physicalName } from "../deployment.ts";
import { type Board, graph } from "./board.ts";
import { dataKey } from "./data-key.ts";
import type { MskCluster, MskClusterProps } from "./msk-cluster.ts";
import { removalOf } from "./removal.ts";

/** One in each zone: a zone that is lost leaves the two that a write has to reach. */
export const BROKERS = 3;
const VERSION = "3.9.x";
const DISK_ALARM_PERCENT = 80;

/**
 * MSK on brokers of its own: each record on three of them, and acknowledged by two at least, so that the loss of a zone loses
 * none and stops none. TLS, IAM and no other way in; encrypted with a key of the deployment.
 */
export class ProvisionedCluster extends Construct implements MskCluster {
  readonly arn: string;
  readonly name: string;
  readonly replication = BROKERS;

  constructor(scope: Construct, id: string, props: MskClusterProps) {
    super(scope, id);
    const { deployment, subnetIds, securityGroup } = props;
    const { kafka, logRetentionDays } = deployment.stage;
    this.name = physicalName(deployment, "events");
    const configuration = new CfnConfiguration(this, "Configuration", {
      name: this.name,
      description: `Freshet event streams (${deployment.stage.name})`,
      kafkaVersionsList: [VERSION],
      serverProperties: serverProperties(deployment),
    });
    const logs = new LogGroup(this, "Log", {
      logGroupName: `/aws/msk/${this.name}`,
      retention: logRetentionDays,
      removalPolicy: removalOf(deployment),
    });
    const cluster = new CfnCluster(this, "Cluster", {
      clusterName: this.name,
      kafkaVersion: VERSION,
      numberOfBrokerNodes: BROKERS,
      brokerNodeGroupInfo: {
        instanceType: kafka.brokerType,
        clientSubnets: subnetIds,
        securityGroups: [securityGroup.securityGroupId],
        storageInfo: { ebsStorageInfo: { volumeSize: kafka.brokerVolumeGb } },
        connectivityInfo: { publicAccess: { type: "DISABLED" } },
      },
      clientAuthentication: { sasl: { iam: { enabled: true } }, unauthenticated: { enabled: false } },
      encryptionInfo: {
        encryptionAtRest: { dataVolumeKmsKeyId: dataKey(scope, deployment, "streams").keyArn },
        encryptionInTransit: { clientBroker: "TLS", inCluster: true },
      },
      configurationInfo: { arn: configuration.attrArn, revision: configuration.attrLatestRevisionRevision },
      enhancedMonitoring: "PER_BROKER",
      loggingInfo: { brokerLogs: { cloudWatchLogs: { enabled: true, logGroup: logs.logGroupName } } },
    });
    cluster.applyRemovalPolicy(removalOf(deployment));
    this.arn = cluster.attrArn;
  }

  watch(board: Board): void {
    const disk = this.ofBrokers("KafkaDataLogsDiskUsed", "Maximum", "MAX");
    const underReplicated = this.ofBrokers("UnderReplicatedPartitions", "Maximum", "MAX");
    board.row("Brokers", [
      graph("Disk used, %", [disk]),
      graph("Partitions with a replica that lags", [underReplicated]),
      graph("CPU, %", [this.ofBrokers("CpuUser", "Average", "MAX")]),
    ]);
    board.alarm({
      runbook: "broker-disk",
      meaning: `A broker has used ${DISK_ALARM_PERCENT} % of its disk: at 100 % it takes nothing more and ingest answers 503.`,
      metric: disk,
      comparison: ComparisonOperator.GREATER_THAN_THRESHOLD,
      threshold: DISK_ALARM_PERCENT,
      periods: 5,
      missingData: TreatMissingData.NOT_BREACHING,
      missingDataReason: "a cluster that says nothing takes no heartbeats either, which raises stream-lag",
    });
    board.alarm({
      runbook: "under-replicated",
      meaning:
        "For a quarter of an hour records have been on fewer brokers than three: the loss of one more stops ingest.",
      metric: underReplicated,
      comparison: ComparisonOperator.GREATER_THAN_THRESHOLD,
      threshold: 0,
      // Brokers are patched one after the other, each of which takes some minutes.
      periods: 15,
      missingData: TreatMissingData.NOT_BREACHING,
      missingDataReason: "a cluster that says nothing takes no heartbeats either, which raises stream-lag",
    });
  }

  /** MSK numbers its brokers from 1. */
  private ofBrokers(metricName: string, statistic: string, combine: string): IMetric {
    const ids = Array.from({ length: BROKERS }, (_, i) => String(i + 1));
    const of = (broker: string) =>
      new Metric({
        namespace: "AWS/Kafka",
        metricName,
        statistic,
        period: Duration.minutes(1),
        dimensionsMap: { "Broker ID": broker, "Cluster Name": this.name },
      });
    return new MathExpression({
      label: metricName,
      expression: `${combine}([${ids.map((id) => `m${id}`).join(", ")}])`,
      usingMetrics: Object.fromEntries(ids.map((id) => [`m${id}`, of(id)])),
      period: Duration.minutes(1),
    });
  }
}

/** Topics say the same for themselves: these are for one that somebody makes by hand. */
function serverProperties({ stage }: Deployment): string {
  return Object.entries({
    // A name that is wrong fails, instead of making a topic that nobody reads.
    "auto.create.topics.enable": false,
    "default.replication.factor": BROKERS,
    "min.insync.replicas": BROKERS - 1,
    "unclean.leader.election.enable": false,
    // Arrival is the broker's to tell, never a producer's.
    "log.message.timestamp.type": "LogAppendTime",
    "log.retention.hours": stage.stream.retentionHours,
    "num.partitions": stage.kafka.partitions,
  })
    .map(([name, value]) => `${name}=${value}\n`)
    .join("");
}
