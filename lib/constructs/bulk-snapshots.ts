import type { IKey } from "aws-cdk-lib/aws-kms";
import type { Bucket, IBucket } from "aws-cdk-lib/aws-s3";
import { Construct } from "constructs";
import type { Deployment } from "../deployment.ts";
import type { NodeFunction } from "./node-function.ts";
import { secureBucket } from "./secure-bucket.ts";

export interface BulkSnapshotsProps {
  readonly deployment: Deployment;
  readonly key: IKey;
  readonly accessLogs: IBucket;
}

/** All of the online store in rounds, an object for each of its buckets: what a lost store is restored from. */
export class BulkSnapshots extends Construct {
  readonly bucket: Bucket;
  private readonly props: BulkSnapshotsProps;

  constructor(scope: Construct, id: string, props: BulkSnapshotsProps) {
    super(scope, id);
    this.props = props;
    this.bucket = secureBucket(this, "Bucket", {
      ...props,
      name: "snapshots",
      replica: props.deployment.stage.replicas?.snapshots,
    });
  }

  /** To write rounds, and to remove those that are too old. */
  grantKeep(fn: NodeFunction): void {
    this.grantRestore(fn);
    fn.allow(["s3:PutObject", "s3:DeleteObject"], [this.bucket.arnForObjects("*")]);
    fn.allow(["kms:GenerateDataKey"], [this.props.key.keyArn]);
    fn.set("snapshotsKeepMs", String(this.props.deployment.stage.snapshots.keepHours * 3_600_000));
  }

  /** To take entities out of rounds that hold them, with older versions of their objects. */
  grantErase(fn: NodeFunction): void {
    this.grantRestore(fn);
    fn.allow(["s3:ListBucketVersions"], [this.bucket.bucketArn]);
    fn.allow(["s3:PutObject"], [this.bucket.arnForObjects("manifests/*")]);
    const objects = this.bucket.arnForObjects("rounds/*");
    fn.allow(["s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"], [objects]);
    fn.allow(["kms:GenerateDataKey"], [this.props.key.keyArn]);
  }

  grantRestore(fn: NodeFunction): void {
    fn.allow(["s3:ListBucket"], [this.bucket.bucketArn]);
    fn.allow(["s3:GetObject"], [this.bucket.arnForObjects("*")]);
    fn.allow(["kms:Decrypt"], [this.props.key.keyArn]);
    fn.set("snapshotsBucket", this.bucket.bucketName);
  }
}
