import type { IKey } from "aws-cdk-lib/aws-kms";
import type { Bucket, IBucket } from "aws-cdk-lib/aws-s3";
import { Construct } from "constructs";
import type { Deployment } from "../deployment.ts";
import type { NodeFunction } from "./node-function.ts";
import { secureBucket } from "./secure-bucket.ts";

/** Folder of training sets; training jobs leave what they made under `jobs/`. */
export const SETS = "training-sets";
export const JOBS = "jobs";

export interface TrainingDataProps {
  readonly deployment: Deployment;
  readonly key: IKey;
  readonly accessLogs: IBucket;
}

/** Training sets and what jobs made of them. What is worth keeping is registered, so the rest goes after a quarter. */
export class TrainingData extends Construct {
  readonly bucket: Bucket;
  readonly key: IKey;

  constructor(scope: Construct, id: string, props: TrainingDataProps) {
    super(scope, id);
    this.key = props.key;
    this.bucket = secureBucket(this, "Bucket", { ...props, name: "training", expireDays: 90 });
  }

  /** To lay a training set where jobs read it. */
  grantBuild(fn: NodeFunction): void {
    fn.allow(["s3:PutObject"], [this.bucket.arnForObjects(`${SETS}/*`)]);
    fn.allow(["kms:GenerateDataKey"], [this.key.keyArn]);
    fn.set("trainingBucket", this.bucket.bucketName);
  }

  /** To lay the champion beside a set. */
  grantLay(fn: NodeFunction): void {
    fn.allow(["s3:PutObject"], [this.bucket.arnForObjects(`${SETS}/champions/*`)]);
    fn.allow(["kms:GenerateDataKey"], [this.key.keyArn]);
  }

  /** To find the sets that hold an entity. */
  grantLook(fn: NodeFunction): void {
    fn.allow(["s3:ListBucket"], [this.bucket.bucketArn]);
    fn.allow(["s3:GetObject"], [this.bucket.arnForObjects(`${SETS}/*`)]);
    fn.allow(["kms:Decrypt"], [this.key.keyArn]);
    fn.set("trainingBucket", this.bucket.bucketName);
  }

  grantRead(fn: NodeFunction): void {
    fn.allow(
      ["s3:GetObject"],
      [SETS, JOBS].map((folder) => this.bucket.arnForObjects(`${folder}/*`)),
    );
    fn.allow(["kms:Decrypt"], [this.key.keyArn]);
  }
}
