import { Duration } from "aws-cdk-lib";
import { ComparisonOperator, TreatMissingData } from "aws-cdk-lib/aws-cloudwatch";
import { Construct } from "constructs";
import type { Deployment } from "../deployment.ts";
import type { Archive } from "./archive.ts";
import { type Board, graph } from "./board.ts";
import { verifyMetric } from "./metrics.ts";
import { NodeFunction } from "./node-function.ts";
import type { OnlineStore } from "./online-store.ts";
import { Schedule } from "./schedule.ts";
import type { SecureTable } from "./secure-table.ts";

export interface VerifierProps {
  readonly deployment: Deployment;
  readonly store: OnlineStore;
  readonly archive: Archive;
  /** When streams began. */
  readonly controlTable: SecureTable;
  /** What tenants have registered: values that they push are compared, too. */
  readonly features: SecureTable;
}

/** Computes a sample of entities from the archive each day, and holds what is served against it. */
export class Verifier extends Construct {
  readonly fn: NodeFunction;

  constructor(scope: Construct, id: string, props: VerifierProps) {
    super(scope, id);
    const { deployment, store, archive, controlTable, features } = props;
    this.fn = new NodeFunction(this, "Verify", {
      deployment,
      name: "verify",
      description: "Holds what the online store serves against the archive",
      placement: store.placement,
      timeout: Duration.minutes(15),
      memoryMb: 4_096,
      diskMb: 10_240,
    });
    store.grantRead(this.fn);
    archive.grantRead(this.fn);
    controlTable.grantRead(this.fn);
    features.grantRead(this.fn);
    new Schedule(this, "Daily", { deployment, fn: this.fn, every: Duration.days(1) });
  }

  watch(board: Board): void {
    board.row("Verification", [
      graph("Entities compared with the archive, and those that differ, a day", [
        verifyMetric("EntitiesVerified", "Sum"),
        verifyMetric("EntitiesDiffering", "Sum"),
      ]),
    ]);
    board.alarm({
      runbook: "online-differs-from-archive",
      meaning: "What the online store serves is not what the archive says, or nobody has compared them for a day.",
      metric: verifyMetric("EntitiesDiffering", "Sum"),
      comparison: ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
      threshold: 1,
      periods: 1,
      missingData: TreatMissingData.BREACHING,
      missingDataReason: "each day's run writes it, 0 when all was equal",
    });
  }
}
