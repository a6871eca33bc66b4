import type { IKey } from "aws-cdk-lib/aws-kms";
import type { Bucket, IBucket } from "aws-cdk-lib/aws-s3";
import { Construct } from "constructs";
import type { Deployment } from "../deployment.ts";
import type { NodeFunction } from "./node-function.ts";
import { secureBucket } from "./secure-bucket.ts";
import { SecureTable } from "./secure-table.ts";

export interface ModelsProps {
  readonly deployment: Deployment;
  readonly key: IKey;
  readonly accessLogs: IBucket;
}

/** The model registry: versions and aliases in a table, artefacts in a bucket, both written once and never removed. */
export class Models extends Construct {
  readonly table: SecureTable;
  readonly bucket: Bucket;
  private readonly key: IKey;

  constructor(scope: Construct, id: string, props: ModelsProps) {
    super(scope, id);
    const { deployment, key } = props;
    this.key = key;
    this.table = new SecureTable(this, "Table", { deployment, key, name: "models", environmentName: "modelsTable" });
    this.bucket = secureBucket(this, "Bucket", { ...props, name: "models" });
  }

  /** To load what aliases point to, and to change them for a caller with the scope `admin`. */
  grantServe(fn: NodeFunction): void {
    this.table.grantReadWrite(fn);
    fn.allow(["s3:GetObject"], [this.bucket.arnForObjects("models/*")]);
    fn.set("modelsBucket", this.bucket.bucketName);
  }

  /** To register versions as well. */
  grantRegister(fn: NodeFunction): void {
    this.grantServe(fn);
    fn.allow(["s3:PutObject"], [this.bucket.arnForObjects("models/*")]);
    fn.allow(["kms:GenerateDataKey"], [this.key.keyArn]);
  }
}
