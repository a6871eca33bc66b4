import { Duration } from "aws-cdk-lib";
import { Metric } from "aws-cdk-lib/aws-cloudwatch";

const NAMESPACE = "Freshet";
const PERIOD = Duration.minutes(1);

/** Metrics that functions write for each stream of the plan. */
type StreamMetric =
  | "EventsIn"
  | "Applied"
  | "Duplicates"
  | "Late"
  | "Quarantined"
  | "FreshnessMs"
  | "IteratorLagMs"
  | "ApplyBlocked"
  | "SealLagMs";
/** Metrics that functions write for each feature service of the plan. */
type ServiceMetric = "ScoreLatencyMs" | "FeaturesMissing" | "Degraded";

/** Without a label, since CloudFormation takes a labelled metric for metric math, which not every emulator's alarms know. */
export function streamMetric(name: StreamMetric, stream: string, statistic: string, period = PERIOD): Metric {
  return new Metric({
    namespace: NAMESPACE,
    metricName: name,
    dimensionsMap: { stream },
    statistic,
    period,
  });
}

export function serviceMetric(name: ServiceMetric, service: string, statistic: string, period = PERIOD): Metric {
  return new Metric({
    namespace: NAMESPACE,
    metricName: name,
    dimensionsMap: { service },
    statistic,
    period,
  });
}
