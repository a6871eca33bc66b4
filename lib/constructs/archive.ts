import { Duration } from "aws-cdk-lib";
import type { IKey } from "aws-cdk-lib/aws-kms";
import type { Bucket, IBucket } from "aws-cdk-lib/aws-s3";
import { Construct } from "constructs";
import { requireRetention } from "../../core/retention.ts";
import type { Deployment } from "../deployment.ts";
import type { NodeFunction } from "./node-function.ts";
import { secureBucket } from "./secure-bucket.ts";

export interface ArchiveProps {
  readonly deployment: Deployment;
  readonly key: IKey;
  readonly accessLogs: IBucket;
}

/**
 * Every record that was consumed, with its fate. Objects are written once, under fresh names. Compaction moves rows from `raw/`
 * to `compacted/` and logs it under `compaction/`; retention, where a stage has one, counts from the last writing of an hour, and is that of the logged scores too.
 */
export class Archive extends Construct {
  readonly bucket: Bucket;
  private readonly key: IKey;
  private readonly retentionDays: number | null;

  constructor(scope: Construct, id: string, props: ArchiveProps) {
    super(scope, id);
    this.key = props.key;
    const { plan, stage } = props.deployment;
    const { retentionDays } = stage.archive;
    requireRetention(plan, retentionDays, stage.name);
    this.retentionDays = retentionDays;
    this.bucket = secureBucket(this, "Bucket", {
      ...props,
      name: "archive",
      replica: stage.replicas?.archive,
      ...(retentionDays === null
        ? {}
        : { expireDays: retentionDays, expirePrefixes: ["raw/", "compacted/", "inference-log/"] }),
    });
    // Results of historical jobs live as long as the jobs, a week.
    this.bucket.addLifecycleRule({ id: "old-historical", prefix: "historical/", expiration: Duration.days(8) });
    // A job removes what was on the way to its set; what is older is of one that died. `athena/` and `athena-keys/`.
    this.bucket.addLifecycleRule({ id: "old-athena", prefix: "athena", expiration: Duration.days(2) });
  }

  /** To keep what a job over a large range has done so far, its own and what Athena writes for it. */
  grantWork(fn: NodeFunction): void {
    fn.allow(
      ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"],
      ["athena/*", "athena-keys/*"].map((keys) => this.bucket.arnForObjects(keys)),
    );
    fn.allow(["s3:GetBucketLocation", "s3:ListBucket"], [this.bucket.bucketArn]);
    fn.allow(["kms:Decrypt", "kms:GenerateDataKey"], [this.key.keyArn]);
  }

  /** To remove what a historical job has written that is cancelled: beside `grantHistorical`. */
  grantClearHistorical(fn: NodeFunction): void {
    fn.allow(["s3:DeleteObject"], [this.bucket.arnForObjects("historical/*")]);
  }

  /** To keep what historical jobs made, and to hand out addresses of it. */
  grantHistorical(fn: NodeFunction): void {
    fn.allow(["s3:GetObject", "s3:PutObject"], [this.bucket.arnForObjects("historical/*")]);
    fn.allow(["kms:Decrypt", "kms:GenerateDataKey"], [this.key.keyArn]);
    fn.set("archiveBucket", this.bucket.bucketName);
  }

  /** To log what was scored, beside the records. */
  grantLogScores(fn: NodeFunction): void {
    fn.allow(["s3:PutObject"], [this.bucket.arnForObjects("inference-log/*")]);
    fn.allow(["kms:GenerateDataKey"], [this.key.keyArn]);
    fn.set("archiveBucket", this.bucket.bucketName);
  }

  /** To read what was scored: beside `grantRead`. */
  grantReadScores(fn: NodeFunction): void {
    fn.allow(["s3:GetObject"], [this.bucket.arnForObjects("inference-log/*")]);
  }

  /** To deliver again what has arrived lately: beside `grantWrite`. */
  grantReplay(fn: NodeFunction): void {
    fn.allow(["s3:ListBucket"], [this.bucket.bucketArn]);
    fn.allow(["s3:GetObject"], [this.bucket.arnForObjects("raw/*")]);
    fn.allow(["kms:Decrypt"], [this.key.keyArn]);
  }

  /** To read the records, raw and compacted. */
  grantRead(fn: NodeFunction): void {
    fn.allow(["s3:ListBucket"], [this.bucket.bucketArn]);
    fn.allow(
      ["s3:GetObject"],
      ["raw/*", "compacted/*", "compaction/*", "values/*"].map((keys) => this.bucket.arnForObjects(keys)),
    );
    fn.allow(["kms:Decrypt"], [this.key.keyArn]);
    fn.set("archiveBucket", this.bucket.bucketName);
    // What reads it has to know that something may be gone.
    if (this.retentionDays !== null) fn.set("archiveRetentionDays", String(this.retentionDays));
  }

  /** To add to the values that batch views gave, and to push them again. */
  grantValues(fn: NodeFunction): void {
    fn.allow(["s3:GetObject", "s3:PutObject"], [this.bucket.arnForObjects("values/*")]);
    fn.allow(["kms:GenerateDataKey"], [this.key.keyArn]);
  }

  /** To add what callers push. */
  grantPush(fn: NodeFunction): void {
    fn.allow(["s3:PutObject"], [this.bucket.arnForObjects("values/*")]);
    fn.allow(["kms:GenerateDataKey"], [this.key.keyArn]);
    fn.set("archiveBucket", this.bucket.bucketName);
  }

  grantWrite(fn: NodeFunction): void {
    fn.allow(["s3:PutObject"], [this.bucket.arnForObjects("raw/*")]);
    fn.allow(["kms:GenerateDataKey"], [this.key.keyArn]);
    fn.set("archiveBucket", this.bucket.bucketName);
  }

  /** To keep the schemas of a registry. Without the list a missing one would answer as a forbidden one. */
  grantSchemas(fn: NodeFunction): void {
    fn.allow(["s3:ListBucket"], [this.bucket.bucketArn]);
    fn.allow(["s3:GetObject", "s3:PutObject"], [this.bucket.arnForObjects("schemas/*")]);
    fn.allow(["kms:Decrypt", "kms:GenerateDataKey"], [this.key.keyArn]);
    fn.set("archiveBucket", this.bucket.bucketName);
  }

  /** To rewrite whatever holds an entity, to keep meanwhile which events were its own, and to look at what was made of it. */
  grantErase(fn: NodeFunction): void {
    const objects = (...folders: string[]) => folders.map((folder) => this.bucket.arnForObjects(`${folder}/*`));
    fn.allow(["s3:ListBucket", "s3:ListBucketVersions"], [this.bucket.bucketArn]);
    fn.allow(["s3:GetObject"], objects("compaction", "historical"));
    fn.allow(
      ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"],
      objects("raw", "compacted", "values", "inference-log", "erasures"),
    );
    fn.allow(["kms:Decrypt", "kms:GenerateDataKey"], [this.key.keyArn]);
    fn.set("archiveBucket", this.bucket.bucketName);
  }

  /** To replace raw objects and compacted ones by newer ones, and to end what was pushed. */
  grantCompact(fn: NodeFunction): void {
    const objects = (...folders: string[]) => folders.map((folder) => this.bucket.arnForObjects(`${folder}/*`));
    fn.allow(["s3:ListBucket"], [this.bucket.bucketArn]);
    fn.allow(["s3:GetObject", "s3:DeleteObject"], objects("raw", "compacted", "compaction", "values"));
    fn.allow(["s3:PutObject"], objects("compacted", "compaction", "values"));
    fn.allow(["kms:Decrypt", "kms:GenerateDataKey"], [this.key.keyArn]);
    fn.set("archiveBucket", this.bucket.bucketName);
    if (this.retentionDays !== null) fn.set("archiveRetentionDays", String(this.retentionDays));
  }
}
