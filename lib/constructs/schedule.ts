import { Stack } from "aws-cdk-lib";
import { PolicyStatement, Role, ServicePrincipal } from "aws-cdk-lib/aws-iam";
import { CfnSchedule } from "aws-cdk-lib/aws-scheduler";
import { Construct } from "constructs";
import { type Deployment, physicalName } from "../deployment.ts";
import type { NodeFunction } from "./node-function.ts";

export interface ScheduleProps {
  readonly deployment: Deployment;
  readonly fn: NodeFunction;
  /** As `rate(1 minute)`. */
  readonly expression: string;
  /** JSON that the function is invoked with. @default {} */
  readonly input?: object;
}

/** Invokes a function at a fixed rate. A call that is missed is not made up for: the next one does all the work. */
export class Schedule extends Construct {
  constructor(scope: Construct, id: string, props: ScheduleProps) {
    super(scope, id);
    const name = physicalName(props.deployment, props.fn.name);
    const role = new Role(this, "Role", {
      assumedBy: new ServicePrincipal("scheduler.amazonaws.com", {
        conditions: { StringEquals: { "aws:SourceAccount": Stack.of(this).account } },
      }),
      description: `Invokes ${name}`,
    });
    role.addToPrincipalPolicy(
      new PolicyStatement({ actions: ["lambda:InvokeFunction"], resources: [props.fn.lambda.functionArn] }),
    );
    const schedule = new CfnSchedule(this, "Schedule", {
      name,
      scheduleExpression: props.expression,
      flexibleTimeWindow: { mode: "OFF" },
      target: {
        arn: props.fn.lambda.functionArn,
        roleArn: role.roleArn,
        input: JSON.stringify(props.input ?? {}),
        retryPolicy: { maximumRetryAttempts: 0, maximumEventAgeInSeconds: 60 },
      },
    });
    schedule.node.addDependency(role);
  }
}
