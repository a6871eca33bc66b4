import { CfnOutput } from "aws-cdk-lib";
import type { Construct } from "constructs";
import type { EventStreams } from "./constructs/event-streams.ts";
import { NodeFunction } from "./constructs/node-function.ts";
import type { SecureTable } from "./constructs/secure-table.ts";
import type { Deployment } from "./deployment.ts";
import { FreshetStack } from "./freshet-stack.ts";

export interface IngestStackProps {
  readonly streams: EventStreams;
  readonly keys: SecureTable;
}

/** HTTP events to Kinesis, from outside of the VPC: the VPC has no way to Kinesis. Stateless. */
export class IngestStack extends FreshetStack {
  readonly fn: NodeFunction;

  constructor(scope: Construct, deployment: Deployment, props: IngestStackProps) {
    super(scope, "ingest", { deployment, description: "Freshet: ingest" });
    this.fn = new NodeFunction(this, "Ingest", {
      deployment,
      name: "ingest",
      description: "Checks events against their contract and puts them on their stream",
      memoryMb: deployment.stage.api.memoryMb,
    });
    props.keys.grantRead(this.fn);
    props.streams.grantPut(this.fn);
    new CfnOutput(this, "IngestFunction", { value: this.fn.lambda.functionName });
  }
}
