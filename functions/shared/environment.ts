/**
 * Names of the environment variables that constructs set and functions read. Both sides import this file, so a name that
 * one side forgets does not compile on the other.
 */
import { FreshetError } from "../../core/errors.ts";

export const ENVIRONMENT = {
  target: "FRESHET_TARGET",
  valkeyHost: "FRESHET_VALKEY_HOST",
  valkeyPort: "FRESHET_VALKEY_PORT",
  /** `1` for TLS, `0` where the endpoint is plaintext (every emulator). */
  valkeyTls: "FRESHET_VALKEY_TLS",
  /** `1` for cluster mode. */
  valkeyCluster: "FRESHET_VALKEY_CLUSTER",
  /** ElastiCache user for IAM authentication; empty for none. */
  valkeyUser: "FRESHET_VALKEY_USER",
  /** Replication group id, part of the IAM token. */
  valkeyCacheName: "FRESHET_VALKEY_CACHE_NAME",
  archiveBucket: "FRESHET_ARCHIVE_BUCKET",
  /** Days after which objects of the archive expire; not set where they stay. */
  archiveRetentionDays: "FRESHET_ARCHIVE_RETENTION_DAYS",
  /** How long replaced objects of the archive stay, in ms. */
  archiveGraceMs: "FRESHET_ARCHIVE_GRACE_MS",
  /** Engine of jobs over the archive: `auto`, `duckdb` or `athena`. */
  archiveEngine: "FRESHET_ARCHIVE_ENGINE",
  /** Athena's database of the archive, and the work group that its queries are charged to; not set where there is no Athena. */
  athenaDatabase: "FRESHET_ATHENA_DATABASE",
  athenaWorkGroup: "FRESHET_ATHENA_WORK_GROUP",
  quarantineBucket: "FRESHET_QUARANTINE_BUCKET",
  quarantineTable: "FRESHET_QUARANTINE_TABLE",
  lateTable: "FRESHET_LATE_TABLE",
  keysTable: "FRESHET_KEYS_TABLE",
  controlTable: "FRESHET_CONTROL_TABLE",
  auditTable: "FRESHET_AUDIT_TABLE",
  /** Days after which an audit record expires. */
  auditRetentionDays: "FRESHET_AUDIT_RETENTION_DAYS",
  erasuresTable: "FRESHET_ERASURES_TABLE",
  jobsTable: "FRESHET_JOBS_TABLE",
  snapshotsTable: "FRESHET_SNAPSHOTS_TABLE",
  /** Bulk snapshots, and for how long a round of them stays, in ms. */
  snapshotsBucket: "FRESHET_SNAPSHOTS_BUCKET",
  snapshotsKeepMs: "FRESHET_SNAPSHOTS_KEEP_MS",
  /** What a read of features may take in all, and what the online store may take of that, in ms. */
  readBudgetMs: "FRESHET_READ_BUDGET_MS",
  storeBudgetMs: "FRESHET_STORE_BUDGET_MS",
  /** What tenants have registered. */
  featuresTable: "FRESHET_FEATURES_TABLE",
  modelsTable: "FRESHET_MODELS_TABLE",
  modelsBucket: "FRESHET_MODELS_BUCKET",
  trainingBucket: "FRESHET_TRAINING_BUCKET",
  /** Where SageMaker's training jobs are asked for; target local only. */
  sagemakerEndpoint: "FRESHET_SAGEMAKER_ENDPOINT",
  controlFunction: "FRESHET_CONTROL_FUNCTION",
  /** Timeout of the aggregate function, in ms: an invocation that outlives its batch's retry lives this long at most. */
  aggregateTimeoutMs: "FRESHET_AGGREGATE_TIMEOUT_MS",
  /** JSON object: route class to `perSecond`, `burst` and `perDay` of a tenant that has no limits of its own. */
  limits: "FRESHET_LIMITS",
  /** JSON object: keys of API Gateway's usage plans, of tenants that have one of their own, and those that others share. */
  usageKeys: "FRESHET_USAGE_KEYS",
  /** Where schemas are that records name by a registry's id: an address of Confluent's API, or `glue:<registry>`; not set for none. */
  schemaRegistry: "FRESHET_SCHEMA_REGISTRY",
  /** ARN of the secret with the registry's `username` and `password`, or `token`, as JSON. */
  schemaRegistrySecret: "FRESHET_SCHEMA_REGISTRY_SECRET",
  /** The same JSON itself, where there is no secret store: on a laptop. */
  schemaRegistryCredentials: "FRESHET_SCHEMA_REGISTRY_CREDENTIALS",
  /** JSON object: stream name in the plan to its name at the broker: of the Kinesis stream, or of the topic. */
  streams: "FRESHET_STREAMS",
  /** `kinesis` or `kafka`. @default kinesis */
  broker: "FRESHET_BROKER",
  /** Where Kafka is asked first: `host:port`, several with commas between. */
  bootstrapServers: "FRESHET_BOOTSTRAP_SERVERS",
  /** How Kafka is talked to: `iam` (MSK), `tls`, `plaintext`. Not set: plaintext, to this machine alone. */
  kafkaAuth: "FRESHET_KAFKA_AUTH",
  /** `1` where the mapping of Kafka takes a partial response: it then delivers again what failed and no more. */
  partialResponses: "FRESHET_PARTIAL_RESPONSES",
} as const;

export type EnvironmentName = keyof typeof ENVIRONMENT;

/** @throws FreshetError `environment_missing` naming the variable */
export function requireEnvironment(name: EnvironmentName): string {
  const value = process.env[ENVIRONMENT[name]];
  if (value === undefined || value === "") {
    throw new FreshetError("environment_missing", `environment variable ${ENVIRONMENT[name]} is not set`, {
      repair: "deploy with the CDK app, which sets it, or set it by hand",
    });
  }
  return value;
}

export function optionalEnvironment(name: EnvironmentName): string | undefined {
  const value = process.env[ENVIRONMENT[name]];
  return value === "" ? undefined : value;
}
