/** What emulators ignore is asserted here, on the template for AWS: one fact a test. */
import { describe, expect, test } from "vitest";
import { fixturePlan, synthesizeAws } from "./synthesized.ts";

const app = synthesizeAws("prod");
/** From the streams of events; a table wakes those that do jobs. */
const mappings = app
  .resources("AWS::Lambda::EventSourceMapping")
  .filter(([id]) => !/\/(Historical|Materializer|Repairer|Eraser)/.test(id));

const functions = app.resources("AWS::Lambda::Function").filter(([, { Properties }]) => Properties["FunctionName"]);
const DELETABLE = /KeysTable|LateQueueTable|ErasuresTable|QuarantineIndexTable|SnapshotsTable/;
const group = app.resources("AWS::ElastiCache::ReplicationGroup")[0][1].Properties;
const functionNamed = (name: string) => app.named("AWS::Lambda::Function", "FunctionName", `freshet-prod-${name}`);

/** Statements of the policies that are attached to a function's role. */
function statementsOf(name: string): { Effect: string; Action: string[]; Resource: unknown }[] {
  const role = functionNamed(name).Properties["Role"]["Fn::GetAtt"][0];
  return app
    .resources("AWS::IAM::Policy")
    .filter(([, { Properties }]) => Properties["Roles"].some((attached: any) => attached.Ref === role))
    .flatMap(([, { Properties }]) => Properties["PolicyDocument"].Statement)
    .map((statement) => ({ ...statement, Action: [statement.Action].flat() }));
}
const actionsOf = (name: string) =>
  statementsOf(name)
    .filter(({ Effect }) => Effect === "Allow")
    .flatMap(({ Action }) => Action)
    .filter((action) => !/^(logs|ec2):/.test(action))
    .sort();

describe("stacks", () => {
  test("state is apart from functions", () => {
    for (const stack of ["streams", "storage", "online-store"]) {
      const named = Object.values(app.template(stack).toJSON().Resources).filter(
        (resource: any) => resource.Properties?.FunctionName,
      );
      expect([stack, named]).toEqual([stack, []]);
    }
  });

  test("functions, API and dashboard hold no state", () => {
    for (const stack of ["ingest", "aggregation", "offline", "serving", "monitoring"]) {
      const types = Object.values<any>(app.template(stack).toJSON().Resources).map(({ Type }) => Type);
      expect(types.filter((type) => /Table|Bucket$|Stream$|ReplicationGroup/.test(type))).toEqual([]);
    }
  });

  test("data of production is kept when its stack is deleted", () => {
    const stateful = /^AWS::(Kinesis::Stream|S3::Bucket|DynamoDB::Table|ElastiCache::ReplicationGroup|KMS::Key)$/;
    const lost = app.resources(stateful).filter(([, { DeletionPolicy }]) => DeletionPolicy !== "Retain");
    expect(lost.map(([id]) => id)).toEqual([]);
  });

  test("outputs name what a caller has to know", () => {
    expect(Object.keys(app.outputs("streams"))).toContain("Streams");
    expect(Object.keys(app.outputs("serving"))).toEqual(expect.arrayContaining(["ApiUrl", "ApiId", "ApiStage"]));
    expect(Object.keys(app.outputs("storage"))).toEqual(
      expect.arrayContaining([
        "ArchiveBucket",
        "QuarantineBucket",
        "QuarantineTable",
        "LateTable",
        "KeysTable",
        "ControlTable",
        "ModelsTable",
        "ModelsBucket",
      ]),
    );
    expect(Object.keys(app.outputs("aggregation"))).toEqual(
      expect.arrayContaining([
        "AggregateFunction",
        "BuildFunction",
        "ControlFunction",
        "HeartbeatFunction",
        "SweepFunction",
      ]),
    );
  });
});

describe("the aggregate mappings", () => {
  test("there is one for each stream of the plan", () => {
    expect(mappings).toHaveLength(fixturePlan.streams.length);
  });

  test.each(mappings)("%s blocks instead of skipping: attempts are unlimited", (_, { Properties }) => {
    expect(Properties["MaximumRetryAttempts"]).toBe(-1);
  });

  test.each(mappings)("%s gives a batch up an hour before its records leave the stream", (_, { Properties }) => {
    const retention = app.resources("AWS::Kinesis::Stream")[0][1].Properties["RetentionPeriodHours"];
    expect(Properties["MaximumRecordAgeInSeconds"]).toBe((retention - 1) * 3_600);
  });

  test.each(mappings)("%s gives it up to S3, where the records themselves are kept", (_, { Properties }) => {
    const arn = JSON.stringify(Properties["DestinationConfig"].OnFailure.Destination);
    expect(arn).toMatch(/QuarantineBucket/);
  });

  test.each(mappings)("%s halves a batch that fails", (_, { Properties }) => {
    expect(Properties["BisectBatchOnFunctionError"]).toBe(true);
  });

  test.each(mappings)("%s takes partial success", (_, { Properties }) => {
    expect(Properties["FunctionResponseTypes"]).toEqual(["ReportBatchItemFailures"]);
  });

  test.each(mappings)("%s begins with what was sent before it existed", (_, { Properties }) => {
    expect(Properties["StartingPosition"]).toBe("TRIM_HORIZON");
  });

  test.each(mappings)("%s has several invocations on a shard and waits for none to fill", (_, { Properties }) => {
    expect(Properties["ParallelizationFactor"]).toBe(4);
    expect(Properties["MaximumBatchingWindowInSeconds"]).toBe(0);
  });
});

describe("no public store", () => {
  test("the online store is in isolated subnets: the network has no gateway, no NAT and no public address", () => {
    expect(app.resources(/InternetGateway|NatGateway|EIP|EgressOnly|VPCGatewayAttachment/)).toEqual([]);
    expect(app.resources("AWS::EC2::Route")).toEqual([]);
    for (const [, { Properties }] of app.resources("AWS::EC2::Subnet"))
      expect(Properties["MapPublicIpOnLaunch"]).toBe(false);
  });

  test("only its clients' security group reaches the online store, at its one port", () => {
    const rules = app.resources("AWS::EC2::SecurityGroupIngress");
    // The other one is the Kinesis endpoint's: enriched.test.ts.
    expect(rules.map(([, { Properties }]) => Properties["FromPort"])).toEqual([group["Port"], 443]);
    const { FromPort, ToPort, SourceSecurityGroupId } = rules[0][1].Properties;
    expect([FromPort, ToPort]).toEqual([group["Port"], group["Port"]]);
    expect(JSON.stringify(SourceSecurityGroupId)).toMatch(/ClientGroup/);
    for (const [, { Properties }] of app.resources("AWS::EC2::SecurityGroup")) {
      expect(Properties["SecurityGroupIngress"]).toBeUndefined();
    }
  });

  test("no bucket can be made public", () => {
    for (const [, { Properties }] of app.resources("AWS::S3::Bucket")) {
      expect(Object.values(Properties["PublicAccessBlockConfiguration"])).toEqual([true, true, true, true]);
    }
  });

  test("endpoints reach buckets, tables and streams of this account only", () => {
    const endpoints = app.resources("AWS::EC2::VPCEndpoint");
    expect(endpoints).toHaveLength(3);
    for (const [, { Properties }] of endpoints) {
      const condition = Properties["PolicyDocument"].Statement[0].Condition.StringEquals;
      expect(Object.keys(condition)).toEqual(["aws:PrincipalAccount", "aws:ResourceAccount"]);
    }
  });
});

describe("functions in the VPC need gateway endpoints, and ingest that of Kinesis", () => {
  test("the network's endpoints are two gateways, S3 and DynamoDB, and Kinesis, where ingest shares limits", () => {
    const all = app.resources("AWS::EC2::VPCEndpoint").map(([, { Properties }]) => Properties);
    expect(all.map((endpoint) => endpoint["VpcEndpointType"])).toEqual(["Gateway", "Gateway", "Interface"]);
    const endpoints = all.slice(0, 2);
    expect(
      endpoints.map((endpoint) => JSON.stringify(endpoint["ServiceName"]).match(/\.(s3|dynamodb)"/)?.[1]).sort(),
    ).toEqual(["dynamodb", "s3"]);
  });

  test("the functions that use the store are inside, ingest for the sake of tenants' limits", () => {
    const inside = functions
      .filter(([, { Properties }]) => Properties["VpcConfig"])
      .map(([, { Properties }]) => Properties["FunctionName"]);
    expect(inside.sort()).toEqual(
      [
        "aggregate",
        "api",
        "build",
        "control",
        "erase",
        "ingest",
        "materialize",
        "repair",
        "replay",
        "restore",
        "snapshot",
        "sweep",
        "verify",
      ].map((name) => `freshet-prod-${name}`),
    );
  });

  test.each([
    "aggregate",
    "api",
    "build",
    "control",
    "materialize",
    "repair",
    "replay",
    "restore",
    "snapshot",
    "sweep",
    "verify",
  ])("%s calls nothing but S3, DynamoDB and the store", (name) => {
    // Kinesis and KMS stay in the list of `aggregate`: Lambda's poller and S3 use them, in the role's name, from outside.
    const services = new Set(actionsOf(name).map((action) => action.split(":")[0]));
    if (name === "aggregate") services.delete("kinesis");
    services.delete("kms");
    expect([...services].filter((service) => !["s3", "dynamodb", "elasticache"].includes(service))).toEqual([]);
  });
});

describe("everything at rest is encrypted", () => {
  test("every stream, with a key of this deployment", () => {
    for (const [, { Properties }] of app.resources("AWS::Kinesis::Stream")) {
      expect(Properties["StreamEncryption"].EncryptionType).toBe("KMS");
      expect(JSON.stringify(Properties["StreamEncryption"].KeyId)).toMatch(/Key/);
    }
  });

  test("every bucket; those with data by a key of this deployment", () => {
    for (const [id, { Properties }] of app.resources("AWS::S3::Bucket")) {
      const [rule] = Properties["BucketEncryption"].ServerSideEncryptionConfiguration;
      expect([id, rule.ServerSideEncryptionByDefault.SSEAlgorithm]).toEqual([
        id,
        id.includes("AccessLogs") ? "AES256" : "aws:kms",
      ]);
    }
  });

  test("every table, with a key of this deployment", () => {
    for (const [, { Properties }] of app.resources("AWS::DynamoDB::Table")) {
      expect(Properties["SSESpecification"]).toMatchObject({ SSEEnabled: true, SSEType: "KMS" });
    }
  });

  test("the alarms' topic, and there is no queue that could be forgotten", () => {
    for (const [, { Properties }] of app.resources("AWS::SNS::Topic"))
      expect(Properties["KmsMasterKeyId"]).toBeDefined();
    expect(app.resources("AWS::SQS::Queue")).toEqual([]);
  });

  test("the online store", () => {
    expect(group["AtRestEncryptionEnabled"]).toBe(true);
    expect(group["KmsKeyId"]).toBeDefined();
  });

  test("every key is rotated", () => {
    for (const [, { Properties }] of app.resources("AWS::KMS::Key")) expect(Properties["EnableKeyRotation"]).toBe(true);
  });
});

describe("everything on the wire is encrypted", () => {
  test("the online store takes TLS only", () => {
    expect([group["TransitEncryptionEnabled"], group["TransitEncryptionMode"]]).toEqual([true, "required"]);
  });

  test.each(["aggregate", "api", "control", "replay", "snapshot", "sweep", "verify"])(
    "%s is told to use TLS, cluster mode and IAM",
    (name) => {
      const variables = functionNamed(name).Properties["Environment"].Variables;
      expect(variables).toMatchObject({ FRESHET_VALKEY_TLS: "1", FRESHET_VALKEY_CLUSTER: "1" });
      expect(variables.FRESHET_VALKEY_USER).toBeDefined();
      expect(variables.FRESHET_VALKEY_CACHE_NAME).toBeDefined();
    },
  );

  test("every bucket refuses a request without TLS", () => {
    const policies = app.resources("AWS::S3::BucketPolicy");
    expect(policies).toHaveLength(app.resources("AWS::S3::Bucket").length);
    for (const [, { Properties }] of policies) {
      const denied = Properties["PolicyDocument"].Statement.filter(({ Effect }: any) => Effect === "Deny");
      expect(denied.map(({ Condition }: any) => JSON.stringify(Condition)).join()).toMatch(
        /"aws:SecureTransport":"false"/,
      );
    }
  });
});

describe("the online store", () => {
  test("never evicts a key", () => {
    const { Properties } = app.resources("AWS::ElastiCache::ParameterGroup")[0][1];
    expect(Properties["Properties"]).toEqual({
      "cluster-enabled": "yes",
      "maxmemory-policy": "noeviction",
      "hash-max-listpack-value": "1100",
      "hash-max-listpack-entries": "512",
    });
  });

  test("is a durable cluster with failover across zones", () => {
    expect(group).toMatchObject({
      Engine: "valkey",
      ClusterMode: "enabled",
      Durability: "sync",
      AutomaticFailoverEnabled: true,
      MultiAZEnabled: true,
      NumNodeGroups: 3,
      ReplicasPerNodeGroup: 1,
    });
  });

  test("knows users who authenticate by IAM, and no other", () => {
    const users = app.resources("AWS::ElastiCache::User").map(([, { Properties }]) => Properties);
    expect(users.map((user) => user["AuthenticationMode"])).toEqual([{ Type: "iam" }, { Type: "iam" }]);
    for (const user of users) expect(user["UserId"]).toBe(user["UserName"]);
    expect(group["AuthToken"]).toBeUndefined();
    expect(group["UserGroupIds"]).toHaveLength(1);
  });

  test("the API, which pushes values, and the aggregate function connect as the writer", () => {
    const userOf = (name: string) =>
      JSON.stringify(functionNamed(name).Properties["Environment"].Variables.FRESHET_VALKEY_USER);
    expect(userOf("api")).toMatch(/Writer/);
    expect(userOf("aggregate")).toMatch(/Writer/);
  });
});

describe("tables", () => {
  test("every table can be restored to any second of the last 35 days", () => {
    for (const [, { Properties }] of app.resources("AWS::DynamoDB::Table")) {
      expect(Properties["PointInTimeRecoverySpecification"]).toEqual({ PointInTimeRecoveryEnabled: true });
    }
  });

  test("the late queue publishes its items, since repair is woken by them", () => {
    const { Properties } = app.named("AWS::DynamoDB::Table", "TableName", "freshet-prod-late");
    expect(Properties["StreamSpecification"]).toEqual({ StreamViewType: "NEW_IMAGE" });
  });

  test("snapshots of what has fallen silent expire by themselves", () => {
    const { Properties } = app.named("AWS::DynamoDB::Table", "TableName", "freshet-prod-snapshots");
    expect(Properties["TimeToLiveSpecification"]).toEqual({ AttributeName: "expires_at", Enabled: true });
  });

  test("keys are found by id and expire by themselves", () => {
    const { Properties } = app.named("AWS::DynamoDB::Table", "TableName", "freshet-prod-keys");
    expect(Properties["KeySchema"]).toEqual([{ AttributeName: "id", KeyType: "HASH" }]);
    expect(Properties["TimeToLiveSpecification"]).toEqual({ AttributeName: "expires_at", Enabled: true });
  });

  test.each(["quarantine", "late", "control", "models", "snapshots"])(
    "%s has the keys that its adapter writes",
    (name) => {
      const { Properties } = app.named("AWS::DynamoDB::Table", "TableName", `freshet-prod-${name}`);
      expect(Properties["KeySchema"]).toEqual([
        { AttributeName: "pk", KeyType: "HASH" },
        { AttributeName: "sk", KeyType: "RANGE" },
      ]);
    },
  );
});

describe("models", () => {
  test("each service has its group in SageMaker's registry", () => {
    const groups = app.resources("AWS::SageMaker::ModelPackageGroup").map(([, { Properties }]) => Properties);
    expect(groups.map((one) => one["ModelPackageGroupName"])).toEqual(
      fixturePlan.services.map(({ name }) => `freshet-prod-${name.replaceAll("_", "-")}`),
    );
  });
});

describe("least privilege", () => {
  test("ingest may check keys, ask the store, put events, and add audit records", () => {
    expect([...new Set(actionsOf("ingest"))]).toEqual([
      "dynamodb:GetItem",
      "dynamodb:PutItem",
      "elasticache:Connect",
      "kinesis:PutRecord",
      "kinesis:PutRecords",
      "kms:Decrypt",
      "kms:DescribeKey",
      "kms:Encrypt",
      "kms:GenerateDataKey",
      "kms:ReEncryptFrom",
      "kms:ReEncryptTo",
    ]);
    const puts = statementsOf("ingest").filter(({ Action }) => Action.includes("dynamodb:PutItem"));
    expect(JSON.stringify(puts.map(({ Resource }) => Resource))).toMatch(/^[^,]*AuditRecordsTable[^,]*$/);
  });

  test("the authorizer may look keys up", () => {
    expect(actionsOf("authorize")).toEqual(["dynamodb:GetItem", "kms:Decrypt", "kms:DescribeKey"]);
    const tables = statementsOf("authorize").filter(({ Action }) => Action.includes("dynamodb:GetItem"));
    expect(JSON.stringify(tables.map(({ Resource }) => Resource))).toMatch(/^[^,]*KeysTable[^,]*$/);
  });

  test("the API may manage keys, read the store and models, change aliases, log scores, and take historical jobs", () => {
    expect([...new Set(actionsOf("api"))]).toEqual([
      "dynamodb:BatchGetItem",
      "dynamodb:BatchWriteItem",
      "dynamodb:ConditionCheckItem",
      "dynamodb:DeleteItem",
      "dynamodb:GetItem",
      "dynamodb:PutItem",
      "dynamodb:Query",
      "dynamodb:UpdateItem",
      "elasticache:Connect",
      "kms:Decrypt",
      "kms:DescribeKey",
      "kms:Encrypt",
      "kms:GenerateDataKey",
      "kms:ReEncryptFrom",
      "kms:ReEncryptTo",
      "s3:GetObject",
      "s3:PutObject",
    ]);
    const written = statementsOf("api").filter(({ Action }) =>
      Action.some((action) => /:Put(Item|Object)$/.test(action)),
    );
    const resources = written.map(({ Resource }) => JSON.stringify(Resource));
    expect(resources).toHaveLength(5);
    const tables = ["Models", "Jobs", "Features", "Audit", "Quarantine"];
    for (const part of [...tables, "inference-log/*", "historical/*", "values/*"])
      expect(resources.join()).toContain(part);
  });

  test("only the API may delete items, of keys, repair, of the late queue that it works off, and erasure, of what holds an entity", () => {
    const deleting = functions.flatMap(([, { Properties }]) => {
      const name = Properties["FunctionName"].replace("freshet-prod-", "");
      return statementsOf(name)
        .filter(({ Action }) => Action.includes("dynamodb:DeleteItem"))
        .flatMap(({ Resource }) => [Resource].flat().map((one) => [name, DELETABLE.exec(JSON.stringify(one))?.[0]]));
    });
    expect(deleting.sort()).toEqual([
      ["api", "KeysTable"],
      ["erase", "ErasuresTable"],
      ["erase", "LateQueueTable"],
      ["erase", "QuarantineIndexTable"],
      ["erase", "SnapshotsTable"],
      ["repair", "LateQueueTable"],
    ]);
  });

  test("what reads or writes registrations is what serves, compares and trains by them", () => {
    const touching = functions.flatMap(([, { Properties }]) => {
      const name = Properties["FunctionName"].replace("freshet-prod-", "");
      const onTable = statementsOf(name).filter(({ Resource }) => JSON.stringify(Resource).includes("FeaturesTable"));
      return onTable.flatMap(({ Action }) => Action.map((action) => `${name} ${action.replace("dynamodb:", "")}`));
    });
    const readers = [...new Set(touching.filter((one) => / (Get|Query)/.test(one)).map((one) => one.split(" ")[0]))];
    expect(readers.sort()).toEqual(["api", "training-set", "verify"]);
    expect(touching.filter((one) => !one.startsWith("api ") && !/ (GetItem|Query)$/.test(one))).toEqual([]);
  });

  test("nothing may delete an audit record, not even in a batch", () => {
    const onRecords = functions
      .flatMap(([, { Properties }]) => statementsOf(Properties["FunctionName"].replace("freshet-prod-", "")))
      .filter(({ Resource }) => JSON.stringify(Resource).includes("AuditRecordsTable"));
    expect(onRecords.map(({ Action }) => Action.join(" ")).sort()).toEqual([
      "dynamodb:PutItem",
      "dynamodb:PutItem dynamodb:Query",
    ]);
  });

  test("the heartbeat may list shards, put records and invoke control", () => {
    expect(actionsOf("heartbeat")).toEqual([
      "kinesis:DescribeStreamSummary",
      "kinesis:ListShards",
      "kinesis:PutRecord",
      "kinesis:PutRecords",
      "kms:GenerateDataKey",
      "lambda:InvokeFunction",
    ]);
  });

  test("the sweep may connect to the store, and read which epoch stands", () => {
    expect(actionsOf("sweep")).toEqual([
      "dynamodb:GetItem",
      "dynamodb:Query",
      "elasticache:Connect",
      "kms:Decrypt",
      "kms:DescribeKey",
    ]);
  });

  test("the snapshot function may read the store, and write its own table and bucket alone", () => {
    const tables = ["BatchGetItem", "BatchWriteItem", "GetItem", "PutItem", "Query", "UpdateItem"];
    const objects = ["DeleteObject", "GetObject", "ListBucket", "PutObject"];
    expect([...new Set(actionsOf("snapshot"))].filter((action) => !action.startsWith("kms:"))).toEqual([
      ...tables.map((name) => `dynamodb:${name}`),
      "elasticache:Connect",
      ...objects.map((name) => `s3:${name}`),
    ]);
    const writes = ["dynamodb:PutItem", "s3:PutObject", "s3:DeleteObject"];
    const resources = JSON.stringify(
      statementsOf("snapshot").filter(({ Action }) => [Action].flat().some((action) => writes.includes(action))),
    );
    expect(resources).toContain("Snapshots");
    expect(resources).not.toMatch(/Keys|Control|Late|Models|Archive/);
  });

  test("the restore function may write no object", () => {
    expect(actionsOf("restore").filter((action) => action.startsWith("s3:"))).toEqual([
      "s3:GetObject",
      "s3:ListBucket",
    ]);
  });

  test("the aggregate function may neither read nor delete what it archives", () => {
    expect(actionsOf("aggregate").filter((action) => action.startsWith("s3:"))).toEqual([
      "s3:ListBucket",
      "s3:PutObject",
    ]);
    expect(actionsOf("aggregate").filter((action) => /Delete/.test(action))).toEqual([]);
  });

  test("the erase function may remove objects, versions too, of folders that hold entities, and of nothing else", () => {
    const folders = statementsOf("erase")
      .filter(({ Action }) => Action.includes("s3:DeleteObject"))
      .flatMap(({ Action, Resource }) => {
        expect(Action).toContain("s3:DeleteObjectVersion");
        return [Resource].flat().map((one) => /"\/([a-z-]+)\/\*"/.exec(JSON.stringify(one))?.[1]);
      });
    expect(folders.sort()).toEqual(["compacted", "erasures", "inference-log", "quarantine", "raw", "rounds", "values"]);
  });

  test("no function has a wildcard in an action", () => {
    const wild = functions.flatMap(([id, { Properties }]) =>
      statementsOf(Properties["FunctionName"].replace("freshet-prod-", "")).flatMap(({ Action }) =>
        Action.filter((action) => action.includes("*")).map((action) => `${id} ${action}`),
      ),
    );
    expect(wild).toEqual([]);
  });

  test("a function may act on every resource only to be attached to its VPC, which its code is denied", () => {
    for (const [, { Properties }] of functions) {
      const wild = statementsOf(Properties["FunctionName"].replace("freshet-prod-", "")).filter(
        ({ Resource }) => Resource === "*",
      );
      for (const { Action } of wild) expect(Action.every((action) => action.startsWith("ec2:"))).toBe(true);
      expect(wild.map(({ Effect }) => Effect).sort()).toEqual(Properties["VpcConfig"] ? ["Allow", "Deny"] : []);
    }
  });

  test("no function's role carries a policy that others maintain", () => {
    const managed = functions.filter(([, { Properties }]) => {
      const role = Properties["Role"]["Fn::GetAtt"][0];
      return app
        .resources("AWS::IAM::Role")
        .some(([id, found]) => id.endsWith(`/${role}`) && found.Properties["ManagedPolicyArns"]);
    });
    expect(managed.map(([id]) => id)).toEqual([]);
  });
});

describe("schedules", () => {
  test("the heartbeat runs each minute, sweep and compaction each hour, and due batch views are looked for between", () => {
    const schedules = app.resources("AWS::Events::Rule").map(([, { Properties }]) => Properties);
    expect(Object.fromEntries(schedules.map(({ Name, ScheduleExpression }) => [Name, ScheduleExpression]))).toEqual({
      "freshet-prod-compact": "rate(1 hour)",
      "freshet-prod-erase": "rate(5 minutes)",
      "freshet-prod-heartbeat": "rate(1 minute)",
      "freshet-prod-materialize": "rate(5 minutes)",
      "freshet-prod-repair": "rate(1 minute)",
      "freshet-prod-replay": "rate(1 minute)",
      "freshet-prod-snapshot": "rate(15 minutes)",
      "freshet-prod-sweep": "rate(1 hour)",
      "freshet-prod-verify": "rate(1 day)",
    });
  });
});
