import { CfnOutput } from "aws-cdk-lib";
import type { Construct } from "constructs";
import { Archive } from "./constructs/archive.ts";
import type { ArchiveTables } from "./constructs/archive-tables.ts";
import { AuditTrail } from "./constructs/audit-trail.ts";
import { BulkSnapshots } from "./constructs/bulk-snapshots.ts";
import { dataKey } from "./constructs/data-key.ts";
import { Models } from "./constructs/models.ts";
import { Quarantine } from "./constructs/quarantine.ts";
import { secureBucket } from "./constructs/secure-bucket.ts";
import { SecureTable } from "./constructs/secure-table.ts";
import { TrainingData } from "./constructs/training-data.ts";
import type { Deployment } from "./deployment.ts";
import { FreshetStack } from "./freshet-stack.ts";

/** What is kept for good: archive, quarantine, late queue, API keys, audit records, registered features, models, and the record of what the store once held. Stateful. */
export class StorageStack extends FreshetStack {
  readonly archive: Archive;
  readonly quarantine: Quarantine;
  readonly lateQueue: SecureTable;
  readonly keys: SecureTable;
  readonly controlTable: SecureTable;
  readonly jobs: SecureTable;
  /** Of entities, for reads while the online store does not answer. */
  readonly snapshots: SecureTable;
  readonly erasures: SecureTable;
  /** Of the whole online store, to restore it from. */
  readonly bulkSnapshots: BulkSnapshots;
  readonly audit: AuditTrail;
  readonly features: SecureTable;
  readonly models: Models;
  readonly training: TrainingData;
  /** Null where the archive is no table of a query engine. */
  readonly tables: ArchiveTables | null;

  constructor(scope: Construct, deployment: Deployment) {
    super(scope, "storage", { deployment, description: "Freshet: archive, quarantine and tables" });
    const key = dataKey(this, deployment, "storage");
    const accessLogs = secureBucket(this, "AccessLogs", { deployment, name: "access-logs", expireDays: 365 });
    this.archive = new Archive(this, "Archive", { deployment, key, accessLogs });
    this.quarantine = new Quarantine(this, "Quarantine", { deployment, key, accessLogs });
    this.lateQueue = new SecureTable(this, "LateQueue", {
      deployment,
      key,
      name: "late",
      environmentName: "lateTable",
      // Repair is woken by what arrives here.
      changes: true,
    });
    this.keys = new SecureTable(this, "Keys", {
      deployment,
      key,
      name: "keys",
      environmentName: "keysTable",
      keys: ["id"],
      expiryAttribute: "expires_at",
      // Lists need neither salt nor hash.
      index: {
        attribute: "tenant",
        projected: ["name", "scopes", "created_at_ms", "expires_at_ms", "rotated_from", "rotated_to"],
      },
    });
    this.controlTable = new SecureTable(this, "Control", {
      deployment,
      key,
      name: "control",
      environmentName: "controlTable",
    });
    this.jobs = new SecureTable(this, "Jobs", {
      deployment,
      key,
      name: "jobs",
      environmentName: "jobsTable",
      expiryAttribute: "expires_at",
      // What is taken by the API wakes the function that does it.
      changes: true,
    });
    this.erasures = new SecureTable(this, "Erasures", {
      deployment,
      key,
      name: "erasures",
      environmentName: "erasuresTable",
      // A request wakes the function that does it.
      changes: true,
    });
    this.audit = new AuditTrail(this, "Audit", { deployment, key });
    this.features = new SecureTable(this, "Features", {
      deployment,
      key,
      name: "features",
      environmentName: "featuresTable",
    });
    this.snapshots = new SecureTable(this, "Snapshots", {
      deployment,
      key,
      name: "snapshots",
      environmentName: "snapshotsTable",
      expiryAttribute: "expires_at",
    });
    this.bulkSnapshots = new BulkSnapshots(this, "BulkSnapshots", { deployment, key, accessLogs });
    this.models = new Models(this, "Models", { deployment, key, accessLogs });
    this.training = new TrainingData(this, "Training", { deployment, key, accessLogs });
    this.tables = deployment.target.catalogueArchive(this, "ArchiveTables", deployment, this.archive);
    deployment.target.catalogueModels(this, "ModelGroups", deployment);
    for (const [name, value] of Object.entries({
      ArchiveBucket: this.archive.bucket.bucketName,
      QuarantineBucket: this.quarantine.bucket.bucketName,
      QuarantineTable: this.quarantine.index.table.tableName,
      LateTable: this.lateQueue.table.tableName,
      KeysTable: this.keys.table.tableName,
      FeaturesTable: this.features.table.tableName,
      SnapshotsTable: this.snapshots.table.tableName,
      ErasuresTable: this.erasures.table.tableName,
      SnapshotsBucket: this.bulkSnapshots.bucket.bucketName,
      JobsTable: this.jobs.table.tableName,
      AuditTable: this.audit.table.table.tableName,
      // Operators' commands write records, too.
      AuditRetentionDays: String(deployment.stage.audit.retentionDays),
      ControlTable: this.controlTable.table.tableName,
      ModelsTable: this.models.table.table.tableName,
      ModelsBucket: this.models.bucket.bucketName,
      TrainingBucket: this.training.bucket.bucketName,
    })) {
      new CfnOutput(this, name, { value });
    }
  }
}
