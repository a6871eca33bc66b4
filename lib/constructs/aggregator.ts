import { Duration } from "aws-cdk-lib";
import { ComparisonOperator, TreatMissingData } from "aws-cdk-lib/aws-cloudwatch";
import { Construct } from "constructs";
import type { Deployment } from "../deployment.ts";
import type { Archive } from "./archive.ts";
import { type Board, graph } from "./board.ts";
import type { EventStreams } from "./event-streams.ts";
import { labelled, type StreamMetric, streamMetric } from "./metrics.ts";
import { NodeFunction } from "./node-function.ts";
import type { OnlineStore } from "./online-store.ts";
import type { Quarantine } from "./quarantine.ts";
import { grantSchemas } from "./schema-registry.ts";
import type { SecureTable } from "./secure-table.ts";

export interface AggregatorProps {
  readonly deployment: Deployment;
  readonly streams: EventStreams;
  readonly store: OnlineStore;
  readonly archive: Archive;
  readonly quarantine: Quarantine;
  readonly lateQueue: SecureTable;
  /** Tells the epoch that applies carry. */
  readonly controlTable: SecureTable;
}

/** Broker to Valkey: the function that applies events exactly once, and what hands it the batches of each stream. */
export class Aggregator extends Construct {
  readonly fn: NodeFunction;
  private readonly deployment: Deployment;

  constructor(scope: Construct, id: string, props: AggregatorProps) {
    super(scope, id);
    const { deployment, streams, store, archive, quarantine, lateQueue, controlTable } = props;
    const { aggregation } = deployment.stage;
    this.deployment = deployment;
    this.fn = new NodeFunction(this, "Aggregate", {
      deployment,
      name: "aggregate",
      description: "Applies the events of a batch to the online store and archives their fate",
      placement: store.placement,
      memoryMb: aggregation.memoryMb,
      timeout: Duration.seconds(aggregation.timeoutSeconds),
    });
    store.grantReadWrite(this.fn);
    archive.grantWrite(this.fn);
    grantSchemas(this.fn, deployment, archive);
    quarantine.grantWrite(this.fn);
    lateQueue.grantWrite(this.fn);
    controlTable.grantRead(this.fn);
    streams.deliver(this, this.fn, quarantine.failureDestination(this.fn));
  }

  watch(board: Board): void {
    const { plan, stage } = this.deployment;
    const names = plan.streams.map(({ name }) => name);
    const each = (metric: StreamMetric, statistic: string) =>
      names.map((name) => labelled(name, streamMetric(metric, name, statistic)));
    board.row("Events", [
      graph("Applied and received a minute", each("Applied", "Sum"), each("EventsIn", "Sum")),
      graph("Duplicates and late a minute", each("Duplicates", "Sum"), each("Late", "Sum")),
      graph(
        "Quarantined, and reused event ids, a minute",
        each("Quarantined", "Sum"),
        each("IdentityConflicts", "Sum"),
      ),
    ]);
    board.row("Freshness", [
      graph("From arrival to servable, p50 and p99, ms", [
        ...each("FreshnessMs", "p50"),
        ...each("FreshnessMs", "p99"),
      ]),
      graph("Lag behind the stream, ms", each("IteratorLagMs", "Maximum")),
      graph("Applies blocked a minute", each("ApplyBlocked", "Sum")),
    ]);
    for (const of of names) {
      board.alarm({
        runbook: "applies-blocked",
        of,
        meaning: `Events of ${of} cannot be applied: the online store refuses or does not answer. They wait in the stream.`,
        metric: streamMetric("ApplyBlocked", of, "Sum"),
        comparison: ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
        threshold: 1,
        periods: 5,
        // Not one: a failover takes a minute or less and needs nobody.
        datapoints: 3,
        missingData: TreatMissingData.NOT_BREACHING,
        missingDataReason: "the metric is written only by a blocked apply; a silent function is the lag alarm's matter",
      });
      board.alarm({
        runbook: "stream-lag",
        of,
        meaning: `The newest applied batch of ${of} arrived more than ${stage.alarms.lagMs / 1_000} s earlier, or nothing is read at all.`,
        metric: streamMetric("IteratorLagMs", of, "Maximum"),
        comparison: ComparisonOperator.GREATER_THAN_THRESHOLD,
        threshold: stage.alarms.lagMs,
        periods: 5,
        missingData: TreatMissingData.BREACHING,
        missingDataReason: "every shard gets a heartbeat each minute, so silence means that nobody reads the stream",
      });
      board.alarm({
        runbook: "quarantine-rate",
        of,
        meaning: `More than ${stage.alarms.quarantined} events of ${of} in five minutes could not be decoded or broke their contract.`,
        metric: streamMetric("Quarantined", of, "Sum", Duration.minutes(5)),
        comparison: ComparisonOperator.GREATER_THAN_THRESHOLD,
        threshold: stage.alarms.quarantined,
        periods: 1,
        missingData: TreatMissingData.NOT_BREACHING,
        missingDataReason: "the metric is written only when something was quarantined",
      });
      board.alarm({
        runbook: "identity-conflicts",
        of,
        meaning: `A producer of ${of} has sent one event id with two times, or one event with two payloads.`,
        metric: streamMetric("IdentityConflicts", of, "Sum", Duration.minutes(5)),
        comparison: ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
        threshold: 1,
        periods: 1,
        missingData: TreatMissingData.NOT_BREACHING,
        missingDataReason: "the metric is written only when a batch holds such events",
      });
      board.alarm({
        runbook: "freshness",
        of,
        meaning: `One event of ${of} in a hundred took longer than ${stage.alarms.freshnessP99Ms} ms from its arrival to a servable feature.`,
        metric: streamMetric("FreshnessMs", of, "p99"),
        comparison: ComparisonOperator.GREATER_THAN_THRESHOLD,
        threshold: stage.alarms.freshnessP99Ms,
        periods: 10,
        datapoints: 8,
        missingData: TreatMissingData.NOT_BREACHING,
        missingDataReason: "a stream without events has nothing that could be stale",
      });
    }
  }
}
