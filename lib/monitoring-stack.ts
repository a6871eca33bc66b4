import { CfnOutput, Stack } from "aws-cdk-lib";
import { PolicyStatement, ServicePrincipal } from "aws-cdk-lib/aws-iam";
import { Topic } from "aws-cdk-lib/aws-sns";
import type { Construct } from "constructs";
import { Board } from "./constructs/board.ts";
import { dataKey } from "./constructs/data-key.ts";
import type { NodeFunction } from "./constructs/node-function.ts";
import { type Deployment, physicalName } from "./deployment.ts";
import { FreshetStack } from "./freshet-stack.ts";

export interface MonitoringStackProps {
  /** In the order of the dashboard's rows. */
  readonly watched: readonly { watch(board: Board): void }[];
  /** Whose metrics are delivered. */
  readonly functions: readonly NodeFunction[];
}

/** One dashboard, and the alarms that someone is woken for. Stateless. */
export class MonitoringStack extends FreshetStack {
  constructor(scope: Construct, deployment: Deployment, props: MonitoringStackProps) {
    super(scope, "monitoring", { deployment, description: "Freshet: dashboard and alarms" });
    deployment.target.deliverMetrics(this, "Metrics", deployment, props.functions);
    const board = new Board(this, "Board", { deployment, topic: this.alarmTopic(deployment) });
    for (const component of props.watched) component.watch(board);
    board.alarmRow();
  }

  /** CloudWatch itself publishes alarms, and only those of this account: it needs the topic and the topic's key. */
  private alarmTopic(deployment: Deployment): Topic {
    const cloudWatch = {
      principals: [new ServicePrincipal("cloudwatch.amazonaws.com")],
      conditions: { StringEquals: { "aws:SourceAccount": Stack.of(this).account } },
    };
    const key = dataKey(this, deployment, "alarms");
    key.addToResourcePolicy(
      new PolicyStatement({ ...cloudWatch, actions: ["kms:Decrypt", "kms:GenerateDataKey"], resources: ["*"] }),
    );
    const topic = new Topic(this, "Alarms", {
      topicName: physicalName(deployment, "alarms"),
      displayName: `Freshet ${deployment.stage.name}`,
      masterKey: key,
      enforceSSL: true,
    });
    // Any policy of a topic takes the place of the one that lets its owner's services publish.
    topic.addToResourcePolicy(
      new PolicyStatement({ ...cloudWatch, actions: ["sns:Publish"], resources: [topic.topicArn] }),
    );
    new CfnOutput(this, "AlarmTopic", { value: topic.topicArn, description: "Subscribe whoever is on duty" });
    return topic;
  }
}
