import { Duration } from "aws-cdk-lib";
import { EventSourceMapping, FilterCriteria, FilterRule, StartingPosition } from "aws-cdk-lib/aws-lambda";
import { Construct } from "constructs";
import type { Deployment } from "../deployment.ts";
import type { Archive } from "./archive.ts";
import { NodeFunction } from "./node-function.ts";
import type { SecureTable } from "./secure-table.ts";

export interface HistoricalRunnerProps {
  readonly deployment: Deployment;
  readonly archive: Archive;
  readonly jobs: SecureTable;
}

/**
 * Runs the jobs of `POST /v1/features/historical`. The table wakes it, since the function that takes a job is in the VPC, from
 * where Lambda cannot be called. Out of the VPC itself: it reads S3 and writes S3.
 */
export class HistoricalRunner extends Construct {
  readonly fn: NodeFunction;

  constructor(scope: Construct, id: string, props: HistoricalRunnerProps) {
    super(scope, id);
    const { deployment, archive, jobs } = props;
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
    archive.grantHistorical(this.fn);
    jobs.grantReadWrite(this.fn);
    jobs.grantChanges(this.fn);
    new EventSourceMapping(this, "FromJobs", {
      target: this.fn.lambda,
      eventSourceArn: jobs.changesArn,
      startingPosition: StartingPosition.TRIM_HORIZON,
      // One at a time: a job may need the whole function. A tenant's next one runs beside it, in another.
      batchSize: 1,
      parallelizationFactor: 4,
      // What fails is the job's state, so a retry is for a function that died before it could take the job.
      retryAttempts: 2,
      filters: [FilterCriteria.filter({ eventName: FilterRule.isEqual("INSERT") })],
    });
  }
}
