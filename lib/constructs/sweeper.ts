import { Duration } from "aws-cdk-lib";
import { Construct } from "constructs";
import type { Deployment } from "../deployment.ts";
import { NodeFunction } from "./node-function.ts";
import type { OnlineStore } from "./online-store.ts";
import { Schedule } from "./schedule.ts";
import type { SecureTable } from "./secure-table.ts";

export interface SweeperProps {
  readonly deployment: Deployment;
  readonly store: OnlineStore;
  /** Tells the epoch that calls carry. */
  readonly controlTable: SecureTable;
}

/** Touches entities that have fallen silent, so that their ids below the seal go and their tiles are folded. */
export class Sweeper extends Construct {
  readonly fn: NodeFunction;

  constructor(scope: Construct, id: string, props: SweeperProps) {
    super(scope, id);
    const { deployment, store, controlTable } = props;
    this.fn = new NodeFunction(this, "Sweep", {
      deployment,
      name: "sweep",
      description: "Folds and prunes entities that no event touches any more",
      placement: store.placement,
      timeout: Duration.minutes(15),
    });
    store.grantReadWrite(this.fn);
    controlTable.grantRead(this.fn);
    new Schedule(this, "Hourly", { deployment, fn: this.fn, every: Duration.hours(1) });
  }
}
