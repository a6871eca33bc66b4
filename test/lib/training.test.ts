/** The training machine: what it asks SageMaker for, what its roles may, and that both targets run the same states. */
import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { TRAINING_METRICS } from "../../core/scoring/training.ts";
import { awsTarget } from "../../lib/targets/aws.ts";
import { localTarget } from "../../lib/targets/local.ts";
import { resolved, shapeErrors } from "../support/aws-request.ts";
import { definitionOf } from "../support/state-machine.ts";
import { type Synthesized, synthesize, synthesizeAws } from "./synthesized.ts";

const aws = synthesizeAws();
const local = synthesize(localTarget({ sagemakerEndpoint: "http://127.0.0.1:4570" }), "local");
const machineOf = (app: Synthesized) => app.resources("AWS::StepFunctions::StateMachine")[0][1];
const statements = (app: Synthesized, policy: RegExp) =>
  app
    .resources("AWS::IAM::Policy")
    .filter(([id]) => policy.test(id))
    .flatMap(([, { Properties }]) => Properties["PolicyDocument"].Statement as any[]);
const actionsIn = (policy: RegExp) =>
  statements(aws, policy)
    .flatMap(({ Action }) => Action)
    .sort();

describe("the training machine", () => {
  const { States, StartAt } = definitionOf(machineOf(aws));

  test("goes from the set to the champion, and registers nothing before the gate", () => {
    const path = [StartAt];
    for (let state = States[StartAt]; state.Type !== "Succeed"; state = States[path.at(-1)!]) {
      path.push(state.Type === "Choice" ? state.Choices[0].Next : state.Next);
    }
    expect(path).toEqual([
      "Given",
      "Prepare",
      "Train",
      "Gate",
      "Better",
      "Register",
      "List",
      "Wanted",
      "Promote",
      "Registered",
    ]);
  });

  test("builds a set when none is given", () => {
    expect(States["Given"].Choices).toEqual([{ Variable: "$.training_set", IsPresent: true, Next: "Prepare" }]);
    expect(States["Given"].Default).toBe("Build");
    expect(States["Build"].Next).toBe("Built");
    // The next call goes on with a set that takes longer than one.
    expect(States["Built"]).toMatchObject({
      Choices: [{ Variable: "$.training_set", IsPresent: true, Next: "Prepare" }],
      Default: "Build",
    });
    expect(States["Build"].Retry[0].ErrorEquals).toEqual(
      expect.arrayContaining(["Sandbox.Timedout", "Runtime.ExitError"]),
    );
    expect(States["Prepare"].Retry[0].ErrorEquals).not.toContain("Sandbox.Timedout");
  });

  test("ends with the gate's reason when the model is no better", () => {
    expect(States["Better"].Default).toBe("Refused");
    expect(States["Refused"]).toEqual({ Type: "Fail", Error: "gate_refused", CausePath: "$.gate.verdict.reason" });
  });

  test("catches nothing but a listing that fails: what fails ends the execution where it is", () => {
    const caught = Object.entries<any>(States).filter(([, { Catch }]) => Catch !== undefined);
    expect(caught.map(([name, { Catch }]) => [name, Catch[0].Next])).toEqual([["List", "Wanted"]]);
  });

  test("lists a registered version in its service's model package group, once for each execution", () => {
    const { Resource, Parameters } = States["List"];
    expect(Resource).toBe("arn:aws:states:::aws-sdk:sagemaker:createModelPackage");
    expect(Parameters).toMatchObject({
      "ModelPackageGroupName.$": "States.Format('freshet-prod-{}', $.group)",
      ModelApprovalStatus: "Approved",
      "ClientToken.$": "States.Hash($$.Execution.Id, 'MD5')",
    });
    expect(Parameters.InferenceSpecification.Containers[0]["ModelDataUrl.$"]).toBe("$.job.model");
    const groups = aws.resources("AWS::SageMaker::ModelPackageGroup").map(([, one]) => one.Properties);
    const allowed = statements(aws, /MachineRole/).find(({ Action }) => Action === "sagemaker:CreateModelPackage");
    for (const { ModelPackageGroupName } of groups) {
      expect(JSON.stringify(allowed.Resource)).toContain(`:model-package-group/${ModelPackageGroupName}`);
      expect(JSON.stringify(allowed.Resource)).toContain(`:model-package/${ModelPackageGroupName}/*`);
    }
  });

  describe("asks SageMaker for what its published model takes", () => {
    const state = {
      ...{ tenant: "team-a", service: "fraud", group: "fraud", champion: "s3://training/training-sets/champions/j/" },
      ...{ job_name: "fraud-nightly-2026-11-21", training_set: "s3://training/training-sets/mine/" },
      hyperparameters: { service: "fraud", plan_hash: "0123456789abcdef", tenant: "team-a", num_trees: "500" },
      job: { model: "s3://training/jobs/fraud-nightly-2026-11-21/output/model.tar.gz" },
      registered: { version: 12 },
    };
    const execution = { Id: "arn:aws:states:eu-west-1:123456789012:execution:freshet-prod-training:nightly" };
    // What CloudFormation puts in for references.
    const put = (given: unknown) =>
      JSON.parse(
        JSON.stringify(given)
          .replace(/<[^<>"]*JobRole[^<>"]*>/g, "arn:aws:iam::123456789012:role/job")
          .replace(/<[^<>"]*[kK]ey[^<>"]*>/g, "arn:aws:kms:eu-west-1:123456789012:key/0123")
          .replace(/<[^<>"]*>/g, "part"),
      );
    const request = (name: string) => put(resolved(States[name].Parameters, state, execution));

    test.each([
      ["Train", "CreateTrainingJob"],
      ["List", "CreateModelPackage"],
    ])("%s: %s", (name, operation) => {
      expect(shapeErrors("sagemaker", operation, request(name))).toEqual([]);
    });

    test("a version is listed by its service, number and set, under a token that is the execution's", () => {
      expect(request("List")).toMatchObject({
        ModelPackageGroupName: "freshet-prod-fraud",
        ModelPackageDescription: "fraud@12 of tenant team-a",
        CustomerMetadataProperties: {
          service: "fraud",
          tenant: "team-a",
          version: "12",
          training_set: state.training_set,
        },
        ClientToken: createHash("md5").update(execution.Id).digest("hex"),
      });
    });

    test("and the model is one that refuses", () => {
      const good = request("List");
      const errors = (change: object) => shapeErrors("sagemaker", "CreateModelPackage", { ...good, ...change });
      const token = `a:${"b".repeat(36)}`;
      expect(errors({ ModelApprovalStatus: "approved", ClientToken: token })).toEqual([
        expect.stringMatching(/ModelApprovalStatus is none of Approved, /),
        expect.stringMatching(/ClientToken is longer than 36/),
        expect.stringMatching(/ClientToken does not match /),
      ]);
      const [told] = errors({ CustomerMetadataProperties: { version: 12 }, ModelPackage: "fraud" });
      expect(told).toMatch(/Invalid type for parameter /);
      expect(told).toMatch(/Unknown parameter in input: "ModelPackage"/);
    });
  });

  test("waits for a SageMaker job, without a network, that ends in time", () => {
    const { Resource, Parameters } = States["Train"];
    expect(Resource).toBe("arn:aws:states:::sagemaker:createTrainingJob.sync");
    expect(Parameters).toMatchObject({
      "TrainingJobName.$": "$.job_name",
      "HyperParameters.$": "$.hyperparameters",
      EnableNetworkIsolation: true,
      ResourceConfig: { InstanceCount: 1, InstanceType: "ml.m5.2xlarge" },
      StoppingCondition: { MaxRuntimeInSeconds: 14_400 },
    });
    expect(Parameters.InputDataConfig[0].DataSource.S3DataSource).toEqual({
      S3DataType: "S3Prefix",
      "S3Uri.$": "$.training_set",
      S3DataDistributionType: "FullyReplicated",
    });
    expect(Parameters.InputDataConfig[1]).toMatchObject({
      ChannelName: "champion",
      DataSource: { S3DataSource: { "S3Uri.$": "$.champion" } },
    });
    expect(Parameters.OutputDataConfig.KmsKeyId).toBeDefined();
  });

  test("reads the program's metrics within SageMaker's limits", () => {
    const { MetricDefinitions } = States["Train"].Parameters.AlgorithmSpecification;
    expect(MetricDefinitions).toEqual(TRAINING_METRICS);
    expect(MetricDefinitions.length).toBeLessThanOrEqual(40);
    for (const { Name, Regex } of MetricDefinitions) {
      expect(Name.length).toBeLessThanOrEqual(255);
      expect(Regex.length).toBeLessThanOrEqual(500);
    }
  });

  test("takes its image from the deployment's repository, or from the one that is named", () => {
    const { TrainingImage } = States["Train"].Parameters.AlgorithmSpecification;
    expect(TrainingImage).toMatch(/:0\.1\.0$/);
    const trainingImage = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/training:7";
    const other = synthesize(awsTarget({ trainingImage }), "prod");
    const { Train } = definitionOf(machineOf(other)).States;
    expect(Train.Parameters.AlgorithmSpecification.TrainingImage).toBe(trainingImage);
    expect(other.resources("AWS::ECR::Repository")).toEqual([]);
    const pulled = statements(other, /JobRole/).find(({ Action }) => Action.includes("ecr:BatchGetImage"));
    expect(JSON.stringify(pulled.Resource)).toContain(":ecr:eu-west-1:123456789012:repository/team/training");
    expect(() => synthesize(awsTarget({ trainingImage: "training" }), "prod")).toThrow(
      "trainingImage is no image in ECR with a tag or digest (given: training)",
    );
  });

  test("logs every execution and traces it", () => {
    const { Properties } = machineOf(aws);
    expect(Properties["LoggingConfiguration"].Level).toBe("ALL");
    expect(Properties["TracingConfiguration"]).toEqual({ Enabled: true });
  });
});

describe("its roles", () => {
  test("the job reads training sets, writes its output and nothing else", () => {
    expect(actionsIn(/training\/JobJobRole/)).toEqual([
      "cloudwatch:PutMetricData",
      "ecr:BatchCheckLayerAvailability",
      "ecr:BatchGetImage",
      "ecr:GetAuthorizationToken",
      "ecr:GetDownloadUrlForLayer",
      "kms:Decrypt",
      "kms:GenerateDataKey",
      "logs:CreateLogGroup",
      "logs:CreateLogStream",
      "logs:DescribeLogStreams",
      "logs:PutLogEvents",
      "s3:GetObject",
      "s3:ListBucket",
      "s3:PutObject",
    ]);
    const written = statements(aws, /training\/JobJobRole/).find(({ Action }) => Action === "s3:PutObject");
    expect(JSON.stringify(written.Resource)).toContain("/jobs/*");
  });

  test("the machine may pass the job's role to SageMaker alone", () => {
    const passed = statements(aws, /MachineRole/).filter(({ Action }) => Action === "iam:PassRole");
    expect(passed).toHaveLength(1);
    expect(passed[0].Condition).toEqual({ StringEquals: { "iam:PassedToService": "sagemaker.amazonaws.com" } });
  });

  test("no step may change the archive or the online store", () => {
    const actions = actionsIn(/training\//);
    expect(actions.filter((action: string) => /^(elasticache|kinesis|dynamodb:Delete)/.test(action))).toEqual([]);
    // A build removes what was on the way to its set.
    const removed = statements(aws, /training\//).filter(({ Action }) => [Action].flat().includes("s3:DeleteObject"));
    const folders = JSON.stringify(removed.map(({ Resource }) => Resource)).match(/\/[a-z-]+\/\*/g);
    expect(folders?.sort()).toEqual(["/athena-keys/*", "/athena/*"]);
  });
});

describe("on a laptop", () => {
  test("there is no machine unless a stand-in answers for SageMaker", () => {
    expect(synthesize(localTarget(), "local").stacks).not.toContain("training");
    expect(local.stacks).toContain("training");
  });

  test("the states are those of AWS but for the listing, and the one that trains, which asks for the same job", () => {
    const [there, here] = [definitionOf(machineOf(aws)), definitionOf(machineOf(local))].map(({ States }) => States);
    expect(Object.keys(here)).toEqual(Object.keys(there).filter((name) => name !== "List"));
    expect(here["Train"].Resource).toBe("arn:aws:states:::lambda:invoke");
    const asked = Object.keys(here["Train"].Parameters.Payload).sort();
    expect(asked).toEqual(Object.keys(there["Train"].Parameters).sort());
    for (const name of ["Given", "Better", "Refused", "Wanted", "Registered"]) expect(here[name]).toEqual(there[name]);
  });
});
