import { Duration } from "aws-cdk-lib";
import { ComparisonOperator, TreatMissingData } from "aws-cdk-lib/aws-cloudwatch";
import { Construct } from "constructs";
import type { Deployment } from "../deployment.ts";
import type { Archive } from "./archive.ts";
import { type Board, graph } from "./board.ts";
import { wakeByJobs } from "./job-source.ts";
import { labelled, pushedMetric, viewMetric } from "./metrics.ts";
import { NodeFunction } from "./node-function.ts";
import type { OnlineStore } from "./online-store.ts";
import { Schedule } from "./schedule.ts";
import type { SecureTable } from "./secure-table.ts";

export interface MaterializerProps {
  readonly deployment: Deployment;
  readonly store: OnlineStore;
  readonly archive: Archive;
  /** How far each view is. */
  readonly controlTable: SecureTable;
  /** What callers ask for. */
  readonly jobs: SecureTable;
}

/** A run that is this late is not coming by itself. */
const LATE = Duration.hours(1);

/**
 * Runs batch views when they are due. One rule for all of them looks each five minutes, rather than one for each schedule: so a
 * run that was missed is made up for, and its lateness is a metric all the while.
 */
export class Materializer extends Construct {
  readonly fn: NodeFunction;
  private readonly deployment: Deployment;

  constructor(scope: Construct, id: string, props: MaterializerProps) {
    super(scope, id);
    const { deployment, store, archive, controlTable, jobs } = props;
    this.deployment = deployment;
    this.fn = new NodeFunction(this, "Materialize", {
      deployment,
      name: "materialize",
      description: "Runs batch feature views and puts their values into the online store and its archive",
      placement: store.placement,
      timeout: Duration.minutes(15),
      memoryMb: 4_096,
      diskMb: 10_240,
    });
    store.grantReadWrite(this.fn);
    archive.grantRead(this.fn);
    archive.grantValues(this.fn);
    controlTable.grantReadWrite(this.fn);
    wakeByJobs(this, jobs, this.fn, 2);
    new Schedule(this, "EveryFiveMinutes", { deployment, fn: this.fn, every: Duration.minutes(5) });
  }

  watch(board: Board): void {
    const views = this.deployment.plan.batchViews.map(({ name }) => name);
    board.alarm({
      runbook: "pushed-missing",
      meaning:
        "The store was begun anew, and values that were pushed into it before have not come back for half an hour.",
      // The least of a quarter of an hour: runs that make headway are over it as well.
      metric: pushedMetric("PushedMissing", "Minimum"),
      comparison: ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
      threshold: 1,
      periods: 2,
      missingData: TreatMissingData.BREACHING,
      missingDataReason: "the function writes it each five minutes, so silence means that it does not run",
    });
    board.alarm({
      runbook: "values-damaged",
      meaning: "Objects of pushed values cannot be read: what is in them alone was left out of a restore.",
      metric: pushedMetric("ValuesDamaged", "Sum"),
      comparison: ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
      threshold: 1,
      periods: 1,
      missingData: TreatMissingData.NOT_BREACHING,
      missingDataReason: "a function that does not run raises pushed-missing",
    });
    board.row("Pushed values", [
      graph(
        "Values still missing after a loss (1: yes); objects that cannot be read",
        [pushedMetric("PushedMissing", "Maximum")],
        [pushedMetric("ValuesDamaged", "Sum")],
      ),
    ]);
    if (views.length === 0) return;
    const each = (name: Parameters<typeof viewMetric>[0], statistic: string) =>
      views.map((view) => labelled(view, viewMetric(name, view, statistic)));
    board.row("Batch views", [
      graph("Newest complete run, ms ago", each("ViewLagMs", "Maximum")),
      graph("Rows pushed", each("ViewRows", "Sum")),
      graph("Runs that failed", each("ViewRunFailures", "Sum")),
    ]);
    for (const of of views) {
      board.alarm({
        runbook: "view-late",
        of,
        meaning: `A run of batch view ${of} has been due for more than an hour: its values grow old.`,
        metric: viewMetric("ViewLateMs", of, "Maximum"),
        comparison: ComparisonOperator.GREATER_THAN_THRESHOLD,
        threshold: LATE.toMilliseconds(),
        periods: 2,
        missingData: TreatMissingData.BREACHING,
        missingDataReason: "the function writes it each five minutes, so silence means that nobody looks for due runs",
      });
      board.alarm({
        runbook: "view-failed",
        of,
        meaning: `Runs of batch view ${of} fail one after another: the query, the archive or the store refuses.`,
        metric: viewMetric("ViewRunFailures", of, "Sum"),
        comparison: ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
        threshold: 1,
        periods: 2,
        missingData: TreatMissingData.NOT_BREACHING,
        missingDataReason: "a function that does not run raises view-late",
      });
    }
  }
}
