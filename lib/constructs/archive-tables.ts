import { Aws } from "aws-cdk-lib";
import { CfnDatabase, CfnTable } from "aws-cdk-lib/aws-glue";
import { Construct } from "constructs";
import type { FieldType, Stream } from "../../core/plan.ts";
import { type Deployment, physicalName } from "../deployment.ts";
import type { Archive } from "./archive.ts";

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
 * none is ever registered, and a query has to name its tenant, which keeps one tenant's queries off another's objects.
 */
export class ArchiveTables extends Construct {
  constructor(scope: Construct, id: string, { deployment, archive }: ArchiveTablesProps) {
    super(scope, id);
    const databaseName = physicalName(deployment, "archive").replaceAll("-", "_");
    const database = new CfnDatabase(this, "Database", {
      catalogId: Aws.ACCOUNT_ID,
      databaseInput: { name: databaseName, description: "Freshet: every record that was consumed, with its fate" },
    });
    for (const stream of deployment.plan.streams) {
      for (const kind of ["raw", "compacted"] as const) {
        const table = new CfnTable(this, `${kind}-${stream.name}`, {
          catalogId: Aws.ACCOUNT_ID,
          databaseName,
          tableInput: tableOf(kind, stream, `s3://${archive.bucket.bucketName}/${kind}`),
        });
        table.node.addDependency(database);
      }
    }
  }
}

function tableOf(kind: keyof typeof FORMATS, stream: Stream, folder: string): CfnTable.TableInputProperty {
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
