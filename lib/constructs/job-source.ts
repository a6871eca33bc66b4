import { EventSourceMapping, FilterCriteria, FilterRule, StartingPosition } from "aws-cdk-lib/aws-lambda";
import type { Construct } from "constructs";
import type { NodeFunction } from "./node-function.ts";
import type { SecureTable } from "./secure-table.ts";

/**
 * Lets the table of jobs wake a function that does them: who takes a request is in the VPC, from where Lambda cannot be called.
 * Of a table's changes AWS lets two functions be woken: a third kind of job is done by one of those.
 * @param atOnce jobs of one part of the table; each may need a whole invocation, so each has its own
 */
export function wakeByJobs(scope: Construct, jobs: SecureTable, fn: NodeFunction, atOnce: number): void {
  jobs.grantReadWrite(fn);
  jobs.grantChanges(fn);
  new EventSourceMapping(scope, "FromJobs", {
    target: fn.lambda,
    eventSourceArn: jobs.changesArn,
    startingPosition: StartingPosition.TRIM_HORIZON,
    batchSize: 1,
    parallelizationFactor: atOnce,
    // What fails is the job's state, so a retry is for a function that died before it could take the job.
    retryAttempts: 2,
    filters: [FilterCriteria.filter({ eventName: FilterRule.isEqual("INSERT") })],
  });
}
