/**
 * The training machine of the local target, executed by the emulator's Step Functions: its own steps as deployed functions, the
 * job answered by the stand-in for SageMaker. (No emulator's Step Functions know `sagemaker:createTrainingJob.sync`, so a function
 * asks for the job; every other state is that of AWS, see training.test.ts.)
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { CreateTableCommand, DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { CreateFunctionCommand, LambdaClient } from "@aws-sdk/client-lambda";
import { CreateBucketCommand, PutObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import {
  CreateStateMachineCommand,
  DescribeExecutionCommand,
  type DescribeExecutionCommandOutput,
  SFNClient,
  StartExecutionCommand,
} from "@aws-sdk/client-sfn";
import type { AssetCode } from "aws-cdk-lib/aws-lambda";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ArchiveWriter } from "../../adapters/archive/archive.ts";
import { createArtefactStore } from "../../adapters/model/artefact-store.ts";
import { ModelRegistry } from "../../adapters/model/model-registry.ts";
import { s3Client } from "../../adapters/s3/client.ts";
import { bundledCode } from "../../lib/constructs/function-code.ts";
import { localTarget } from "../../lib/targets/local.ts";
import { ROOT, venvPython } from "../../local/home.ts";
import { type SageMakerStandIn, startSageMaker } from "../../local/sagemaker/control-plane.ts";
import { startEmulator, type TestEmulator } from "../harness/emulator.ts";
import { FRAUD_START } from "../support/fraud-archive.ts";
import { fraudHistory } from "../support/fraud-history.ts";
import { definitionOf } from "../support/state-machine.ts";
import { synthesize } from "./synthesized.ts";

const ROLE = "arn:aws:iam::000000000000:role/any";
const BUCKETS = {
  training: "machine-training",
  models: "machine-models",
  archive: "machine-archive",
  code: "machine-code",
};
const TABLE = "machine-models";
const SYNTHETIC = join(ROOT, "test", "training", "synthetic.py");
const ZIP =
  "import sys, zipfile, pathlib; f = pathlib.Path(sys.argv[1]); z = zipfile.ZipFile(sys.argv[2], 'w'); [z.write(p, p.relative_to(f)) for p in f.rglob('*') if p.is_file()]; z.close()";
const QUICK = { num_trees: 20, num_threads: 1, learning_rate: 0.15, gap_ms: 86_400_000 };

describe("the training machine, executed", () => {
  const folder = mkdtempSync(join(tmpdir(), "freshet-machine-"));
  const sets: Record<string, string> = {};
  let emulator: TestEmulator;
  let sagemaker: SageMakerStandIn;
  let s3: S3Client;
  let sfn: SFNClient;
  let registry: ModelRegistry;
  let machine: string;

  beforeAll(async () => {
    emulator = await startEmulator();
    const config = {
      endpoint: emulator.url,
      region: "us-east-1",
      credentials: { accessKeyId: "test", secretAccessKey: "test" },
    };
    s3 = s3Client(config);
    sfn = new SFNClient(config);
    const dynamodb = new DynamoDBClient(config);
    sagemaker = await startSageMaker({ s3, folder: join(folder, "jobs") });
    for (const Bucket of Object.values(BUCKETS)) await s3.send(new CreateBucketCommand({ Bucket }));
    await dynamodb.send(
      new CreateTableCommand({
        TableName: TABLE,
        BillingMode: "PAY_PER_REQUEST",
        AttributeDefinitions: ["pk", "sk"].map((AttributeName) => ({ AttributeName, AttributeType: "S" })),
        KeySchema: [
          { AttributeName: "pk", KeyType: "HASH" },
          { AttributeName: "sk", KeyType: "RANGE" },
        ],
      }),
    );
    registry = new ModelRegistry({
      table: TABLE,
      dynamodb,
      artefacts: createArtefactStore({ bucket: BUCKETS.models, s3 }),
    });
    machine = await deployMachine(new LambdaClient(config));
    const { payments, labels } = fraudHistory(1_600);
    const archive = new ArchiveWriter({ bucket: BUCKETS.archive, s3 });
    await archive.write(payments, { stream: "transactions", shard: "shardId-0" });
    await archive.write(labels, { stream: "labels", shard: "shardId-0" });
    await uploadSet("good");
    await uploadSet("other-plan", (manifest) => ({ ...manifest, plan_hash: "ffffffffffffffff" }));
    await uploadSet("team-a", (manifest) => ({ ...manifest, tenant: "team-a" }));
    await uploadSet("corrupt", (manifest) => manifest, "part-1.parquet");
  });
  afterAll(async () => {
    await sagemaker?.close();
    await emulator?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  /** The functions and the machine of the template, with the names that CloudFormation would have put in. */
  async function deployMachine(lambda: LambdaClient): Promise<string> {
    const app = synthesize(localTarget({ sagemakerEndpoint: sagemaker.url }), "local");
    const variables: Record<string, Record<string, string>> = {
      "training-set": {
        FRESHET_ARCHIVE_BUCKET: BUCKETS.archive,
        FRESHET_TRAINING_BUCKET: BUCKETS.training,
        FRESHET_FEATURES_TABLE: "features",
      },
      "training-steps": { FRESHET_MODELS_TABLE: TABLE, FRESHET_MODELS_BUCKET: BUCKETS.models },
      "training-runner": { FRESHET_SAGEMAKER_ENDPOINT: sagemaker.url },
    };
    const bundles = bundledCode(join(ROOT, "functions"), process);
    const references: Record<string, string> = {};
    const [id, resource] = app.resources("AWS::StepFunctions::StateMachine")[0];
    for (const [path, { Properties }] of app.resources("AWS::Lambda::Function")) {
      const name = /^freshet-local-(training-.*)$/.exec(Properties["FunctionName"])?.[1];
      if (name === undefined) continue;
      const code = bundles.of(name) as AssetCode;
      const zip = join(folder, `${name}.zip`);
      execFileSync(venvPython(), ["-c", ZIP, code.path, zip]);
      await s3.send(new PutObjectCommand({ Bucket: BUCKETS.code, Key: name, Body: readFileSync(zip) }));
      const { FunctionArn } = await lambda.send(
        new CreateFunctionCommand({
          FunctionName: name,
          Code: { S3Bucket: BUCKETS.code, S3Key: name },
          Handler: Properties["Handler"],
          Runtime: Properties["Runtime"],
          Timeout: Properties["Timeout"],
          MemorySize: Properties["MemorySize"],
          Role: ROLE,
          Environment: { Variables: variables[name] },
        }),
      );
      references[path.split("/")[1]] = FunctionArn!;
    }
    // The bucket is another stack's; it is where jobs leave what they made.
    const definition = definitionOf(resource, references);
    definition.States.Train.Parameters.Payload.OutputDataConfig.S3OutputPath = `s3://${BUCKETS.training}/jobs`;
    expect(JSON.stringify(definition.States.Prepare)).toContain(":function:training-steps");
    const { stateMachineArn } = await sfn.send(
      new CreateStateMachineCommand({ name: id.split("/")[1], definition: JSON.stringify(definition), roleArn: ROLE }),
    );
    return stateMachineArn!;
  }

  async function uploadSet(name: string, manifest = (given: object): object => given, cut = ""): Promise<void> {
    const local = join(folder, name);
    execFileSync(venvPython(), [SYNTHETIC, local, "2500"]);
    for (const file of ["part-0.parquet", "part-1.parquet", "manifest.json"]) {
      const bytes = readFileSync(join(local, file));
      const body =
        file === "manifest.json" ? Buffer.from(JSON.stringify(manifest(JSON.parse(bytes.toString())))) : bytes;
      await s3.send(
        new PutObjectCommand({
          Bucket: BUCKETS.training,
          Key: `training-sets/${name}/${file}`,
          Body: file === cut ? body.subarray(0, 1_000) : body,
        }),
      );
    }
    sets[name] = `s3://${BUCKETS.training}/training-sets/${name}/`;
  }

  async function execute(name: string, input: object): Promise<DescribeExecutionCommandOutput> {
    const { executionArn } = await sfn.send(
      new StartExecutionCommand({ stateMachineArn: machine, name, input: JSON.stringify(input) }),
    );
    for (;;) {
      const execution = await sfn.send(new DescribeExecutionCommand({ executionArn }));
      if (execution.status !== "RUNNING") return execution;
      await sleep(100);
    }
  }

  const id = { tenant: "default", service: "fraud" };
  async function registered() {
    const [versions, aliases] = await Promise.all([registry.list(id), registry.aliases(id)]);
    return { versions: versions.map(({ version }) => version), champion: aliases.champion };
  }

  it("makes the first good model champion, with its lineage", async () => {
    const execution = await execute("first", { service: "fraud", training_set: sets["good"], hyperparameters: QUICK });
    expect([execution.status, execution.cause]).toEqual(["SUCCEEDED", undefined]);
    expect(await registered()).toEqual({ versions: [1], champion: 1 });
    const version = await registry.get(id, 1);
    expect(version.by).toBe("training first");
    expect(version.trainingSet).toMatchObject({ service: "fraud", row_count: 2_500 });
    expect(version.metrics["roc_auc"]).toBeGreaterThan(0.5);
    expect((await registry.history(id)).map(({ alias, to }) => [alias, to])).toEqual([["champion", 1]]);
  });

  it("looks at whose set it is before anything is trained", async () => {
    for (const [name, tenant, reason] of [
      ["their-set", "team-b", "the training set is of tenant team-a, not team-b"],
      ["their-path", "a/b", "a tenant is 1 to 64 of a-z, 0-9, _ and -, given"],
    ]) {
      const execution = await execute(name, { service: "fraud", tenant, training_set: sets["team-a"] });
      expect([execution.status, execution.cause]).toEqual(["FAILED", expect.stringContaining(reason)]);
    }
    expect((await registry.list({ ...id, tenant: "team-b" })).length).toBe(0);
  });

  it("builds its set from the archive when none is given", async () => {
    const range = {
      from: new Date(FRAUD_START).toISOString(),
      to: new Date(FRAUD_START + 25 * 86_400_000).toISOString(),
    };
    // Another tenant's archive is empty.
    const none = await execute("nobody", { service: "fraud", tenant: "nobody", ...range });
    expect([none.status, none.cause]).toEqual([
      "FAILED",
      expect.stringContaining("no labelled event of transactions lies between"),
    ]);
    expect(await registered()).toEqual({ versions: [1], champion: 1 });
    // Nothing was scored yet.
    const logged = await execute("logged", { service: "fraud", ...range, from_log: true });
    expect([logged.status, logged.cause]).toEqual([
      "FAILED",
      expect.stringContaining("no score of the range has a label (0 no_event_id, "),
    ]);
    const input = { service: "fraud", ...range, hyperparameters: QUICK, promote: false };
    const execution = await execute("built", input);
    expect([execution.status, execution.cause]).toEqual(["SUCCEEDED", undefined]);
    const { trainingSet } = await registry.get(id, 2);
    expect(trainingSet).toMatchObject({ from_ms: FRAUD_START, row_count: 1_350, as_of_rule: "event_time" });
  });

  it("registers and does not promote when told so", async () => {
    const input = { service: "fraud", training_set: sets["good"], hyperparameters: QUICK, promote: false };
    expect((await execute("second", input)).status).toBe("SUCCEEDED");
    expect(await registered()).toEqual({ versions: [3, 2, 1], champion: 1 });
    // The same rows and settings: what the job was given to score beside its own is the first model.
    const [first, , third] = await Promise.all([1, 2, 3].map((version) => registry.get(id, version)));
    expect(first!.champion).toBe(null);
    expect(third!.champion).toMatchObject({ manifestSha256: first!.manifestSha256 });
    expect(third!.champion!.metrics["pr_auc"]).toBeCloseTo(first!.metrics["pr_auc"]!, 12);
  });

  it.each([
    ["a worse model", "good", { ...QUICK, num_trees: 1, num_leaves: 2 }, /worse than the champion's/],
    ["a training set of another plan", "other-plan", QUICK, /the training set is of plan_hash ffffffffffffffff, not /],
    ["a training set that is not there", "none", QUICK, /there is no object s3:/],
    ["a corrupt file", "corrupt", QUICK, /parquet_invalid: part-1\.parquet cannot be read/],
    ["a job that refuses its settings", "good", { num_tree: 1 }, /hyperparameter_unknown: no hyperparameter num_tree/],
  ])(
    "%s ends the execution with the reason, and the registry is as it was",
    async (what, set, hyperparameters, reason) => {
      const before = await registered();
      const execution = await execute(what.replaceAll(" ", "-"), {
        service: "fraud",
        training_set: sets[set] ?? `s3://${BUCKETS.training}/training-sets/${set}/`,
        hyperparameters,
      });
      expect(execution.status).toBe("FAILED");
      expect(execution.cause).toMatch(reason);
      expect(await registered()).toEqual(before);
    },
  );
});
