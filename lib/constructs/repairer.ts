import { Duration } from "aws-cdk-lib";
import { ComparisonOperator, TreatMissingData } from "aws-cdk-lib/aws-cloudwatch";
import { EventSourceMapping, FilterCriteria, FilterRule, StartingPosition } from "aws-cdk-lib/aws-lambda";
import { Construct } from "constructs";
import type { Deployment } from "../deployment.ts";
import type { Archive } from "./archive.ts";
import { type Board, graph } from "./board.ts";
import { labelled, type StreamMetric, streamMetric } from "./metrics.ts";
import { NodeFunction } from "./node-function.ts";
import type { OnlineStore } from "./online-store.ts";
import { Schedule } from "./schedule.ts";
import type { SecureTable } from "./secure-table.ts";

export interface RepairerProps {
  readonly deployment: Deployment;
  readonly store: OnlineStore;
  readonly archive: Archive;
  readonly lateQueue: SecureTable;
  /** The store's epoch, who works below a seal, and when streams began. */
  readonly controlTable: SecureTable;
}

/** The invocation that queued an item archives its event a moment later. */
const WINDOW = Duration.seconds(5);
/** Within this an event that came below the seal is to be in every feature. */
const LAG = Duration.minutes(30);

/**
 * Folds events that came below the seal into what has been made of their tiles. The late queue wakes it; each minute it looks for
 * what is left: what was not archived yet, what a build kept waiting, what failed.
 */
export class Repairer extends Construct {
  readonly fn: NodeFunction;
  private readonly deployment: Deployment;

  constructor(scope: Construct, id: string, props: RepairerProps) {
    super(scope, id);
    const { deployment, store, archive, lateQueue, controlTable } = props;
    this.deployment = deployment;
    this.fn = new NodeFunction(this, "Repair", {
      deployment,
      name: "repair",
      description: "Folds events that came below the seal into their tiles, by the archive",
      placement: store.placement,
      timeout: Duration.minutes(5),
      memoryMb: 2_048,
      // A mirror of the archive's objects that late events lie in.
      diskMb: 4_096,
    });
    store.grantReadWrite(this.fn);
    archive.grantRead(this.fn);
    archive.grantWrite(this.fn);
    controlTable.grantRead(this.fn);
    lateQueue.grantWork(this.fn);
    lateQueue.grantChanges(this.fn);
    new EventSourceMapping(this, "FromLateQueue", {
      target: this.fn.lambda,
      eventSourceArn: lateQueue.changesArn,
      startingPosition: StartingPosition.TRIM_HORIZON,
      batchSize: 500,
      maxBatchingWindow: WINDOW,
      // The table keeps what is left, and each minute it is looked for.
      retryAttempts: 1,
      filters: [FilterCriteria.filter({ eventName: FilterRule.isEqual("INSERT") })],
    });
    new Schedule(this, "EveryMinute", { deployment, fn: this.fn, every: Duration.minutes(1) });
  }

  watch(board: Board): void {
    const names = this.deployment.plan.streams.map(({ name }) => name);
    const each = (metric: StreamMetric, statistic: string) =>
      names.map((name) => labelled(name, streamMetric(metric, name, statistic)));
    board.row("Repair", [
      graph("Repaired a minute", each("Repaired", "Sum")),
      graph("Late events that wait, times their entities", each("RepairPending", "Maximum")),
      graph("Arrival of the oldest that waits, ms ago", each("RepairLagMs", "Maximum")),
    ]);
    for (const of of names) {
      board.alarm({
        runbook: "repair-lag",
        of,
        meaning: `A late event of ${of} has waited for more than ${LAG.toMinutes()} minutes to be repaired, or nobody looks.`,
        metric: streamMetric("RepairLagMs", of, "Maximum", Duration.minutes(5)),
        comparison: ComparisonOperator.GREATER_THAN_THRESHOLD,
        threshold: LAG.toMilliseconds(),
        periods: 2,
        missingData: TreatMissingData.BREACHING,
        missingDataReason:
          "each round writes it, 0 when nothing waits, so silence means that no round comes to its end",
      });
      board.alarm({
        runbook: "repair-failed",
        of,
        meaning: `Repairs of ${of} fail: an event that the store's code cannot take, or the archive, the queue or the store refuses.`,
        metric: streamMetric("RepairFailed", of, "Sum", Duration.minutes(15)),
        comparison: ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
        threshold: 1,
        periods: 2,
        missingData: TreatMissingData.NOT_BREACHING,
        missingDataReason: "a function that does not run raises repair-lag",
      });
    }
  }
}
