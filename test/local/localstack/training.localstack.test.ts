/** The training machine as it was deployed, run by LocalStack's Step Functions: from a training set to a champion that scores. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CloudFormationClient, DescribeStacksCommand } from "@aws-sdk/client-cloudformation";
import { PutObjectCommand } from "@aws-sdk/client-s3";
import { DescribeExecutionCommand, SFNClient, StartExecutionCommand } from "@aws-sdk/client-sfn";
import { afterAll, beforeAll, expect, inject, it } from "vitest";
import { s3Client } from "../../../adapters/s3/client.ts";
import { ROOT, venvPython } from "../../../local/home.ts";
import { type SageMakerStandIn, startSageMaker } from "../../../local/sagemaker/control-plane.ts";
import { createTenant, deployed, deployedClientConfig } from "../../support/deployed.ts";
import { call, until } from "../../system/app.ts";

const folder = mkdtempSync(join(tmpdir(), "freshet-localstack-training-"));
const s3 = s3Client(deployedClientConfig());
const sfn = new SFNClient(deployedClientConfig());
let sagemaker: SageMakerStandIn;
let outputs: ReadonlyMap<string, string>;

beforeAll(async () => {
  sagemaker = await startSageMaker({ s3, folder: join(folder, "jobs"), port: inject("sageMakerPort") });
  const cloudFormation = new CloudFormationClient(deployedClientConfig());
  const { Stacks = [] } = await cloudFormation.send(new DescribeStacksCommand({}));
  cloudFormation.destroy();
  const all = Stacks.flatMap(({ Outputs = [] }) => Outputs);
  outputs = new Map(all.map(({ OutputKey, OutputValue }) => [OutputKey!, OutputValue!]));
});
afterAll(async () => {
  await sagemaker?.close();
  s3.destroy();
  sfn.destroy();
  rmSync(folder, { recursive: true, force: true });
});

async function uploadSet(): Promise<string> {
  const set = join(folder, "set");
  execFileSync(venvPython(), [join(ROOT, "test", "training", "synthetic.py"), set, "2500"]);
  const [Bucket, prefix] = [outputs.get("TrainingBucket")!, "training-sets/localstack/"];
  for (const file of ["part-0.parquet", "part-1.parquet", "manifest.json"]) {
    await s3.send(new PutObjectCommand({ Bucket, Key: `${prefix}${file}`, Body: readFileSync(join(set, file)) }));
  }
  return `s3://${Bucket}/${prefix}`;
}

it("a model is trained, judged, registered and promoted, and then it scores through API Gateway", async () => {
  const { tenant, key } = await createTenant();
  const hyperparameters = { num_trees: 20, num_threads: 1, learning_rate: 0.15, gap_ms: 86_400_000 };
  const input = JSON.stringify({ service: "fraud", tenant, training_set: await uploadSet(), hyperparameters });
  const stateMachineArn = outputs.get("TrainingMachine")!;
  const { executionArn } = await sfn.send(new StartExecutionCommand({ stateMachineArn, input }));
  const execution = await until(
    "the execution to end",
    async () => {
      const found = await sfn.send(new DescribeExecutionCommand({ executionArn }));
      return found.status !== "RUNNING" && found;
    },
    240_000,
    500,
  );
  expect([execution.status, execution.cause]).toEqual(["SUCCEEDED", undefined]);
  const ids = { card_id: "c1", merchant_id: "m1", device_id: "d1", user_id: "u1" };
  // Hosts look for a new champion every few seconds.
  const scored = await until(
    "the champion to score",
    async () => {
      const body = { ...ids, amount: 10, country: "SE" };
      const answer = await call(deployed().api.url, "/v1/score/fraud", key, body);
      return answer.body.model_version !== "rule-based-v1" && answer;
    },
    60_000,
    1_000,
  );
  expect(scored).toMatchObject({ status: 200, body: { model_version: "fraud-lightgbm@1" } });
}, 360_000);
