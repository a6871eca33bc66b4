import { Aws, Duration } from "aws-cdk-lib";
import type { IKey } from "aws-cdk-lib/aws-kms";
import {
  BlockPublicAccess,
  Bucket,
  BucketEncryption,
  type IBucket,
  type LifecycleRule,
  ObjectOwnership,
} from "aws-cdk-lib/aws-s3";
import type { Construct } from "constructs";
import { type Deployment, physicalName } from "../deployment.ts";
import { removalOf } from "./removal.ts";

export interface SecureBucketProps {
  readonly deployment: Deployment;
  /** Last part of the bucket's name, before account and region. */
  readonly name: string;
  /** @default S3's own key, which is all that the log delivery service can write with */
  readonly key?: IKey;
  /** @default no access log, for the bucket that holds the access logs */
  readonly accessLogs?: IBucket;
  /** Days after which an object is removed. @default none is */
  readonly expireDays?: number;
  /** Only objects whose keys begin so are removed. @default all */
  readonly expirePrefixes?: readonly string[];
}

/** A private bucket: encrypted, TLS only, no ACLs, uploads that were never finished removed. */
export function secureBucket(scope: Construct, id: string, props: SecureBucketProps): Bucket {
  const { deployment, key } = props;
  return new Bucket(scope, id, {
    // Bucket names are global; account and region make ours free wherever it is deployed.
    bucketName: `${physicalName(deployment, props.name)}-${Aws.ACCOUNT_ID}-${Aws.REGION}`,
    encryption: key === undefined ? BucketEncryption.S3_MANAGED : BucketEncryption.KMS,
    encryptionKey: key,
    bucketKeyEnabled: key !== undefined,
    enforceSSL: true,
    minimumTLSVersion: 1.2,
    blockPublicAccess: BlockPublicAccess.BLOCK_ALL,
    objectOwnership: ObjectOwnership.BUCKET_OWNER_ENFORCED,
    serverAccessLogsBucket: props.accessLogs,
    serverAccessLogsPrefix: props.accessLogs === undefined ? undefined : `${props.name}/`,
    lifecycleRules: [
      { id: "unfinished-uploads", abortIncompleteMultipartUploadAfter: Duration.days(2) },
      ...(props.expireDays === undefined ? [] : expiryRules(Duration.days(props.expireDays), props.expirePrefixes)),
    ],
    removalPolicy: removalOf(deployment),
  });
}

const expiryRules = (expiration: Duration, prefixes?: readonly string[]): LifecycleRule[] =>
  prefixes?.map((prefix) => ({ id: `old-${prefix.replaceAll("/", "")}`, prefix, expiration })) ?? [
    { id: "old", expiration },
  ];
