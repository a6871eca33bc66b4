import { Duration, Stack } from "aws-cdk-lib";
import { ComparisonOperator, type IMetric, MathExpression, Metric, TreatMissingData } from "aws-cdk-lib/aws-cloudwatch";
import { SubnetType } from "aws-cdk-lib/aws-ec2";
import {
  CfnParameterGroup,
  CfnReplicationGroup,
  CfnSubnetGroup,
  CfnUser,
  CfnUserGroup,
} from "aws-cdk-lib/aws-elasticache";
import { Construct } from "constructs";
import { type Deployment, physicalName } from "../deployment.ts";
import { type Board, graph } from "./board.ts";
import { dataKey } from "./data-key.ts";
import type { NodeFunction, Placement } from "./node-function.ts";
import type { OnlineStore } from "./online-store.ts";
import { PrivateNetwork } from "./private-network.ts";
import { removalOf } from "./removal.ts";
import { READER_ACCESS, WRITER_ACCESS } from "./store-access.ts";

/** Not the default one, which is the first that a scanner tries. */
const PORT = 6380;
const MEMORY_ALARM_PERCENT = 80;

/**
 * ElastiCache for Valkey, node-based, in cluster mode: durable (a write is in a multi-AZ log before it is acknowledged),
 * TLS, two users who authenticate by IAM, no eviction. The store holds the only copy of the ids that make an apply exactly
 * once, so it may run full and refuse writes, but it may never drop a key by itself.
 */
export class ClusterOnlineStore extends Construct implements OnlineStore {
  readonly placement: Placement;
  private readonly deployment: Deployment;
  private readonly group: CfnReplicationGroup;
  private readonly reader: CfnUser;
  private readonly writer: CfnUser;

  constructor(scope: Construct, id: string, props: { readonly deployment: Deployment }) {
    super(scope, id);
    const { deployment } = props;
    const { stage } = deployment;
    this.deployment = deployment;
    const network = new PrivateNetwork(this, "Network", { deployment, storePort: PORT });
    this.placement = network.placement;
    const key = dataKey(this, deployment, "online-store");
    this.reader = this.user("Reader", "reader", READER_ACCESS);
    this.writer = this.user("Writer", "writer", WRITER_ACCESS);
    const users = new CfnUserGroup(this, "Users", {
      engine: "valkey",
      userGroupId: physicalName(deployment, "online"),
      userIds: [this.reader.ref, this.writer.ref],
    });
    const subnets = new CfnSubnetGroup(this, "Subnets", {
      cacheSubnetGroupName: physicalName(deployment, "online"),
      description: "Freshet online store: isolated subnets",
      subnetIds: network.vpc.selectSubnets({ subnetType: SubnetType.PRIVATE_ISOLATED }).subnetIds,
    });
    const parameters = new CfnParameterGroup(this, "Parameters", {
      cacheParameterGroupFamily: "valkey9",
      description: "Freshet online store",
      properties: {
        "cluster-enabled": "yes",
        "maxmemory-policy": "noeviction",
        // Most entities then stay in the compact encoding, at less than half of the memory. A dense distinct has 1,025 bytes.
        "hash-max-listpack-value": "1100",
        "hash-max-listpack-entries": "512",
      },
    });
    this.group = new CfnReplicationGroup(this, "ReplicationGroup", {
      replicationGroupId: physicalName(deployment, "online"),
      replicationGroupDescription: `Freshet online store (${stage.name})`,
      engine: "valkey",
      engineVersion: "9.0",
      cacheNodeType: stage.onlineStore.nodeType,
      clusterMode: "enabled",
      numNodeGroups: stage.onlineStore.shards,
      replicasPerNodeGroup: stage.onlineStore.replicasPerShard,
      automaticFailoverEnabled: true,
      multiAzEnabled: true,
      durability: "sync",
      port: PORT,
      cacheParameterGroupName: parameters.ref,
      cacheSubnetGroupName: subnets.ref,
      securityGroupIds: [network.store.securityGroupId],
      userGroupIds: [users.ref],
      transitEncryptionEnabled: true,
      transitEncryptionMode: "required",
      atRestEncryptionEnabled: true,
      kmsKeyId: key.keyArn,
      snapshotRetentionLimit: stage.onlineStore.snapshotDays,
      autoMinorVersionUpgrade: true,
    });
    this.group.applyRemovalPolicy(removalOf(deployment));
  }

  grantRead(fn: NodeFunction): void {
    this.connect(fn, this.reader);
  }

  grantReadWrite(fn: NodeFunction): void {
    this.connect(fn, this.writer);
  }

  watch(board: Board): void {
    board.row("Online store", [
      graph("Memory used, % (writes are refused at 100)", this.perNode("DatabaseMemoryUsagePercentage", "Maximum")),
      graph("Engine CPU, %", this.perNode("EngineCPUUtilization", "Maximum")),
      graph("Evicted keys (has to stay 0)", [this.sumOf("Evictions")]),
    ]);
    board.alarm({
      runbook: "store-memory",
      meaning: `A shard of the online store has used ${MEMORY_ALARM_PERCENT} % of its memory: at 100 % writes are refused and events wait.`,
      metric: this.fullestShard(),
      comparison: ComparisonOperator.GREATER_THAN_THRESHOLD,
      threshold: MEMORY_ALARM_PERCENT,
      periods: 5,
      missingData: TreatMissingData.NOT_BREACHING,
      missingDataReason: "a store that says nothing raises applies-blocked and reads-without-store",
    });
  }

  private connect(fn: NodeFunction, user: CfnUser): void {
    fn.allow(
      ["elasticache:Connect"],
      [
        Stack.of(this).formatArn({
          service: "elasticache",
          resource: `replicationgroup:${this.group.ref}`,
        }),
        user.attrArn,
      ],
    );
    fn.set("valkeyHost", this.group.attrConfigurationEndPointAddress);
    fn.set("valkeyPort", this.group.attrConfigurationEndPointPort);
    fn.set("valkeyTls", "1");
    fn.set("valkeyCluster", "1");
    fn.set("valkeyUser", user.ref);
    fn.set("valkeyCacheName", this.group.ref);
  }

  /** With IAM, a user's id and name have to be the same. */
  private user(id: string, name: string, accessString: string): CfnUser {
    const userId = physicalName(this.deployment, name);
    return new CfnUser(this, id, {
      engine: "valkey",
      userId,
      userName: userId,
      accessString,
      authenticationMode: { Type: "iam" },
    });
  }

  private perNode(metricName: string, statistic: string): IMetric[] {
    return this.nodes().map(
      (node) =>
        new Metric({ namespace: "AWS/ElastiCache", metricName, statistic, dimensionsMap: { CacheClusterId: node } }),
    );
  }

  /** By one node of each: the others hold the same. An alarm takes ten metrics. */
  private fullestShard(): IMetric {
    const members = this.deployment.stage.onlineStore.replicasPerShard + 1;
    const metrics = this.perNode("DatabaseMemoryUsagePercentage", "Maximum").filter((_, i) => i % members === 0);
    return new MathExpression({
      label: "Memory used, %",
      expression: `MAX([${metrics.map((_, i) => `m${i}`).join(", ")}])`,
      usingMetrics: Object.fromEntries(metrics.map((metric, i) => [`m${i}`, metric])),
      period: Duration.minutes(1),
    });
  }

  private sumOf(metricName: string): IMetric {
    const metrics = this.perNode(metricName, "Sum");
    return new MathExpression({
      label: metricName,
      expression: metrics.map((_, i) => `m${i}`).join(" + "),
      usingMetrics: Object.fromEntries(metrics.map((metric, i) => [`m${i}`, metric])),
    });
  }

  /** ElastiCache names nodes by group, shard and member: `freshet-dev-online-0001-001`. */
  private nodes(): string[] {
    const { shards, replicasPerShard } = this.deployment.stage.onlineStore;
    const name = physicalName(this.deployment, "online");
    return Array.from({ length: shards }, (_, shard) =>
      Array.from(
        { length: replicasPerShard + 1 },
        (_, member) => `${name}-${String(shard + 1).padStart(4, "0")}-${String(member + 1).padStart(3, "0")}`,
      ),
    ).flat();
  }
}
