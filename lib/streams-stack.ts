import { CfnOutput } from "aws-cdk-lib";
import type { Construct } from "constructs";
import { dataKey } from "./constructs/data-key.ts";
import { EventStreams } from "./constructs/event-streams.ts";
import type { Deployment } from "./deployment.ts";
import { FreshetStack } from "./freshet-stack.ts";

/** The broker: one encrypted stream for each that the plan declares. Stateful. */
export class StreamsStack extends FreshetStack {
  readonly streams: EventStreams;

  constructor(scope: Construct, deployment: Deployment) {
    super(scope, "streams", { deployment, description: "Freshet: event streams" });
    const key = dataKey(this, deployment, "streams");
    this.streams = new EventStreams(this, "Events", { deployment, key });
    new CfnOutput(this, "Streams", {
      value: this.streams.namesJson(this),
      description: "Kinesis stream of each stream in the plan, as JSON",
    });
  }
}
