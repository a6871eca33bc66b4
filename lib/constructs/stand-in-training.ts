import { Duration } from "aws-cdk-lib";
import { PolicyStatement } from "aws-cdk-lib/aws-iam";
import { Construct } from "constructs";
import type { Deployment } from "../deployment.ts";
import { NodeFunction } from "./node-function.ts";
import { trainingJob } from "./sagemaker-training.ts";
import type { TrainingData } from "./training-data.ts";
import type { TrainingTask } from "./training-definition.ts";

export interface StandInTrainingProps {
  readonly deployment: Deployment;
  readonly data: TrainingData;
  /** Of a control plane as in `local/sagemaker/`. */
  readonly endpoint: string;
}

/** The same job, asked for by a function: no emulator's Step Functions know SageMaker. */
export class StandInTraining extends Construct {
  readonly task: TrainingTask;
  readonly permissions: readonly PolicyStatement[];

  constructor(scope: Construct, id: string, props: StandInTrainingProps) {
    super(scope, id);
    const { deployment, data } = props;
    const runner = new NodeFunction(this, "Runner", {
      deployment,
      name: "training-runner",
      description: "Asks this machine's stand-in for SageMaker for a training job and waits for its end",
      timeout: Duration.minutes(15),
    });
    runner.set("sagemakerEndpoint", props.endpoint);
    const role = `arn:aws:iam::${deployment.target.environment.account}:role/none`;
    this.task = {
      resource: "arn:aws:states:::lambda:invoke",
      modelPath: "$.Payload.ModelArtifacts.S3ModelArtifacts",
      parameters: {
        FunctionName: runner.lambda.functionArn,
        Payload: trainingJob({ deployment, data, image: "freshet-training", roleArn: role }),
      },
    };
    this.permissions = [
      new PolicyStatement({ actions: ["lambda:InvokeFunction"], resources: [runner.lambda.functionArn] }),
    ];
  }
}
