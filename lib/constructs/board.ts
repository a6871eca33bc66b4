import { Duration } from "aws-cdk-lib";
import {
  Alarm,
  AlarmStatusWidget,
  type ComparisonOperator,
  Dashboard,
  GraphWidget,
  type IMetric,
  type IWidget,
  TextWidget,
  type TreatMissingData,
} from "aws-cdk-lib/aws-cloudwatch";
import { SnsAction } from "aws-cdk-lib/aws-cloudwatch-actions";
import type { ITopic } from "aws-cdk-lib/aws-sns";
import { Construct } from "constructs";
import { type Deployment, physicalName } from "../deployment.ts";

export interface BoardProps {
  readonly deployment: Deployment;
  /** Where alarms are told, when they go off and when they end. */
  readonly topic: ITopic;
}

export interface BoardAlarmProps {
  /** Heading in docs/runbook.md, and part of the alarm's name. */
  readonly runbook: string;
  /** Which stream or service, when there is an alarm for each. @default one for the deployment */
  readonly of?: string;
  /** What has happened, as a sentence. */
  readonly meaning: string;
  readonly metric: IMetric;
  readonly comparison: ComparisonOperator;
  readonly threshold: number;
  /** Goes off when `datapoints` of the last `periods` are over. */
  readonly periods: number;
  /** @default all of `periods` */
  readonly datapoints?: number;
  readonly missingData: TreatMissingData;
  /** Why silence means that. */
  readonly missingDataReason: string;
}

/** The dashboard of a deployment. Components bring their own rows and alarms: `component.watch(board)`. */
export class Board extends Construct {
  private readonly deployment: Deployment;
  private readonly topic: ITopic;
  private readonly dashboard: Dashboard;
  private readonly alarms: Alarm[] = [];

  constructor(scope: Construct, id: string, props: BoardProps) {
    super(scope, id);
    this.deployment = props.deployment;
    this.topic = props.topic;
    this.dashboard = new Dashboard(this, "Dashboard", {
      dashboardName: physicalName(props.deployment, "overview"),
      defaultInterval: Duration.hours(3),
    });
  }

  row(title: string, widgets: readonly IWidget[]): void {
    this.dashboard.addWidgets(new TextWidget({ markdown: `## ${title}`, width: 24, height: 1 }));
    this.dashboard.addWidgets(...widgets);
  }

  alarm(props: BoardAlarmProps): void {
    const { runbook, of } = props;
    const suffix = of === undefined ? runbook : `${runbook}-${of}`;
    const alarm = new Alarm(this, suffix, {
      alarmName: physicalName(this.deployment, suffix),
      alarmDescription: [
        props.meaning,
        `Runbook: docs/runbook.md#${runbook}`,
        `Without data: ${props.missingData}, because ${props.missingDataReason}.`,
      ].join("\n"),
      metric: props.metric,
      comparisonOperator: props.comparison,
      threshold: props.threshold,
      evaluationPeriods: props.periods,
      datapointsToAlarm: props.datapoints ?? props.periods,
      treatMissingData: props.missingData,
    });
    alarm.addAlarmAction(new SnsAction(this.topic));
    alarm.addOkAction(new SnsAction(this.topic));
    this.alarms.push(alarm);
  }

  /** Call last: the state of every alarm that was added. */
  alarmRow(): void {
    this.row("Alarms", [new AlarmStatusWidget({ alarms: this.alarms, width: 24, height: 4 })]);
  }
}

/** Three to a row. */
export function graph(title: string, left: readonly IMetric[], right: readonly IMetric[] = []): GraphWidget {
  return new GraphWidget({ title, left: [...left], right: [...right], width: 8, height: 6 });
}
