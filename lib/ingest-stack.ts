import { CfnOutput } from "aws-cdk-lib";
import type { Construct } from "constructs";
import type { AuditTrail } from "./constructs/audit-trail.ts";
import type { EventStreams } from "./constructs/event-streams.ts";
import { NodeFunction } from "./constructs/node-function.ts";
import type { OnlineStore } from "./constructs/online-store.ts";
import { grantRegistry } from "./constructs/schema-registry.ts";
import type { SecureTable } from "./constructs/secure-table.ts";
import type { Deployment } from "./deployment.ts";
import { FreshetStack } from "./freshet-stack.ts";
import { ingestUsesStore } from "./ingest-placement.ts";

export interface IngestStackProps {
  readonly streams: EventStreams;
  readonly keys: SecureTable;
  readonly store: OnlineStore;
  readonly audit: AuditTrail;
}

/** HTTP events to the broker: from outside of the VPC, unless the broker is in it, or it needs the store itself. Stateless. */
export class IngestStack extends FreshetStack {
  readonly fn: NodeFunction;

  constructor(scope: Construct, deployment: Deployment, props: IngestStackProps) {
    super(scope, "ingest", { deployment, description: "Freshet: ingest" });
    const usesStore = ingestUsesStore(deployment);
    this.fn = new NodeFunction(this, "Ingest", {
      deployment,
      name: "ingest",
      description: "Checks events against their contract and puts them on their stream",
      placement: usesStore ? props.store.placement : props.streams.placement,
      memoryMb: deployment.stage.api.memoryMb,
    });
    if (usesStore) props.store.grantRead(this.fn);
    props.keys.grantLookUp(this.fn);
    this.fn.set("limits", JSON.stringify(deployment.stage.limits));
    props.streams.grantPut(this.fn);
    props.audit.grantAdd(this.fn);
    grantRegistry(this.fn, deployment);
    new CfnOutput(this, "IngestFunction", { value: this.fn.lambda.functionName });
  }
}
