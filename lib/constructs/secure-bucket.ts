import { Aws, Duration } from "aws-cdk-lib";
import { type IKey, Key } from "aws-cdk-lib/aws-kms";
import {
  BlockPublicAccess,
  Bucket,
  BucketEncryption,
  type IBucket,
  type LifecycleRule,
  ObjectOwnership,
  type ReplicationRule,
} from "aws-cdk-lib/aws-s3";
import type { Construct } from "constructs";
import { type Deployment, physicalName } from "../deployment.ts";
import type { ReplicaBucket } from "../stage.ts";
import { removalOf } from "./removal.ts";

/** For how long a version that was replaced or removed can be brought back. An erasure ends with it. */
const VERSION_DAYS = 2;

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
  /** Where each object is copied to; versions that were replaced or removed stay for some days, here as there. @default nowhere */
  readonly replica?: ReplicaBucket;
}

/** A private bucket: encrypted, TLS only, no ACLs, uploads that were never finished removed. */
export function secureBucket(scope: Construct, id: string, props: SecureBucketProps): Bucket {
  const { deployment, key, replica } = props;
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
      ...(replica === undefined
        ? []
        : [{ id: "old-versions", noncurrentVersionExpiration: Duration.days(VERSION_DAYS) }]),
      ...(props.expireDays === undefined ? [] : expiryRules(Duration.days(props.expireDays), props.expirePrefixes)),
    ],
    removalPolicy: removalOf(deployment),
    ...(replica === undefined ? {} : { versioned: true, replicationRules: [ruleOf(scope, id, replica)] }),
  });
}

const ruleOf = (scope: Construct, id: string, { bucketArn, keyArn }: ReplicaBucket): ReplicationRule => ({
  id: "other-region",
  destination: Bucket.fromBucketArn(scope, `${id}Replica`, bucketArn),
  kmsKey: Key.fromKeyArn(scope, `${id}ReplicaKey`, keyArn),
  sseKmsEncryptedObjects: true,
  // What is removed here stays there until its own lifecycle removes it.
  deleteMarkerReplication: false,
});

const expiryRules = (expiration: Duration, prefixes?: readonly string[]): LifecycleRule[] =>
  prefixes?.map((prefix) => ({ id: `old-${prefix.replaceAll("/", "")}`, prefix, expiration })) ?? [
    { id: "old", expiration },
  ];
