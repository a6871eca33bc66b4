import { Aws, Stack } from "aws-cdk-lib";
import { CfnWorkGroup } from "aws-cdk-lib/aws-athena";
import { CfnDatabase, CfnTable } from "aws-cdk-lib/aws-glue";
import { Construct } from "constructs";
import type { FieldType, Stream } from "../../core/plan.ts";
import { type Deployment, physicalName } from "../deployment.ts";
import type { Archive } from "./archive.ts";
import type { NodeFunction } from "./node-function.ts";

export interface ArchiveTablesProps {
  readonly deployment: Deployment;
  readonly archive: Archive;
}

/** Columns are typed as `adapters/offline/archive-view.ts` types them for DuckDB. */
const TYPES: Readonly<Record<FieldType, string>> = {
  string: "string",
  double: "double",
  long: "bigint",
  boolean: "boolean",
  map: "map<string,string>",
};

const FORMATS = {
  raw: {
    inputFormat: "org.apache.hadoop.mapred.TextInputFormat",
    outputFormat: "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
    serdeInfo: { serializationLibrary: "org.openx.data.jsonserde.JsonSerDe" },
  },
  compacted: {
    inputFormat: "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
    outputFormat: "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
    serdeInfo: { serializationLibrary: "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe" },
  },
} as const;

/**
 * The archive as Athena's tables: `raw_<stream>` by arrival and `compacted_<stream>` by event time. Partitions are projected:
 * none is ever registered, and a query has to name its tenant, which keeps one tenant's queries off another's objects. `job_keys` has the ids that a
 * job over a large range asks for. Jobs' queries run in a work group of their own, which bounds what each may scan.
 */
export class ArchiveTables extends Construct {
  private readonly databaseName: string;
  private readonly workGroupName: string;
  private readonly tableNames: string[] = [];
  private readonly archive: Archive;
  private readonly deployment: Deployment;

  constructor(scope: Construct, id: string, { deployment, archive }: ArchiveTablesProps) {
    super(scope, id);
    this.archive = archive;
    this.deployment = deployment;
    this.databaseName = physicalName(deployment, "archive").replaceAll("-", "_");
    this.workGroupName = physicalName(deployment, "archive");
    const { databaseName } = this;
    const database = new CfnDatabase(this, "Database", {
      catalogId: Aws.ACCOUNT_ID,
      databaseInput: { name: databaseName, description: "Freshet: every record that was consumed, with its fate" },
    });
    const address = `s3://${archive.bucket.bucketName}`;
    const table = (name: string, tableInput: CfnTable.TableInputProperty & { readonly name: string }) => {
      new CfnTable(this, name, { catalogId: Aws.ACCOUNT_ID, databaseName, tableInput }).node.addDependency(database);
      this.tableNames.push(tableInput.name);
    };
    for (const stream of deployment.plan.streams) {
      for (const kind of ["raw", "compacted"] as const) {
        table(`${kind}-${stream.name}`, tableOf(kind, stream, `${address}/${kind}`));
      }
    }
    table("job-keys", keysTable(`${address}/athena-keys`));
    new CfnWorkGroup(this, "WorkGroup", {
      name: this.workGroupName,
      description: "Freshet: training sets over ranges that one function cannot hold",
      recursiveDeleteOption: true,
      workGroupConfiguration: {
        enforceWorkGroupConfiguration: true,
        publishCloudWatchMetricsEnabled: true,
        bytesScannedCutoffPerQuery: deployment.stage.archive.scanLimitGb * 1e9,
        engineVersion: { selectedEngineVersion: "Athena engine version 3" },
        resultConfiguration: {
          outputLocation: `${address}/athena/results/`,
          encryptionConfiguration: { encryptionOption: "SSE_KMS", kmsKey: archive.bucket.encryptionKey!.keyArn },
        },
      },
    });
  }

  /** To have Athena read the archive, which a function does with its own rights: beside `grantRead` of the archive. */
  grantQuery(fn: NodeFunction): void {
    const stack = Stack.of(this);
    const workGroup = stack.formatArn({ service: "athena", resource: "workgroup", resourceName: this.workGroupName });
    fn.allow(["athena:StartQueryExecution", "athena:GetQueryExecution", "athena:StopQueryExecution"], [workGroup]);
    const glue = (resource: string, resourceName?: string) =>
      stack.formatArn({ service: "glue", resource, resourceName });
    fn.allow(
      ["glue:GetDatabase", "glue:GetTable", "glue:GetPartitions"],
      [
        ...[glue("catalog"), glue("database", this.databaseName)],
        ...this.tableNames.map((name) => glue("table", `${this.databaseName}/${name}`)),
      ],
    );
    // Athena looks at it whichever database a query names.
    fn.allow(["glue:GetDatabase"], [glue("database", "default")]);
    this.archive.grantWork(fn);
    fn.set("athenaDatabase", this.databaseName);
    fn.set("athenaWorkGroup", this.workGroupName);
    fn.set("archiveEngine", this.deployment.stage.archive.engine);
  }
}

/** Ids that jobs lay down for their queries; a job's are removed with it. */
const keysTable = (folder: string) => ({
  name: "job_keys",
  description: "ids that a job asks for, by job and kind",
  tableType: "EXTERNAL_TABLE",
  partitionKeys: ["tenant", "job", "kind"].map((name) => ({ name, type: "string" })),
  parameters: {
    classification: "parquet",
    "projection.enabled": "true",
    ...Object.fromEntries(["tenant", "job", "kind"].map((name) => [`projection.${name}.type`, "injected"])),
    "storage.location.template": `${folder}/tenant=\${tenant}/job=\${job}/kind=\${kind}/`,
  },
  storageDescriptor: { ...FORMATS.compacted, location: `${folder}/`, columns: [{ name: "id", type: "string" }] },
});

function tableOf(kind: keyof typeof FORMATS, stream: Stream, folder: string) {
  const fields = Object.entries(stream.fields).map(([name, { type }]) => `${name}:${TYPES[type]}`);
  const columns = {
    event_id: "string",
    event_time_ms: "bigint",
    identity: "string",
    arrival_ms: "bigint",
    shard: "string",
    sequence: "string",
    sub_sequence: "int",
    reason: "string",
    fields: `struct<${fields.join(",")}>`,
    fates: "array<struct<entity:string,id:string,fate:string,visible_ms:bigint>>",
  };
  return {
    name: `${kind}_${stream.name}`,
    description: `${stream.name} by ${kind === "raw" ? "hour of arrival, before compaction" : "hour of event time"}`,
    tableType: "EXTERNAL_TABLE",
    partitionKeys: ["tenant", "dt", "hh"].map((name) => ({ name, type: "string" })),
    parameters: {
      classification: kind === "raw" ? "json" : "parquet",
      "projection.enabled": "true",
      "projection.tenant.type": "injected",
      "projection.dt.type": "date",
      "projection.dt.format": "yyyy-MM-dd",
      // History is imported under its own time.
      "projection.dt.range": "2000-01-01,NOW+1DAY",
      "projection.hh.type": "integer",
      "projection.hh.range": "0,23",
      "projection.hh.digits": "2",
      "storage.location.template": `${folder}/tenant=\${tenant}/stream=${stream.name}/dt=\${dt}/hh=\${hh}/`,
    },
    storageDescriptor: {
      ...FORMATS[kind],
      location: `${folder}/`,
      columns: Object.entries(columns).map(([name, type]) => ({ name, type })),
    },
  };
}
