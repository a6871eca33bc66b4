import { Stack } from "aws-cdk-lib";
import { StringParameter } from "aws-cdk-lib/aws-ssm";
import { Construct } from "constructs";
import { type Deployment, physicalName } from "../deployment.ts";
import type { EventStreams } from "./event-streams.ts";
import type { NodeFunction } from "./node-function.ts";

export interface EndpointTopicsProps {
  readonly deployment: Deployment;
  /** host:port, comma-separated, as the functions see them. */
  readonly bootstrapServers: string;
}

/** Topics of a Kafka that is already there: nothing to make, no permission to give, and a runner beside it in place of a mapping. */
export class EndpointTopics extends Construct implements EventStreams {
  readonly placement = undefined;
  readonly outputs: Readonly<Record<string, string>>;
  private readonly deployment: Deployment;
  private readonly bootstrapServers: string;

  constructor(scope: Construct, id: string, props: EndpointTopicsProps) {
    super(scope, id);
    this.deployment = props.deployment;
    this.bootstrapServers = props.bootstrapServers;
    this.outputs = {
      Broker: JSON.stringify({ kind: "kafka", bootstrapServers: props.bootstrapServers, auth: null }),
    };
    // A stack has to hold something; this one says which broker the deployment was given.
    new StringParameter(this, "Endpoint", {
      parameterName: `/${physicalName(props.deployment, "bootstrap-servers")}`,
      stringValue: props.bootstrapServers,
    });
  }

  namesJson(scope: Construct): string {
    return topicNamesJson(scope, this.deployment);
  }

  grantPut(fn: NodeFunction): void {
    this.connect(fn);
  }

  grantHeartbeat(fn: NodeFunction): void {
    this.connect(fn);
  }

  grantReplay(fn: NodeFunction): void {
    this.connect(fn);
  }

  deliver(_scope: Construct, fn: NodeFunction): void {
    this.connect(fn);
  }

  watch(): void {}

  private connect(fn: NodeFunction): void {
    fn.set("streams", this.namesJson(fn));
    fn.set("broker", "kafka");
    fn.set("bootstrapServers", this.bootstrapServers);
    // The runner does as the mapping does on AWS.
    fn.set("partialResponses", "1");
  }
}

/** Topics are named as streams are. */
export const topicNamesJson = (scope: Construct, deployment: Deployment): string =>
  Stack.of(scope).toJsonString(
    Object.fromEntries(deployment.plan.streams.map(({ name }) => [name, physicalName(deployment, name)])),
  );
