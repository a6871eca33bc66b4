import type { IKey } from "aws-cdk-lib/aws-kms";
import type { IEventSourceDlq } from "aws-cdk-lib/aws-lambda";
import type { Bucket, IBucket } from "aws-cdk-lib/aws-s3";
import { Construct } from "constructs";
import type { Deployment } from "../deployment.ts";
import type { NodeFunction } from "./node-function.ts";
import { secureBucket } from "./secure-bucket.ts";
import { SecureTable } from "./secure-table.ts";

export interface QuarantineProps {
  readonly deployment: Deployment;
  readonly key: IKey;
  readonly accessLogs: IBucket;
}

/**
 * What could not be applied: records that the aggregate function refused (`quarantine/`, with an index item each), and
 * whole batches that Lambda gave up on because they grew too old (`aws/lambda/`, a prefix that Lambda chooses).
 */
export class Quarantine extends Construct {
  readonly bucket: Bucket;
  readonly index: SecureTable;
  private readonly key: IKey;

  constructor(scope: Construct, id: string, props: QuarantineProps) {
    super(scope, id);
    this.key = props.key;
    this.bucket = secureBucket(this, "Bucket", { ...props, name: "quarantine" });
    this.index = new SecureTable(this, "Index", {
      deployment: props.deployment,
      key: props.key,
      name: "quarantine",
      environmentName: "quarantineTable",
    });
  }

  grantWrite(fn: NodeFunction): void {
    fn.allow(["s3:PutObject"], [this.bucket.arnForObjects("quarantine/*")]);
    fn.allow(["kms:GenerateDataKey"], [this.key.keyArn]);
    fn.set("quarantineBucket", this.bucket.bucketName);
    this.index.grantWrite(fn);
  }

  /** To deliver again what is kept here, and to remove what was given up once it is delivered. */
  grantReplay(fn: NodeFunction): void {
    const givenUp = this.bucket.arnForObjects("aws/lambda/*");
    this.grantWrite(fn);
    this.index.grantRead(fn);
    fn.allow(["s3:ListBucket"], [this.bucket.bucketArn]);
    fn.allow(["s3:GetObject"], [this.bucket.arnForObjects("quarantine/*"), givenUp]);
    fn.allow(["s3:DeleteObject"], [givenUp]);
    fn.allow(["kms:Decrypt"], [this.key.keyArn]);
  }

  /** To show records to administrators, and to write down what they ask for. */
  grantInspect(fn: NodeFunction): void {
    fn.allow(["s3:GetObject"], [this.bucket.arnForObjects("quarantine/*")]);
    fn.allow(["kms:Decrypt"], [this.key.keyArn]);
    fn.set("quarantineBucket", this.bucket.bucketName);
    this.index.grantPutAndQuery(fn);
    this.index.grantLookUp(fn);
  }

  /** To take out what holds an entity. */
  grantErase(fn: NodeFunction): void {
    fn.allow(["s3:ListBucket", "s3:ListBucketVersions"], [this.bucket.bucketArn]);
    const actions = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"];
    fn.allow(actions, [this.bucket.arnForObjects("quarantine/*")]);
    fn.allow(["kms:Decrypt", "kms:GenerateDataKey"], [this.key.keyArn]);
    fn.set("quarantineBucket", this.bucket.bucketName);
    this.index.grantErase(fn);
  }

  /** S3, because there Lambda stores the records themselves; a queue would get positions that retention outlives. */
  failureDestination(fn: NodeFunction): IEventSourceDlq {
    return {
      bind: () => {
        fn.allow(["s3:ListBucket"], [this.bucket.bucketArn]);
        fn.allow(["s3:PutObject"], [this.bucket.arnForObjects("aws/lambda/*")]);
        fn.allow(["kms:GenerateDataKey"], [this.key.keyArn]);
        return { destination: this.bucket.bucketArn };
      },
    };
  }
}
