import { Duration } from "aws-cdk-lib";
import { ComparisonOperator, TreatMissingData } from "aws-cdk-lib/aws-cloudwatch";
import { Construct } from "constructs";
import type { Deployment } from "../deployment.ts";
import { type Board, graph } from "./board.ts";
import { serviceMetric } from "./metrics.ts";
import { NodeFunction } from "./node-function.ts";
import type { OnlineStore } from "./online-store.ts";
import { Schedule } from "./schedule.ts";
import type { SecureTable } from "./secure-table.ts";

export interface SnapshotterProps {
  readonly deployment: Deployment;
  readonly store: OnlineStore;
  readonly snapshots: SecureTable;
}

/** Rounds that may be missed before somebody is told. */
const MISSED_ROUNDS = 3;

/** Keeps the snapshots that answer while the online store does not, in rounds over what has changed. */
export class Snapshotter extends Construct {
  readonly fn: NodeFunction;
  private readonly deployment: Deployment;

  constructor(scope: Construct, id: string, props: SnapshotterProps) {
    super(scope, id);
    const { deployment, store, snapshots } = props;
    this.deployment = deployment;
    this.fn = new NodeFunction(this, "Snapshot", {
      deployment,
      name: "snapshot",
      description: "Writes entities that have changed since the last round to the table that stands in for the store",
      placement: store.placement,
      timeout: Duration.minutes(15),
      memoryMb: 1_024,
    });
    store.grantRead(this.fn);
    snapshots.grantBatchRead(this.fn);
    snapshots.grantWrite(this.fn);
    new Schedule(this, "EachRound", { deployment, fn: this.fn, every: this.every });
  }

  watch(board: Board): void {
    const { entities } = this.deployment.plan;
    if (!entities.some(({ fallback }) => fallback)) return;
    const age = serviceMetric("SnapshotAgeMs", "snapshot", "Maximum");
    board.row("Snapshots", [
      graph("Newest complete round, ms ago", [age]),
      graph("Items written", [serviceMetric("SnapshotsWritten", "snapshot", "Sum")]),
      graph("Entities too large for an item", [serviceMetric("SnapshotsTooLarge", "snapshot", "Maximum")]),
    ]);
    board.alarm({
      runbook: "snapshot-late",
      meaning: `Snapshots are older than ${MISSED_ROUNDS} rounds: what stands in for the online store grows old.`,
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
