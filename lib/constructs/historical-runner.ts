import { Duration } from "aws-cdk-lib";
import { Construct } from "constructs";
import type { Deployment } from "../deployment.ts";
import type { Archive } from "./archive.ts";
import type { ArchiveTables } from "./archive-tables.ts";
import { wakeByJobs } from "./job-source.ts";
import { NodeFunction } from "./node-function.ts";
import type { SecureTable } from "./secure-table.ts";

export interface HistoricalRunnerProps {
  readonly deployment: Deployment;
  readonly archive: Archive;
  /** Null where there is no engine for ranges that a function cannot hold. */
  readonly tables: ArchiveTables | null;
  readonly jobs: SecureTable;
}

/**
 * Runs the jobs of `POST /v1/features/historical`. Out of the VPC: it reads S3 and writes S3.
 */
export class HistoricalRunner extends Construct {
  readonly fn: NodeFunction;

  constructor(scope: Construct, id: string, props: HistoricalRunnerProps) {
    super(scope, id);
    const { deployment, archive, tables, jobs } = props;
    this.fn = new NodeFunction(this, "Historical", {
      deployment,
      name: "historical",
      description: "Joins features to instants of the past, for the jobs that the API has taken",
      timeout: Duration.minutes(15),
      // Two processors, and room for a mirror of the archive's objects and for what DuckDB spills.
      memoryMb: 4_096,
      diskMb: 10_240,
    });
    archive.grantRead(this.fn);
    archive.grantReadScores(this.fn);
    archive.grantHistorical(this.fn);
    archive.grantClearHistorical(this.fn);
    tables?.grantQuery(this.fn);
    // A tenant's next job runs beside the one that it has.
    wakeByJobs(this, jobs, this.fn, 4);
  }
}
