import { Duration } from "aws-cdk-lib";
import { ComparisonOperator, TreatMissingData } from "aws-cdk-lib/aws-cloudwatch";
import { Construct } from "constructs";
import type { Deployment } from "../deployment.ts";
import type { Archive } from "./archive.ts";
import { type Board, graph } from "./board.ts";
import type { EventStreams } from "./event-streams.ts";
import { serviceMetric } from "./metrics.ts";
import { NodeFunction } from "./node-function.ts";
import type { OnlineStore } from "./online-store.ts";
import type { Quarantine } from "./quarantine.ts";
import { Schedule } from "./schedule.ts";
import { grantSchemas } from "./schema-registry.ts";
import type { SecureTable } from "./secure-table.ts";

export interface ReplayerProps {
  readonly deployment: Deployment;
  readonly streams: EventStreams;
  readonly store: OnlineStore;
  readonly archive: Archive;
  readonly quarantine: Quarantine;
  readonly lateQueue: SecureTable;
  /** Tells the epoch that applies carry. */
  readonly controlTable: SecureTable;
}

const EVERY = Duration.minutes(1);

/** Delivers again what the mapping gave up, or what was set aside, by the aggregate function's own path. */
export class Replayer extends Construct {
  readonly fn: NodeFunction;

  constructor(scope: Construct, id: string, props: ReplayerProps) {
    super(scope, id);
    const { deployment, streams, store, archive, quarantine, lateQueue, controlTable } = props;
    this.fn = new NodeFunction(this, "Replay", {
      deployment,
      name: "replay",
      description: "Delivers events again that were given up or set aside, with the arrivals that they had",
      placement: store.placement,
      timeout: Duration.minutes(15),
      // As the aggregate function, for batches of the same size, and their objects beside them.
      memoryMb: 2_048,
    });
    store.grantReadWrite(this.fn);
    archive.grantWrite(this.fn);
    archive.grantReplay(this.fn);
    grantSchemas(this.fn, deployment, archive);
    quarantine.grantReplay(this.fn);
    lateQueue.grantWrite(this.fn);
    controlTable.grantRead(this.fn);
    streams.grantReplay(this.fn);
    new Schedule(this, "EveryMinute", { deployment, fn: this.fn, every: EVERY });
  }

  watch(board: Board): void {
    const waiting = serviceMetric("FailedBatches", "replay", "Maximum");
    board.row("Given up", [
      graph("Batches that wait in the failure bucket", [
        waiting,
        serviceMetric("FailedBatchesParked", "replay", "Maximum"),
      ]),
      graph("Batches brought back", [serviceMetric("FailedBatchesReplayed", "replay", "Sum")]),
    ]);
    board.alarm({
      runbook: "failed-batches",
      meaning:
        "Batches that the mapping gave up have not been brought back for half an hour: their events are in no feature.",
      metric: waiting.with({ period: Duration.minutes(5) }),
      comparison: ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
      threshold: 1,
      periods: 6,
      missingData: TreatMissingData.BREACHING,
      missingDataReason: "the function writes it each minute, so silence means that nobody looks",
    });
  }
}
