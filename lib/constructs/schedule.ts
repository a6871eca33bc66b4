import { Duration } from "aws-cdk-lib";
import { Schedule as Rate, Rule } from "aws-cdk-lib/aws-events";
import { LambdaFunction } from "aws-cdk-lib/aws-events-targets";
import { Construct } from "constructs";
import { type Deployment, physicalName } from "../deployment.ts";
import type { NodeFunction } from "./node-function.ts";

export interface ScheduleProps {
  readonly deployment: Deployment;
  readonly fn: NodeFunction;
  readonly every: Duration;
}

/**
 * Invokes a function at a fixed rate. A call that is missed is not made up for: the next one does all the work. (A rule and
 * not the newer scheduler, whose schedules LocalStack stores and never runs.)
 */
export class Schedule extends Construct {
  constructor(scope: Construct, id: string, props: ScheduleProps) {
    super(scope, id);
    new Rule(this, "Rule", {
      ruleName: physicalName(props.deployment, props.fn.name),
      description: `Invokes ${props.fn.name}`,
      schedule: Rate.rate(props.every),
      targets: [
        new LambdaFunction(props.fn.lambda, {
          retryAttempts: 0,
          maxEventAge: Duration.minutes(1),
        }),
      ],
    });
  }
}
