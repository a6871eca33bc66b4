/** The local target holds only what the default emulator deploys, and differs from AWS in nothing else. */
import { describe, expect, test } from "vitest";
import { localTarget } from "../../lib/targets/local.ts";
import { synthesize, synthesizeAws, synthesizeLocal } from "./synthesized.ts";

const local = synthesizeLocal();
const types = [...new Set(local.resources(/./).map(([, { Type }]) => Type))].sort();

/** MiniStack refuses a template that holds one of these before it makes anything. */
const REFUSED = [
  "AWS::ApplicationAutoScaling::ScalableTarget",
  "AWS::CloudWatch::AnomalyDetector",
  "AWS::CloudWatch::CompositeAlarm",
  "AWS::EC2::EIP",
  "AWS::EC2::FlowLog",
  "AWS::EC2::NatGateway",
  "AWS::EC2::SecurityGroupEgress",
  "AWS::EC2::SecurityGroupIngress",
  "AWS::ElastiCache::ServerlessCache",
  "AWS::Kinesis::StreamConsumer",
  "AWS::Logs::QueryDefinition",
  "AWS::WAFv2::WebACLAssociation",
];

describe("the local target", () => {
  test("holds the types of resources that were deployed to the emulator, and no other", () => {
    expect(types).toEqual([
      "AWS::ApiGateway::Account",
      "AWS::ApiGateway::Authorizer",
      "AWS::ApiGateway::Deployment",
      "AWS::ApiGateway::GatewayResponse",
      "AWS::ApiGateway::Method",
      "AWS::ApiGateway::Resource",
      "AWS::ApiGateway::RestApi",
      "AWS::ApiGateway::Stage",
      "AWS::CloudWatch::Alarm",
      "AWS::CloudWatch::Dashboard",
      "AWS::DynamoDB::Table",
      "AWS::ElastiCache::ReplicationGroup",
      "AWS::Events::Rule",
      "AWS::IAM::Policy",
      "AWS::IAM::Role",
      "AWS::KMS::Alias",
      "AWS::KMS::Key",
      "AWS::Kinesis::Stream",
      "AWS::Lambda::EventSourceMapping",
      "AWS::Lambda::Function",
      "AWS::Lambda::Permission",
      "AWS::Logs::LogGroup",
      "AWS::Logs::SubscriptionFilter",
      "AWS::S3::Bucket",
      "AWS::S3::BucketPolicy",
      "AWS::SNS::Topic",
      "AWS::SNS::TopicPolicy",
    ]);
    expect(types.filter((type) => REFUSED.includes(type))).toEqual([]);
  });

  test("has no custom resource: in the emulator they wait for an hour", () => {
    expect(types.filter((type) => /^Custom::|CustomResource/.test(type))).toEqual([]);
  });

  test("has no alarm on metric math, which the emulator refuses", () => {
    const math = local.resources("AWS::CloudWatch::Alarm").filter(([, { Properties }]) => Properties["Metrics"]);
    expect(math.map(([id]) => id)).toEqual([]);
  });

  test("has a replication group of one node, without TLS, since its Valkey knows none", () => {
    const { Properties } = local.resources("AWS::ElastiCache::ReplicationGroup")[0][1];
    expect(Properties).toMatchObject({ Engine: "valkey", NumCacheClusters: 1, TransitEncryptionEnabled: false });
    const { Variables } = local.named("AWS::Lambda::Function", "FunctionName", "freshet-local-aggregate").Properties[
      "Environment"
    ];
    expect(Variables).toMatchObject({ FRESHET_TARGET: "local", FRESHET_VALKEY_TLS: "0", FRESHET_VALKEY_CLUSTER: "0" });
    expect(Variables.FRESHET_VALKEY_USER).toBeUndefined();
  });

  test("takes a Valkey by context, and then asks for no ElastiCache at all", () => {
    const given = synthesize(localTarget({ valkey: { host: "valkey", port: "6379" } }), "local");
    expect(given.resources(/ElastiCache/)).toEqual([]);
    const { Variables } = given.named("AWS::Lambda::Function", "FunctionName", "freshet-local-api").Properties[
      "Environment"
    ];
    expect(Variables).toMatchObject({ FRESHET_VALKEY_HOST: "valkey", FRESHET_VALKEY_PORT: "6379" });
  });

  test("takes a Kafka by context, and then has no Kinesis stream, no mapping from one, and no key for them", () => {
    const given = synthesize(localTarget({ bootstrapServers: "127.0.0.1:9092" }), "local");
    expect(given.resources(/Kinesis/)).toEqual([]);
    const tables = (id: string) =>
      /FromLateQueue|FromJobs|FromErasures|Historical|Materializer|Repairer|Eraser/.test(id);
    const mappings = given.resources("AWS::Lambda::EventSourceMapping").map(([id]) => id);
    expect(mappings.filter((id) => !tables(id))).toEqual([]);
    const names = { transactions: "freshet-local-transactions", feature_events: "freshet-local-feature-events" };
    expect(JSON.parse(given.outputs("streams")["Streams"].Value)).toEqual(names);
    const broker = { kind: "kafka", bootstrapServers: "127.0.0.1:9092", auth: null };
    expect(JSON.parse(given.outputs("streams")["Broker"].Value)).toEqual(broker);
    for (const name of ["ingest", "heartbeat", "aggregate", "replay"]) {
      const { Properties } = given.named("AWS::Lambda::Function", "FunctionName", `freshet-local-${name}`);
      const { FRESHET_STREAMS, ...variables } = Properties["Environment"].Variables;
      expect(JSON.parse(FRESHET_STREAMS)).toEqual(names);
      expect(variables).toMatchObject({ FRESHET_BROKER: "kafka", FRESHET_BOOTSTRAP_SERVERS: "127.0.0.1:9092" });
    }
  });

  test("asks no authorizer where LocalStack stands for AWS, whose free edition takes none: the router is the wall", () => {
    const on = synthesize(localTarget({ emulator: "localstack" }), "local");
    expect(on.resources("AWS::ApiGateway::Authorizer")).toEqual([]);
    const methods = on
      .resources("AWS::ApiGateway::Method")
      .map(([, { Properties }]) => Properties["AuthorizationType"]);
    expect(new Set(methods)).toEqual(new Set(["NONE"]));
    const others = [...new Set(on.resources(/./).map(([, { Type }]) => Type))].sort();
    expect(others).toEqual(types.filter((type) => type !== "AWS::ApiGateway::Authorizer"));
  });

  test("runs no function in a VPC", () => {
    const inside = local.resources("AWS::Lambda::Function").filter(([, { Properties }]) => Properties["VpcConfig"]);
    expect(inside).toEqual([]);
  });

  test("is pinned to an account that no credentials belong to", () => {
    for (const { environment } of local.app.synth().stacks) {
      expect([environment.account, environment.region]).toEqual(["000000000000", "us-east-1"]);
    }
  });

  test("brings every function's metrics to CloudWatch but the bridge's own", () => {
    const filters = local.resources("AWS::Logs::SubscriptionFilter").map(([, { Properties }]) => Properties);
    expect(filters.map((filter) => filter["FilterPattern"])).toEqual(Array(15).fill('"_aws"'));
    const sources = filters.map((filter) => JSON.stringify(filter["LogGroupName"]));
    expect(new Set(sources).size).toBe(15);
    expect(sources.filter((source) => /Bridge/.test(source))).toEqual([]);
  });

  test("names streams, tables and functions as AWS does", () => {
    const aws = synthesizeAws("dev");
    for (const [type, property] of [
      ["AWS::Kinesis::Stream", "Name"],
      ["AWS::DynamoDB::Table", "TableName"],
      ["AWS::Events::Rule", "Name"],
      ["AWS::CloudWatch::Alarm", "AlarmName"],
      ["AWS::CloudWatch::Dashboard", "DashboardName"],
    ]) {
      const names = (app: typeof aws, stage: string) =>
        app
          .resources(type)
          .map(([, { Properties }]) => Properties[property].replace(`-${stage}-`, "-"))
          // Without a stand-in for SageMaker, jobs are processes of this machine: there is no state machine.
          // The memory of a store's nodes is told by ElastiCache alone.
          .filter((name) => name !== "freshet-training-failed" && name !== "freshet-store-memory")
          .sort();
      expect(names(local, "local")).toEqual(names(aws, "dev"));
    }
  });
});
