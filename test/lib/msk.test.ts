/** The app with Kafka as its broker, on AWS: what no emulator has is asserted on the template, one fact a test. */
import { describe, expect, test } from "vitest";
import { mskBroker } from "../../lib/brokers/msk.ts";
import { stageNamed } from "../../lib/stage.ts";
import { awsTarget } from "../../lib/targets/aws.ts";
import { fixturePlan, type Resource, type Synthesized, synthesize, synthesizeAws } from "./synthesized.ts";

const provisioned = synthesize(awsTarget({ broker: mskBroker("provisioned") }), "prod");
const serverless = synthesize(awsTarget({ broker: mskBroker("serverless") }), "prod");
const both = [
  ["provisioned", provisioned],
  ["serverless", serverless],
] as const;
const only = (app: Synthesized, type: string): Resource => {
  const found = app.resources(type);
  expect(found).toHaveLength(1);
  return found[0][1];
};
const functionNamed = (app: Synthesized, name: string) =>
  app.named("AWS::Lambda::Function", "FunctionName", `freshet-prod-${name}`).Properties;
const mappingsOf = (app: Synthesized) =>
  app.resources("AWS::Lambda::EventSourceMapping").filter(([, { Properties }]) => Properties["Topics"] !== undefined);

interface Statement {
  readonly Effect: string;
  readonly Action: string[];
  readonly Resource: unknown;
  readonly Condition?: any;
}
function statementsOf(app: Synthesized, name: string): Statement[] {
  const role = functionNamed(app, name)["Role"]["Fn::GetAtt"][0];
  return app
    .resources("AWS::IAM::Policy")
    .filter(([, { Properties }]) => Properties["Roles"].some((attached: any) => attached.Ref === role))
    .flatMap(([, { Properties }]) => Properties["PolicyDocument"].Statement)
    .map((statement) => ({ ...statement, Action: [statement.Action].flat() }));
}
/** Actions on Kafka by what they are on: `cluster`, `topic` or `group`. */
function kafkaActions(app: Synthesized, name: string): Record<string, string[]> {
  const found: Record<string, Set<string>> = {};
  for (const { Effect, Action, Resource } of statementsOf(app, name)) {
    if (Effect !== "Allow") continue;
    for (const resource of [Resource].flat().map((one) => JSON.stringify(one))) {
      const kind = /:(topic|group)\//.exec(resource)?.[1] ?? "cluster";
      for (const action of Action.filter((one) => one.startsWith("kafka"))) (found[kind] ??= new Set()).add(action);
    }
  }
  return Object.fromEntries(Object.entries(found).map(([kind, actions]) => [kind, [...actions].sort()]));
}
const CLIENTS = { cluster: ["kafka-cluster:Connect"] };

test("the stage says which kind of cluster there is", () => {
  const kindOf = (app: Synthesized) => app.resources(/^AWS::MSK::.*Cluster$/).map(([, { Type }]) => Type);
  for (const stage of ["dev", "prod"] as const) {
    const { cluster } = stageNamed(stage).kafka;
    const type = cluster === "serverless" ? "AWS::MSK::ServerlessCluster" : "AWS::MSK::Cluster";
    expect(kindOf(synthesize(awsTarget({ broker: mskBroker() }), stage))).toEqual([type]);
  }
});

describe.each(both)("with a %s cluster", (kind, app) => {
  test("there is no Kinesis stream, and no way to one", () => {
    expect(app.resources(/Kinesis/)).toEqual([]);
    expect(JSON.stringify(app.resources(/./))).not.toMatch(/"kinesis:|\.kinesis-streams/);
  });

  test("the cluster is in the isolated subnets of the online store's network, in as many zones as it wants", () => {
    expect(app.resources("AWS::EC2::VPC")).toHaveLength(1);
    const subnets = app.resources("AWS::EC2::Subnet").map(([, { Properties }]) => Properties);
    expect(subnets).toHaveLength(kind === "provisioned" ? 3 : 2);
    const zones = subnets.map((subnet) => JSON.stringify(subnet["AvailabilityZone"]));
    expect(new Set(zones).size).toBe(subnets.length);
    const cluster = only(app, `AWS::MSK::${kind === "provisioned" ? "Cluster" : "ServerlessCluster"}`).Properties;
    const placed =
      kind === "provisioned" ? cluster["BrokerNodeGroupInfo"].ClientSubnets : cluster["VpcConfigs"][0].SubnetIds;
    expect(placed).toHaveLength(subnets.length);
    expect(app.resources(/InternetGateway|NatGateway|EIP/)).toEqual([]);
  });

  test("clients authenticate by IAM, and by nothing else", () => {
    const { Properties } = app.resources(/^AWS::MSK::.*Cluster$/)[0][1];
    const { Unauthenticated = { Enabled: false }, ...ways } = Properties["ClientAuthentication"];
    expect([ways, Unauthenticated]).toEqual([{ Sasl: { Iam: { Enabled: true } } }, { Enabled: false }]);
  });

  test("brokers are reached at the port of IAM alone, by the store's clients and by the pollers that carry their own group", () => {
    const isBrokers = (value: unknown) => JSON.stringify(value).includes("BrokersGroup");
    const rules = [...app.resources("AWS::EC2::SecurityGroupIngress")]
      .map(([, { Properties }]) => Properties)
      .filter(({ GroupId }) => isBrokers(GroupId));
    expect(rules.map(({ FromPort, ToPort }) => [FromPort, ToPort])).toEqual([
      [9098, 9098],
      [9098, 9098],
    ]);
    const sources = rules.map(({ SourceSecurityGroupId }) => JSON.stringify(SourceSecurityGroupId));
    expect(
      sources.map((source) => (/ClientGroup/.test(source) ? "clients" : isBrokers(source) ? "brokers" : source)).sort(),
    ).toEqual(["brokers", "clients"]);
  });

  test("clients may go out to brokers, whose group is of another stack", () => {
    const out = app
      .resources("AWS::EC2::SecurityGroupEgress")
      .map(([, { Properties }]) => Properties)
      .filter(({ FromPort, GroupId }) => FromPort === 9098 && /ClientGroup/.test(JSON.stringify(GroupId)));
    expect(out).toHaveLength(1);
  });

  test("ingest, heartbeat and the maker of topics are in the network, with everything that reads the store", () => {
    for (const name of ["ingest", "heartbeat", "topics", "aggregate", "replay"]) {
      expect([name, Object.keys(functionNamed(app, name)["VpcConfig"] ?? {})]).toEqual([
        name,
        ["SecurityGroupIds", "SubnetIds"],
      ]);
    }
  });

  test("the one endpoint that costs is Lambda's, by which the heartbeat invokes control, for this account", () => {
    const paid = app
      .resources("AWS::EC2::VPCEndpoint")
      .map(([, { Properties }]) => Properties)
      .filter(({ VpcEndpointType }) => VpcEndpointType !== "Gateway");
    expect(paid).toHaveLength(1);
    expect(JSON.stringify(paid[0]["ServiceName"])).toContain(".lambda");
    const [statement] = paid[0]["PolicyDocument"].Statement;
    expect(statement.Action).toBe("lambda:*");
    expect(Object.keys(statement.Condition.StringEquals)).toEqual(["aws:PrincipalAccount", "aws:ResourceAccount"]);
  });

  test("functions are told the broker, how they are known to it, and where it is", () => {
    for (const name of ["ingest", "heartbeat", "topics"]) {
      const { Variables } = functionNamed(app, name)["Environment"];
      expect(Variables).toMatchObject({ FRESHET_BROKER: "kafka", FRESHET_KAFKA_AUTH: "iam" });
      expect(JSON.stringify(Variables.FRESHET_BOOTSTRAP_SERVERS)).toMatch(/BootstrapBrokerStringSaslIam/);
    }
    expect(functionNamed(app, "aggregate")["Environment"].Variables).toMatchObject({
      FRESHET_BROKER: "kafka",
      FRESHET_PARTIAL_RESPONSES: "1",
    });
  });
});

describe.each(both)("the mappings from a %s cluster", (_, app) => {
  const mappings = mappingsOf(app).map(([, { Properties }]) => Properties);

  test("there is one for each stream of the plan, from its topic, in a group of its own", () => {
    const topics = fixturePlan.streams.map(({ name }) => `freshet-prod-${name.replaceAll("_", "-")}`);
    expect(mappings.map((mapping) => mapping["Topics"])).toEqual(topics.map((topic) => [topic]));
    const groups = mappings.map((mapping) => mapping["AmazonManagedKafkaEventSourceConfig"].ConsumerGroupId);
    expect(groups).toEqual(topics.map((topic) => topic.replace("freshet-prod-", "freshet-prod-aggregate-")));
    // MSK writes no lag of a group whose name has a colon.
    for (const group of groups) expect(group).toMatch(/^[a-z-]+$/);
  });

  test("are in provisioned mode, without which they neither halve nor take partial success nor count attempts", () => {
    const { pollers } = stageNamed("prod").kafka;
    for (const mapping of mappings) {
      expect(mapping["ProvisionedPollerConfig"]).toEqual({
        MinimumPollers: pollers.minimum,
        MaximumPollers: pollers.maximum,
      });
      expect(mapping["BisectBatchOnFunctionError"]).toBe(true);
      expect(mapping["FunctionResponseTypes"]).toEqual(["ReportBatchItemFailures"]);
    }
  });

  test("try as often as can be said: unlimited attempts with a failure destination are ten", () => {
    for (const mapping of mappings) expect(mapping["MaximumRetryAttempts"]).toBe(10_000);
  });

  test("give a batch up to S3 an hour before its records leave the topic, where the records themselves are kept", () => {
    const { retentionHours } = stageNamed("prod").stream;
    for (const mapping of mappings) {
      expect(mapping["MaximumRecordAgeInSeconds"]).toBe((retentionHours - 1) * 3_600);
      expect(JSON.stringify(mapping["DestinationConfig"].OnFailure.Destination)).toMatch(/QuarantineBucket/);
    }
  });

  test("begin with what was sent before they existed", () => {
    for (const mapping of mappings) expect(mapping["StartingPosition"]).toBe("TRIM_HORIZON");
  });
});

describe("topics", () => {
  test.each(both)(
    "of a %s cluster have the broker's times, the stage's retention and partitions, and three replicas",
    (_, app) => {
      const { Properties } = only(app, "Custom::FreshetTopics");
      const topics = JSON.parse(Properties["Topics"]);
      expect(topics.map(({ name }: any) => name)).toEqual(["freshet-prod-transactions", "freshet-prod-feature-events"]);
      for (const { partitions, replication, configuration } of topics) {
        expect([partitions, replication]).toEqual([stageNamed("prod").kafka.partitions, 3]);
        expect(configuration).toEqual({
          "cleanup.policy": "delete",
          "message.timestamp.type": "LogAppendTime",
          "retention.bytes": "-1",
          "retention.ms": String(stageNamed("prod").stream.retentionHours * 3_600_000),
        });
      }
    },
  );

  test("are looked for again when the cluster is another", () => {
    expect(JSON.stringify(only(provisioned, "Custom::FreshetTopics").Properties["Cluster"])).toContain("Msk");
  });
});

describe("a provisioned cluster", () => {
  const cluster = only(provisioned, "AWS::MSK::Cluster");
  const configuration = only(provisioned, "AWS::MSK::Configuration").Properties["ServerProperties"].split("\n");

  test("has three brokers, and survives the loss of one without losing a record or refusing one", () => {
    expect(cluster.Properties["NumberOfBrokerNodes"]).toBe(3);
    expect(configuration).toEqual(
      expect.arrayContaining([
        "default.replication.factor=3",
        "min.insync.replicas=2",
        "unclean.leader.election.enable=false",
      ]),
    );
  });

  test("makes no topic that nobody has declared, and lets no producer say when a record arrived", () => {
    expect(configuration).toEqual(
      expect.arrayContaining(["auto.create.topics.enable=false", "log.message.timestamp.type=LogAppendTime"]),
    );
    expect(JSON.stringify(cluster.Properties["ConfigurationInfo"].Arn)).toContain("Configuration");
  });

  test("is encrypted: by a key of the deployment at rest, by TLS on the wire, between brokers too", () => {
    const { EncryptionAtRest, EncryptionInTransit } = cluster.Properties["EncryptionInfo"];
    expect(JSON.stringify(EncryptionAtRest.DataVolumeKMSKeyId)).toContain("Key");
    expect(EncryptionInTransit).toEqual({ ClientBroker: "TLS", InCluster: true });
  });

  test("has no public address", () => {
    expect(cluster.Properties["BrokerNodeGroupInfo"].ConnectivityInfo.PublicAccess).toEqual({ Type: "DISABLED" });
  });

  test("writes its brokers' logs, and tells of each broker", () => {
    expect(cluster.Properties["LoggingInfo"].BrokerLogs.CloudWatchLogs.Enabled).toBe(true);
    expect(cluster.Properties["EnhancedMonitoring"]).toBe("PER_BROKER");
  });
});

test.each(both)("data of production in a %s cluster is kept when its stack is deleted", (_, app) => {
  const [, { DeletionPolicy }] = app.resources(/^AWS::MSK::(Serverless)?Cluster$/)[0];
  expect(DeletionPolicy).toBe("Retain");
});

describe.each(both)("least privilege on a %s cluster", (_, app) => {
  test("ingest may write to the topics", () => {
    expect(kafkaActions(app, "ingest")).toEqual({
      ...CLIENTS,
      topic: ["kafka-cluster:DescribeTopic", "kafka-cluster:WriteData"],
    });
  });

  test("the heartbeat may write to them, and see whether arrivals are the broker's", () => {
    const topic = ["DescribeTopic", "DescribeTopicDynamicConfiguration", "WriteData"];
    expect(kafkaActions(app, "heartbeat")).toEqual({ ...CLIENTS, topic: topic.map((name) => `kafka-cluster:${name}`) });
  });

  test("the mapping may read the topics, in its own groups", () => {
    expect(kafkaActions(app, "aggregate")).toEqual({
      cluster: [
        "kafka-cluster:Connect",
        "kafka-cluster:DescribeClusterDynamicConfiguration",
        "kafka:DescribeClusterV2",
        "kafka:GetBootstrapBrokers",
      ],
      topic: ["kafka-cluster:DescribeTopic", "kafka-cluster:ReadData"],
      group: ["kafka-cluster:AlterGroup", "kafka-cluster:DescribeGroup"],
    });
    const groups = JSON.stringify(
      statementsOf(app, "aggregate").filter(({ Action }) => Action.includes("kafka-cluster:AlterGroup")),
    );
    for (const { name } of fixturePlan.streams)
      expect(groups).toContain(`/freshet-prod-aggregate-${name.replaceAll("_", "-")}"`);
  });

  test("the maker of topics may make and change them, and neither read, write nor delete", () => {
    const topic = [
      "AlterTopic",
      "AlterTopicDynamicConfiguration",
      "CreateTopic",
      "DescribeTopic",
      "DescribeTopicDynamicConfiguration",
    ];
    expect(kafkaActions(app, "topics")).toEqual({ ...CLIENTS, topic: topic.map((name) => `kafka-cluster:${name}`) });
  });

  test("every other function may do nothing with Kafka", () => {
    const known = ["aggregate", "heartbeat", "ingest", "topics"];
    const others = app
      .resources("AWS::Lambda::Function")
      .flatMap(([, { Properties }]) => (Properties["FunctionName"] ? [Properties["FunctionName"]] : []))
      .map((name: string) => name.replace("freshet-prod-", ""))
      .filter((name) => !known.includes(name));
    expect(others.length).toBeGreaterThan(10);
    for (const name of others) expect([name, kafkaActions(app, name)]).toEqual([name, {}]);
  });

  test("permissions are on this deployment's topics and groups, none of which is a pattern", () => {
    for (const name of ["ingest", "heartbeat", "aggregate", "topics"]) {
      for (const { Action, Resource } of statementsOf(app, name)) {
        if (!Action.some((action) => action.startsWith("kafka"))) continue;
        expect(JSON.stringify(Resource)).not.toContain("*");
        expect(Action.join()).not.toContain("*");
      }
    }
  });

  test("what the pollers ask of the network on every resource, the function's code is denied", () => {
    const wild = statementsOf(app, "aggregate").filter(({ Resource }) => Resource === "*");
    const actionsOf = (effect: string) =>
      new Set(wild.filter(({ Effect }) => Effect === effect).flatMap(({ Action }) => Action));
    expect([...actionsOf("Allow")]).toEqual(expect.arrayContaining(["ec2:DescribeVpcs", "ec2:DescribeSecurityGroups"]));
    expect([...actionsOf("Deny")].sort()).toEqual([...actionsOf("Allow")].sort());
  });
});

describe("alarms", () => {
  const alarm = (app: Synthesized, name: string) =>
    app.named("AWS::CloudWatch::Alarm", "AlarmName", `freshet-prod-${name}`).Properties;

  test.each(both)("of a %s cluster tell of each topic whose records wait", (_, app) => {
    expect(alarm(app, "consumer-lag-transactions")).toMatchObject({
      ...{ Namespace: "AWS/Kafka", MetricName: "SumOffsetLag", Statistic: "Maximum", EvaluationPeriods: 5 },
      Threshold: stageNamed("prod").alarms.lagRecords,
      Dimensions: [
        { Name: "Cluster Name", Value: "freshet-prod-events" },
        { Name: "Consumer Group", Value: "freshet-prod-aggregate-transactions" },
        { Name: "Topic", Value: "freshet-prod-transactions" },
      ],
    });
  });

  test("of a provisioned cluster tell of the fullest broker, and of records on fewer than three", () => {
    for (const [name, metric, periods] of [
      ["broker-disk", "KafkaDataLogsDiskUsed", 5],
      ["under-replicated", "UnderReplicatedPartitions", 15],
    ] as const) {
      const { Metrics, EvaluationPeriods } = alarm(provisioned, name);
      expect(Metrics[0].Expression).toBe("MAX([m1, m2, m3])");
      const brokers = Metrics.slice(1).map(({ MetricStat: { Metric } }: any) => [
        Metric.MetricName,
        Metric.Dimensions[0].Value,
      ]);
      expect([brokers, EvaluationPeriods]).toEqual([["1", "2", "3"].map((id) => [metric, id]), periods]);
    }
  });

  test("of a serverless cluster know no broker", () => {
    const names = serverless.resources("AWS::CloudWatch::Alarm").map(([, { Properties }]) => Properties["AlarmName"]);
    expect(names.filter((name) => /broker-disk|under-replicated/.test(name))).toEqual([]);
  });
});

test("commands are told how the cluster is reached", () => {
  const { Broker, Streams, KafkaCluster } = provisioned.outputs("streams");
  expect(JSON.stringify(Broker.Value)).toMatch(/kafka.*BootstrapBrokerStringSaslIam.*iam/);
  expect(JSON.parse(Streams.Value)).toMatchObject({ transactions: "freshet-prod-transactions" });
  expect(KafkaCluster).toBeDefined();
});

test("with Kinesis nothing of Kafka is there", () => {
  const kinesis = synthesizeAws("prod");
  expect(kinesis.resources(/MSK|Custom::Freshet/)).toEqual([]);
  expect(JSON.stringify(kinesis.resources(/./))).not.toMatch(/kafka/);
});
