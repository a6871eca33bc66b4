import { CfnOutput } from "aws-cdk-lib";
import type { Construct } from "constructs";
import type { EventStreams } from "./constructs/event-streams.ts";
import type { OnlineStore } from "./constructs/online-store.ts";
import type { Deployment } from "./deployment.ts";
import { FreshetStack } from "./freshet-stack.ts";

/** The broker: one stream for each that the plan declares. Stateful. */
export class StreamsStack extends FreshetStack {
  readonly streams: EventStreams;

  /** @param props.store in whose network a broker is that is not a service of its own */
  constructor(scope: Construct, deployment: Deployment, props: { readonly store: OnlineStore }) {
    super(scope, "streams", { deployment, description: "Freshet: event streams" });
    this.streams = deployment.target.broker.eventStreams(this, "Events", deployment, props.store);
    new CfnOutput(this, "Streams", {
      value: this.streams.namesJson(this),
      description: "Stream or topic of each stream in the plan, as JSON",
    });
    for (const [name, value] of Object.entries(this.streams.outputs)) new CfnOutput(this, name, { value });
  }
}
