import { CfnOutput } from "aws-cdk-lib";
import type { Construct } from "constructs";
import type { Archive } from "./constructs/archive.ts";
import type { ArchiveTables } from "./constructs/archive-tables.ts";
import { Compactor } from "./constructs/compactor.ts";
import { HistoricalRunner } from "./constructs/historical-runner.ts";
import type { SecureTable } from "./constructs/secure-table.ts";
import type { Deployment } from "./deployment.ts";
import { FreshetStack } from "./freshet-stack.ts";

export interface OfflineStackProps {
  readonly archive: Archive;
  /** Null where there is no engine for ranges that a function cannot hold. */
  readonly tables: ArchiveTables | null;
  readonly jobs: SecureTable;
}

/** Keeps the offline store in the shape that queries want, and answers from it. Stateless. */
export class OfflineStack extends FreshetStack {
  readonly compactor: Compactor;
  readonly historical: HistoricalRunner;

  constructor(scope: Construct, deployment: Deployment, props: OfflineStackProps) {
    super(scope, "offline", { deployment, description: "Freshet: compaction of the archive, and jobs over it" });
    this.compactor = new Compactor(this, "Compactor", { deployment, ...props });
    this.historical = new HistoricalRunner(this, "Historical", { deployment, ...props });
    new CfnOutput(this, "CompactFunction", { value: this.compactor.fn.lambda.functionName });
  }
}
