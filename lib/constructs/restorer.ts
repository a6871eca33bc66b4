import { Duration } from "aws-cdk-lib";
import { Construct } from "constructs";
import type { Deployment } from "../deployment.ts";
import type { BulkSnapshots } from "./bulk-snapshots.ts";
import { NodeFunction } from "./node-function.ts";
import type { OnlineStore } from "./online-store.ts";
import type { SecureTable } from "./secure-table.ts";

export interface RestorerProps {
  readonly deployment: Deployment;
  readonly store: OnlineStore;
  readonly bulkSnapshots: BulkSnapshots;
  /** The store's epoch, the restore's lease, and how far it has come. */
  readonly controlTable: SecureTable;
}

/** Writes a snapshot back into the store, when somebody runs `freshet recover` or `freshet restore`. Beside the store, as the builder. */
export class Restorer extends Construct {
  readonly fn: NodeFunction;

  constructor(scope: Construct, id: string, props: RestorerProps) {
    super(scope, id);
    const { deployment, store, bulkSnapshots, controlTable } = props;
    this.fn = new NodeFunction(this, "Restore", {
      deployment,
      name: "restore",
      description: "Writes a bulk snapshot back into the online store",
      placement: store.placement,
      timeout: Duration.minutes(15),
      // More than one processor: objects are decompressed while others are written.
      memoryMb: 3_008,
    });
    store.grantReadWrite(this.fn);
    bulkSnapshots.grantRestore(this.fn);
    controlTable.grantReadWrite(this.fn);
  }
}
