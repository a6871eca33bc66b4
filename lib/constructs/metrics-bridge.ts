import { Duration } from "aws-cdk-lib";
import { FilterPattern, SubscriptionFilter } from "aws-cdk-lib/aws-logs";
import { LambdaDestination } from "aws-cdk-lib/aws-logs-destinations";
import { Construct } from "constructs";
import type { Deployment } from "../deployment.ts";
import { NodeFunction } from "./node-function.ts";

export interface MetricsBridgeProps {
  readonly deployment: Deployment;
  readonly functions: readonly NodeFunction[];
}

/**
 * Where CloudWatch does not take metrics out of logs by itself: log lines in the embedded metric format go to a function
 * that puts them as metrics. Its own log is not among them, or it would feed itself.
 */
export class MetricsBridge extends Construct {
  constructor(scope: Construct, id: string, props: MetricsBridgeProps) {
    super(scope, id);
    const bridge = new NodeFunction(this, "Bridge", {
      deployment: props.deployment,
      name: "metrics-bridge",
      description: "Puts the metrics that other functions wrote to their logs",
      timeout: Duration.seconds(30),
      memoryMb: 256,
    });
    bridge.allow(["cloudwatch:PutMetricData"], ["*"]);
    for (const fn of props.functions) {
      new SubscriptionFilter(this, `From-${fn.name}`, {
        logGroup: fn.logGroup,
        destination: new LambdaDestination(bridge.lambda),
        filterPattern: FilterPattern.literal('"_aws"'),
      });
    }
  }
}
