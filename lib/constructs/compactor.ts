import { Duration } from "aws-cdk-lib";
import { ComparisonOperator, TreatMissingData } from "aws-cdk-lib/aws-cloudwatch";
import { Construct } from "constructs";
import { PUSHED_VALUES } from "../../core/retention.ts";
import type { Deployment } from "../deployment.ts";
import type { Archive } from "./archive.ts";
import { type Board, graph } from "./board.ts";
import { labelled, streamMetric } from "./metrics.ts";
import { NodeFunction } from "./node-function.ts";
import { Schedule } from "./schedule.ts";

export interface CompactorProps {
  readonly deployment: Deployment;
  readonly archive: Archive;
}

const EVERY = Duration.hours(1);

/** Turns raw objects into Parquet by event time, hourly, and a day's pushed values into few objects. Two at once are safe, so nothing keeps them apart. */
export class Compactor extends Construct {
  readonly fn: NodeFunction;
  private readonly deployment: Deployment;

  constructor(scope: Construct, id: string, props: CompactorProps) {
    super(scope, id);
    const { deployment, archive } = props;
    const { graceHours, compactionMemoryMb } = deployment.stage.archive;
    this.deployment = deployment;
    this.fn = new NodeFunction(this, "Compact", {
      deployment,
      name: "compact",
      description: "Turns the archive's raw objects into Parquet by event time, each event once",
      timeout: Duration.minutes(15),
      memoryMb: compactionMemoryMb,
      // A batch, the hours that it touches, and what DuckDB spills.
      diskMb: 10_240,
    });
    archive.grantCompact(this.fn);
    this.fn.set("archiveGraceMs", String(Duration.hours(graceHours).toMilliseconds()));
    new Schedule(this, "Hourly", { deployment, fn: this.fn, every: EVERY });
  }

  watch(board: Board): void {
    const { plan } = this.deployment;
    const each = (...names: Parameters<typeof streamMetric>[0][]) =>
      plan.streams.flatMap(({ name }) =>
        names.map((metric) => labelled(name, streamMetric(metric, name, "Sum", EVERY))),
      );
    board.row("Archive", [
      graph("Rows compacted in an hour", each("RowsCompacted")),
      graph("Raw objects left waiting", each("ObjectsWaiting")),
      graph("Reused event ids that compaction found", each("PayloadConflicts", "TimeConflicts")),
    ]);
    for (const of of [...plan.streams.map(({ name }) => name), PUSHED_VALUES]) {
      board.alarm({
        runbook: "compaction-blocked",
        of,
        meaning: `Objects of ${of} could not be compacted: one is damaged or of an unknown version, or the archive's bucket refuses.`,
        metric: streamMetric("CompactionBlocked", of, "Sum", EVERY),
        comparison: ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
        threshold: 1,
        periods: 2,
        missingData: TreatMissingData.BREACHING,
        missingDataReason: "each run writes it, 0 when all went well, so silence means that compaction does not run",
      });
    }
  }
}
