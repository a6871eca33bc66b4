import { Duration } from "aws-cdk-lib";
import { ComparisonOperator, type Metric, TreatMissingData } from "aws-cdk-lib/aws-cloudwatch";
import { Construct } from "constructs";
import type { Deployment } from "../deployment.ts";
import { type Board, graph } from "./board.ts";
import type { BulkSnapshots } from "./bulk-snapshots.ts";
import { serviceMetric } from "./metrics.ts";
import { NodeFunction } from "./node-function.ts";
import type { OnlineStore } from "./online-store.ts";
import { Schedule } from "./schedule.ts";
import type { SecureTable } from "./secure-table.ts";

export interface SnapshotterProps {
  readonly deployment: Deployment;
  readonly store: OnlineStore;
  readonly snapshots: SecureTable;
  readonly bulkSnapshots: BulkSnapshots;
  /** What was imported and built, for whoever restores. */
  readonly controlTable: SecureTable;
}

/** Rounds that may be missed before somebody is told. */
const MISSED_ROUNDS = 3;

/** Keeps snapshots in rounds over what has changed: those that answer while the online store does not, and those that it is restored from. */
export class Snapshotter extends Construct {
  readonly fn: NodeFunction;
  private readonly deployment: Deployment;

  constructor(scope: Construct, id: string, props: SnapshotterProps) {
    super(scope, id);
    const { deployment, store, snapshots, bulkSnapshots, controlTable } = props;
    this.deployment = deployment;
    this.fn = new NodeFunction(this, "Snapshot", {
      deployment,
      name: "snapshot",
      description: "Keeps what has changed since the last round: to stand in for the store, and to restore it from",
      placement: store.placement,
      timeout: Duration.minutes(15),
      memoryMb: 2_048,
    });
    store.grantRead(this.fn);
    snapshots.grantBatchRead(this.fn);
    snapshots.grantWrite(this.fn);
    bulkSnapshots.grantKeep(this.fn);
    controlTable.grantRead(this.fn);
    new Schedule(this, "EachRound", { deployment, fn: this.fn, every: this.every });
  }

  watch(board: Board): void {
    const { entities } = this.deployment.plan;
    const bulk = serviceMetric("BulkSnapshotAgeMs", "snapshot", "Maximum");
    board.row("Bulk snapshots", [
      graph("Newest complete round, ms ago", [bulk]),
      graph("Objects written", [serviceMetric("BulkObjectsWritten", "snapshot", "Sum")]),
      graph("Bytes written", [serviceMetric("BulkBytesWritten", "snapshot", "Sum")]),
    ]);
    this.alarmWhenOld(board, "bulk-snapshot-late", bulk, "what a lost store is restored from grows old");
    if (!entities.some(({ fallback }) => fallback)) return;
    const age = serviceMetric("SnapshotAgeMs", "snapshot", "Maximum");
    board.row("Snapshots", [
      graph("Newest complete round, ms ago", [age]),
      graph("Items written", [serviceMetric("SnapshotsWritten", "snapshot", "Sum")]),
      graph("Entities too large for an item", [serviceMetric("SnapshotsTooLarge", "snapshot", "Maximum")]),
    ]);
    this.alarmWhenOld(board, "snapshot-late", age, "what stands in for the online store grows old");
  }

  private alarmWhenOld(board: Board, runbook: string, age: Metric, what: string): void {
    board.alarm({
      runbook,
      meaning: `Snapshots are older than ${MISSED_ROUNDS} rounds: ${what}.`,
      // Written once a round.
      metric: age.with({ period: this.every }),
      comparison: ComparisonOperator.GREATER_THAN_THRESHOLD,
      threshold: MISSED_ROUNDS * this.every.toMilliseconds(),
      periods: MISSED_ROUNDS,
      missingData: TreatMissingData.BREACHING,
      missingDataReason: "the function writes it each round, so silence means that nobody keeps snapshots",
    });
  }

  private get every(): Duration {
    return Duration.minutes(this.deployment.stage.snapshots.everyMinutes);
  }
}
