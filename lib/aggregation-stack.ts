import { CfnOutput } from "aws-cdk-lib";
import type { Construct } from "constructs";
import { Aggregator, type AggregatorProps } from "./constructs/aggregator.ts";
import { Builder } from "./constructs/builder.ts";
import { Eraser } from "./constructs/eraser.ts";
import { Materializer } from "./constructs/materializer.ts";
import { Repairer } from "./constructs/repairer.ts";
import { Replayer } from "./constructs/replayer.ts";
import { Restorer } from "./constructs/restorer.ts";
import type { SecureTable } from "./constructs/secure-table.ts";
import { Snapshotter, type SnapshotterProps } from "./constructs/snapshotter.ts";
import { Sweeper } from "./constructs/sweeper.ts";
import type { TrainingData } from "./constructs/training-data.ts";
import { Verifier } from "./constructs/verifier.ts";
import { Watchkeeper } from "./constructs/watchkeeper.ts";
import type { Deployment } from "./deployment.ts";
import { FreshetStack } from "./freshet-stack.ts";

export interface AggregationStackProps extends Omit<AggregatorProps & SnapshotterProps, "deployment"> {
  readonly jobs: SecureTable;
  readonly erasures: SecureTable;
  readonly features: SecureTable;
  readonly training: TrainingData;
}

/** Streams to online store: apply, advance the seal, sweep, keep snapshots, repair, build from the archive, run batch views, replay, erase. Stateless. */
export class AggregationStack extends FreshetStack {
  readonly aggregator: Aggregator;
  readonly watchkeeper: Watchkeeper;
  readonly sweeper: Sweeper;
  readonly snapshotter: Snapshotter;
  readonly builder: Builder;
  readonly repairer: Repairer;
  readonly verifier: Verifier;
  readonly materializer: Materializer;
  readonly eraser: Eraser;
  readonly replayer: Replayer;
  readonly restorer: Restorer;

  constructor(scope: Construct, deployment: Deployment, props: AggregationStackProps) {
    super(scope, "aggregation", { deployment, description: "Freshet: exactly-once aggregation" });
    this.aggregator = new Aggregator(this, "Aggregator", { deployment, ...props });
    this.watchkeeper = new Watchkeeper(this, "Watchkeeper", { deployment, ...props });
    // Control gives new slots their births on the promise that no older aggregate code starts any more.
    this.watchkeeper.control.node.addDependency(this.aggregator.fn);
    this.sweeper = new Sweeper(this, "Sweeper", { deployment, ...props });
    this.snapshotter = new Snapshotter(this, "Snapshotter", { deployment, ...props });
    this.builder = new Builder(this, "Builder", { deployment, ...props });
    this.repairer = new Repairer(this, "Repairer", { deployment, ...props });
    this.verifier = new Verifier(this, "Verifier", { deployment, ...props });
    this.materializer = new Materializer(this, "Materializer", { deployment, ...props });
    this.eraser = new Eraser(this, "Eraser", { deployment, ...props });
    this.replayer = new Replayer(this, "Replayer", { deployment, ...props });
    this.restorer = new Restorer(this, "Restorer", { deployment, ...props });
    for (const [name, { lambda }] of Object.entries({
      AggregateFunction: this.aggregator.fn,
      ControlFunction: this.watchkeeper.control,
      HeartbeatFunction: this.watchkeeper.heartbeat,
      SweepFunction: this.sweeper.fn,
      SnapshotFunction: this.snapshotter.fn,
      BuildFunction: this.builder.fn,
      RepairFunction: this.repairer.fn,
      VerifyFunction: this.verifier.fn,
      EraseFunction: this.eraser.fn,
      MaterializeFunction: this.materializer.fn,
      ReplayFunction: this.replayer.fn,
      RestoreFunction: this.restorer.fn,
    })) {
      new CfnOutput(this, name, { value: lambda.functionName });
    }
  }
}
