import { ArnFormat, Aws, Stack } from "aws-cdk-lib";
import { type IRepository, Repository, TagMutability } from "aws-cdk-lib/aws-ecr";
import { PolicyStatement, Role, ServicePrincipal } from "aws-cdk-lib/aws-iam";
import { Construct } from "constructs";
import { FreshetError } from "../../core/errors.ts";
import { TRAINING_METRICS } from "../../core/scoring/training.ts";
import { type Deployment, physicalName } from "../deployment.ts";
import { removalOf } from "./removal.ts";
import { JOBS, SETS, type TrainingData } from "./training-data.ts";
import type { TrainingTask } from "./training-definition.ts";

/** Tag that is deployed when no image is named. Tags are immutable: another program is another tag. */
const IMAGE_TAG = "0.1.0";

export interface SageMakerTrainingProps {
  readonly deployment: Deployment;
  readonly data: TrainingData;
  /** `123456789012.dkr.ecr.eu-west-1.amazonaws.com/training:7`. @default the deployment's own repository */
  readonly image?: string;
}

/** A SageMaker training job of our container, and the role that it runs in: it reads training sets, and writes its output. */
export class SageMakerTraining extends Construct {
  readonly task: TrainingTask;
  /** What the state machine needs to start it and wait for its end. */
  readonly permissions: readonly PolicyStatement[];

  constructor(scope: Construct, id: string, props: SageMakerTrainingProps) {
    super(scope, id);
    const { deployment, data } = props;
    const { repository, image } = this.image(props);
    const role = this.jobRole(deployment, data, repository);
    this.task = {
      resource: "arn:aws:states:::sagemaker:createTrainingJob.sync",
      modelPath: "$.ModelArtifacts.S3ModelArtifacts",
      parameters: trainingJob({ deployment, data, image, roleArn: role.roleArn }),
      listing: {
        resource: "arn:aws:states:::aws-sdk:sagemaker:createModelPackage",
        parameters: modelPackage(deployment, image),
      },
    };
    const stack = Stack.of(this);
    const jobs = stack.formatArn({ service: "sagemaker", resource: "training-job", resourceName: "*" });
    this.permissions = [
      new PolicyStatement({
        actions: ["sagemaker:CreateTrainingJob", "sagemaker:DescribeTrainingJob", "sagemaker:StopTrainingJob"],
        resources: [jobs],
      }),
      new PolicyStatement({
        actions: ["sagemaker:CreateModelPackage"],
        resources: deployment.plan.services.flatMap(({ name }) =>
          [["model-package-group", ""] as const, ["model-package", "/*"] as const].map(([resource, versions]) =>
            stack.formatArn({
              service: "sagemaker",
              resource,
              resourceName: physicalName(deployment, name) + versions,
            }),
          ),
        ),
      }),
      // Step Functions marks the jobs that it manages.
      new PolicyStatement({ actions: ["sagemaker:AddTags", "sagemaker:ListTags"], resources: [jobs] }),
      new PolicyStatement({
        actions: ["iam:PassRole"],
        resources: [role.roleArn],
        conditions: { StringEquals: { "iam:PassedToService": "sagemaker.amazonaws.com" } },
      }),
      // A rule of Step Functions' own wakes the execution when the job ends.
      new PolicyStatement({
        actions: ["events:DescribeRule", "events:PutRule", "events:PutTargets"],
        resources: [
          stack.formatArn({
            service: "events",
            resource: "rule",
            resourceName: "StepFunctionsGetEventsForSageMakerTrainingJobsRule",
          }),
        ],
      }),
    ];
  }

  private image({ deployment, image }: SageMakerTrainingProps): { repository: IRepository; image: string } {
    if (image === undefined) {
      const repository = new Repository(this, "Repository", {
        repositoryName: physicalName(deployment, "training"),
        imageScanOnPush: true,
        imageTagMutability: TagMutability.IMMUTABLE,
        removalPolicy: removalOf(deployment),
      });
      return { repository, image: repository.repositoryUriForTag(IMAGE_TAG) };
    }
    const [, account, region, name] =
      /^(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com\/([a-z0-9._/-]+)[:@].+$/.exec(image) ?? [];
    if (name === undefined) {
      throw new FreshetError(
        "context_invalid",
        `trainingImage is no image in ECR with a tag or digest (given: ${image})`,
        {
          field: "trainingImage",
          repair: "use <account>.dkr.ecr.<region>.amazonaws.com/<repository>:<tag>",
        },
      );
    }
    const repositoryArn = `arn:${Aws.PARTITION}:ecr:${region}:${account}:repository/${name}`;
    return {
      repository: Repository.fromRepositoryAttributes(this, "Repository", { repositoryName: name, repositoryArn }),
      image,
    };
  }

  private jobRole(deployment: Deployment, { bucket, key }: TrainingData, repository: IRepository): Role {
    const role = new Role(this, "JobRole", {
      assumedBy: new ServicePrincipal("sagemaker.amazonaws.com"),
      description: `Freshet training job (${deployment.stage.name})`,
    });
    const allow = (actions: string[], resources: string[], conditions?: Record<string, unknown>) =>
      role.addToPolicy(new PolicyStatement({ actions, resources, conditions }));
    allow(["s3:GetObject"], [bucket.arnForObjects(`${SETS}/*`)]);
    allow(["s3:ListBucket"], [bucket.bucketArn], { StringLike: { "s3:prefix": [`${SETS}/*`] } });
    allow(["s3:PutObject"], [bucket.arnForObjects(`${JOBS}/*`)]);
    allow(["kms:Decrypt", "kms:GenerateDataKey"], [key.keyArn]);
    allow(
      ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
      [repository.repositoryArn],
    );
    allow(["ecr:GetAuthorizationToken"], ["*"]);
    const logs = Stack.of(this).formatArn({
      service: "logs",
      resource: "log-group",
      resourceName: "/aws/sagemaker/TrainingJobs:*",
      arnFormat: ArnFormat.COLON_RESOURCE_NAME,
    });
    allow(["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"], [logs]);
    allow(["cloudwatch:PutMetricData"], ["*"], {
      StringEquals: { "cloudwatch:namespace": "/aws/sagemaker/TrainingJobs" },
    });
    return role;
  }
}

/** CreateModelPackage for a version in its service's group. The gate has let it pass by then. */
function modelPackage(deployment: Deployment, image: string): Record<string, unknown> {
  return {
    "ModelPackageGroupName.$": `States.Format('${physicalName(deployment, "{}")}', $.group)`,
    "ModelPackageDescription.$": "States.Format('{}@{} of tenant {}', $.service, $.registered.version, $.tenant)",
    ModelApprovalStatus: "Approved",
    InferenceSpecification: {
      Containers: [{ Image: image, "ModelDataUrl.$": "$.job.model" }],
      SupportedContentTypes: ["application/json"],
      SupportedResponseMIMETypes: ["application/json"],
    },
    CustomerMetadataProperties: {
      "service.$": "$.service",
      "tenant.$": "$.tenant",
      "version.$": "States.Format('{}', $.registered.version)",
      "training_set.$": "$.training_set",
    },
    // The same for each attempt of an execution: an answer that was lost makes no second version.
    "ClientToken.$": "States.Hash($$.Execution.Id, 'MD5')",
  };
}

/** CreateTrainingJob, with paths into the execution's state. */
export function trainingJob(props: {
  readonly deployment: Deployment;
  readonly data: TrainingData;
  readonly image: string;
  readonly roleArn: string;
}): Record<string, unknown> {
  const { training } = props.deployment.stage;
  const { bucket, key } = props.data;
  return {
    "TrainingJobName.$": "$.job_name",
    "HyperParameters.$": "$.hyperparameters",
    AlgorithmSpecification: {
      TrainingImage: props.image,
      TrainingInputMode: "File",
      MetricDefinitions: TRAINING_METRICS,
    },
    RoleArn: props.roleArn,
    InputDataConfig: [channel("train", "$.training_set"), channel("champion", "$.champion")],
    OutputDataConfig: { S3OutputPath: `s3://${bucket.bucketName}/${JOBS}`, KmsKeyId: key.keyArn },
    ResourceConfig: { InstanceCount: 1, InstanceType: training.instanceType, VolumeSizeInGB: training.volumeGb },
    StoppingCondition: { MaxRuntimeInSeconds: training.maxRuntimeSeconds },
    // The program needs no network; what it reads and writes is carried by the platform.
    EnableNetworkIsolation: true,
  };
}

const channel = (name: string, path: string) => ({
  ChannelName: name,
  DataSource: {
    S3DataSource: { S3DataType: "S3Prefix", "S3Uri.$": path, S3DataDistributionType: "FullyReplicated" },
  },
});
