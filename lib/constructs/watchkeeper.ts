import { Duration } from "aws-cdk-lib";
import { ComparisonOperator, TreatMissingData } from "aws-cdk-lib/aws-cloudwatch";
import { Construct } from "constructs";
import type { Deployment } from "../deployment.ts";
import { type Board, graph } from "./board.ts";
import type { EventStreams } from "./event-streams.ts";
import { labelled, serviceMetric, streamMetric } from "./metrics.ts";
import { NodeFunction } from "./node-function.ts";
import type { OnlineStore } from "./online-store.ts";
import { Schedule } from "./schedule.ts";
import type { SecureTable } from "./secure-table.ts";

/** As the control loop has it: how far the seal stays behind beyond lateness and the function's timeout. */
const SEAL_MARGIN_MS = 60_000;

export interface WatchkeeperProps {
  readonly deployment: Deployment;
  readonly streams: EventStreams;
  readonly store: OnlineStore;
  readonly controlTable: SecureTable;
}

/**
 * Advances the seal each minute. It takes two functions: the shards are known to Kinesis, which a function inside the VPC
 * cannot reach, and the registrations are in the store, which one outside cannot reach. So the heartbeat lists the shards,
 * puts a heartbeat on each, and hands the list to control.
 */
export class Watchkeeper extends Construct {
  readonly heartbeat: NodeFunction;
  readonly control: NodeFunction;
  private readonly deployment: Deployment;

  constructor(scope: Construct, id: string, props: WatchkeeperProps) {
    super(scope, id);
    const { deployment, streams, store, controlTable } = props;
    this.deployment = deployment;
    this.control = new NodeFunction(this, "Control", {
      deployment,
      name: "control",
      description: "Creates the store's control hashes, loads its function library and advances the seal",
      placement: store.placement,
      timeout: Duration.seconds(50),
    });
    store.grantReadWrite(this.control);
    controlTable.grantReadWrite(this.control);
    this.control.set("aggregateTimeoutMs", String(deployment.stage.aggregation.timeoutSeconds * 1_000));
    this.heartbeat = new NodeFunction(this, "Heartbeat", {
      deployment,
      name: "heartbeat",
      description: "Puts a heartbeat on every open shard and hands the list of shards to control",
      placement: streams.placement,
      // Less than its period: two at once would only repeat each other.
      timeout: Duration.seconds(55),
      memoryMb: 256,
    });
    streams.grantHeartbeat(this.heartbeat);
    this.control.grantInvoke(this.heartbeat, "controlFunction");
    new Schedule(this, "EveryMinute", { deployment, fn: this.heartbeat, every: Duration.minutes(1) });
  }

  watch(board: Board): void {
    const { plan, stage } = this.deployment;
    const bucketsNotOk = serviceMetric("BucketsNotOk", "control", "Maximum");
    board.row("Store", [
      graph("Buckets that are not ok", [bucketsNotOk]),
      graph(
        "Seal behind the clock, ms",
        plan.streams.map(({ name }) => labelled(name, streamMetric("SealLagMs", name, "Maximum"))),
      ),
    ]);
    board.alarm({
      runbook: "store-state",
      meaning: "The online store has failed over, is being restored or is lost, or the control function does not run.",
      metric: bucketsNotOk,
      comparison: ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
      threshold: 1,
      // None of these ends by itself; three minutes let a deployment create the store.
      periods: 3,
      missingData: TreatMissingData.BREACHING,
      missingDataReason: "control runs each minute and writes it, so silence means that nobody keeps the store",
    });
    for (const { name: of, allowedLatenessMs } of plan.streams) {
      const dueMs = allowedLatenessMs + stage.aggregation.timeoutSeconds * 1_000 + SEAL_MARGIN_MS;
      board.alarm({
        runbook: "seal-lag",
        of,
        meaning: `The seal of ${of} stands more than ${stage.alarms.sealBehindMs / 60_000} minutes behind where it should be: memory fills and nothing is folded.`,
        metric: streamMetric("SealLagMs", of, "Maximum"),
        comparison: ComparisonOperator.GREATER_THAN_THRESHOLD,
        threshold: dueMs + stage.alarms.sealBehindMs,
        periods: 5,
        missingData: TreatMissingData.NOT_BREACHING,
        missingDataReason: "a control function that writes nothing raises store-state",
      });
    }
  }
}
