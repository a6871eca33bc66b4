import { Duration } from "aws-cdk-lib";
import { ComparisonOperator, TreatMissingData } from "aws-cdk-lib/aws-cloudwatch";
import { EventSourceMapping, FilterCriteria, FilterRule, StartingPosition } from "aws-cdk-lib/aws-lambda";
import { Construct } from "constructs";
import type { Deployment } from "../deployment.ts";
import type { Archive } from "./archive.ts";
import { type Board, graph } from "./board.ts";
import type { BulkSnapshots } from "./bulk-snapshots.ts";
import { serviceMetric } from "./metrics.ts";
import { NodeFunction } from "./node-function.ts";
import type { OnlineStore } from "./online-store.ts";
import type { Quarantine } from "./quarantine.ts";
import { Schedule } from "./schedule.ts";
import type { SecureTable } from "./secure-table.ts";
import type { TrainingData } from "./training-data.ts";

export interface EraserProps {
  readonly deployment: Deployment;
  readonly store: OnlineStore;
  readonly archive: Archive;
  readonly quarantine: Quarantine;
  readonly lateQueue: SecureTable;
  readonly snapshots: SecureTable;
  readonly bulkSnapshots: BulkSnapshots;
  readonly controlTable: SecureTable;
  readonly erasures: SecureTable;
  readonly training: TrainingData;
}

/** What a person was promised. */
const PROMISED = Duration.hours(24);

/** Takes entities out of everything that holds them. A request wakes it, and each five minutes it goes on with what is under way. */
export class Eraser extends Construct {
  readonly fn: NodeFunction;

  constructor(scope: Construct, id: string, props: EraserProps) {
    super(scope, id);
    const { deployment, store, archive, quarantine, lateQueue, snapshots, bulkSnapshots } = props;
    const { controlTable, erasures, training } = props;
    this.fn = new NodeFunction(this, "Erase", {
      deployment,
      name: "erase",
      description: "Takes entities out of the online store, the archive and everything else that holds them",
      placement: store.placement,
      timeout: Duration.minutes(15),
      memoryMb: 3_072,
      // Objects lie here while they are rewritten, beside what DuckDB spills.
      diskMb: 4_096,
    });
    store.grantReadWrite(this.fn);
    archive.grantErase(this.fn);
    quarantine.grantErase(this.fn);
    training.grantLook(this.fn);
    lateQueue.grantErase(this.fn);
    snapshots.grantErase(this.fn);
    bulkSnapshots.grantErase(this.fn);
    controlTable.grantRead(this.fn);
    erasures.grantReadWrite(this.fn);
    erasures.grantErase(this.fn);
    erasures.grantChanges(this.fn);
    new EventSourceMapping(this, "FromErasures", {
      target: this.fn.lambda,
      eventSourceArn: erasures.changesArn,
      startingPosition: StartingPosition.TRIM_HORIZON,
      batchSize: 10,
      // What fails is taken up by the schedule.
      retryAttempts: 1,
      filters: [
        FilterCriteria.filter({
          eventName: FilterRule.isEqual("INSERT"),
          dynamodb: { Keys: { pk: { S: FilterRule.beginsWith("erasure#") } } },
        }),
      ],
    });
    new Schedule(this, "EveryFiveMinutes", { deployment, fn: this.fn, every: Duration.minutes(5) });
  }

  watch(board: Board): void {
    const oldest = serviceMetric("ErasureOldestMs", "erase", "Maximum");
    board.row("Erasure", [graph("Oldest erasure that is not confirmed, ms", [oldest])]);
    board.alarm({
      runbook: "erasure-overdue",
      meaning: "An erasure was asked for a day ago and is not confirmed yet.",
      metric: oldest,
      comparison: ComparisonOperator.GREATER_THAN_THRESHOLD,
      threshold: PROMISED.toMilliseconds(),
      periods: 1,
      missingData: TreatMissingData.NOT_BREACHING,
      missingDataReason: "the function writes it each five minutes; one that fails raises its own alarm",
    });
  }
}
