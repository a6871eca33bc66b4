import { Duration } from "aws-cdk-lib";
import { Construct } from "constructs";
import type { Deployment } from "../deployment.ts";
import type { Archive } from "./archive.ts";
import { NodeFunction } from "./node-function.ts";
import type { OnlineStore } from "./online-store.ts";
import type { SecureTable } from "./secure-table.ts";

export interface BuilderProps {
  readonly deployment: Deployment;
  readonly store: OnlineStore;
  readonly archive: Archive;
  /** The stream's lease, and how far a build has come. */
  readonly controlTable: SecureTable;
  /** For sealed events that a replay finds and that nobody has repaired. */
  readonly lateQueue: SecureTable;
}

/**
 * Builds tiles from the archive: in bulk, when somebody runs `freshet backfill`; of one entity, when somebody asks for that. Beside the store, since the store cannot be
 * reached from elsewhere; a function rather than a task, since it is needed now and then, and goes on where it was ended.
 */
export class Builder extends Construct {
  readonly fn: NodeFunction;

  constructor(scope: Construct, id: string, props: BuilderProps) {
    super(scope, id);
    const { deployment, store, archive, controlTable, lateQueue } = props;
    this.fn = new NodeFunction(this, "Build", {
      deployment,
      name: "build",
      description: "Builds tiles from the archive and puts them into the online store",
      placement: store.placement,
      timeout: Duration.minutes(15),
      // Two processors, and room for a mirror of the archive's objects and for what DuckDB spills.
      memoryMb: 4_096,
      diskMb: 10_240,
    });
    store.grantReadWrite(this.fn);
    archive.grantRead(this.fn);
    // What it counts that was late before is visible from now on.
    archive.grantWrite(this.fn);
    controlTable.grantReadWrite(this.fn);
    lateQueue.grantWrite(this.fn);
  }
}
