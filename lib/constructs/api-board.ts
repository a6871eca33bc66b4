/** Rows and alarms of the HTTP API: its gateway, and the two functions behind it. */
import { Duration } from "aws-cdk-lib";
import type { RestApi } from "aws-cdk-lib/aws-apigateway";
import { ComparisonOperator, TreatMissingData } from "aws-cdk-lib/aws-cloudwatch";
import type { Deployment } from "../deployment.ts";
import { type Board, graph } from "./board.ts";
import { labelled, type RouterMetric, type ServiceMetric, serviceMetric } from "./metrics.ts";

export function watchApi(board: Board, { plan, stage }: Deployment, restApi: RestApi): void {
  const each = (metric: ServiceMetric | RouterMetric, services: readonly string[], statistic: string) =>
    services.map((service) => labelled(service, serviceMetric(metric, service, statistic)));
  const ofGateway = { period: Duration.minutes(1), statistic: "Average" };
  const functions = ["api", "ingest"];
  board.row("API", [
    graph("Requests a minute", each("RequestCount", functions, "Sum")),
    graph(
      "Errors a minute, and as a share of all answers of the gateway",
      [...each("ServerErrors", functions, "Sum"), ...each("ClientErrors", functions, "Sum")],
      [restApi.metricServerError(ofGateway), restApi.metricClientError(ofGateway)],
    ),
    graph("Latency p50 and p99, ms", [...each("LatencyMs", functions, "p50"), ...each("LatencyMs", functions, "p99")]),
    graph(
      "Refused by a tenant's limits a minute, and answers while hosts decide these alone",
      each("RateLimited", functions, "Sum"),
      each("LimiterFallback", functions, "Sum"),
    ),
  ]);
  board.row("Fields looked up at ingest", [
    graph("Without a value because the store did not answer", each("EnrichmentsUnavailable", ["ingest"], "Sum")),
  ]);
  const services = plan.services.map(({ name }) => name);
  board.row("Scores", [
    graph("Latency p50 and p99, ms", [
      ...each("ScoreLatencyMs", services, "p50"),
      ...each("ScoreLatencyMs", services, "p99"),
    ]),
    graph("Scores a minute", each("ScoreLatencyMs", services, "SampleCount")),
    graph(
      "Features missing and degraded answers a minute",
      each("FeaturesMissing", services, "Sum"),
      each("Degraded", services, "Sum"),
    ),
  ]);
  board.row("While the online store does not answer", [
    graph("Reads without it, and without any answer", [
      ...each("ReadsWithoutStore", ["api"], "Sum"),
      ...each("ReadsUnanswered", ["api"], "Sum"),
    ]),
    graph("Such reads p50 and p99, ms", [...each("FallbackMs", ["api"], "p50"), ...each("FallbackMs", ["api"], "p99")]),
    graph("Entities without a snapshot; breakers opened", [
      ...each("SnapshotLosses", ["api"], "Sum"),
      ...each("BreakersOpened", ["api"], "Sum"),
    ]),
  ]);
  board.alarm({
    runbook: "reads-without-store",
    meaning:
      "Reads go on without the online store: from snapshots where there are some, else scores by defaults and rules.",
    metric: serviceMetric("ReadsWithoutStore", "api", "Sum"),
    comparison: ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
    threshold: stage.alarms.readsWithoutStore,
    periods: 3,
    datapoints: 2,
    missingData: TreatMissingData.NOT_BREACHING,
    missingDataReason: "the metric has no value in a minute without requests",
  });
  for (const of of functions) {
    board.alarm({
      runbook: "limits-alone",
      of,
      meaning: `Hosts of ${of} have decided tenants' limits each for itself for three minutes: the shared buckets do not answer.`,
      metric: serviceMetric("LimiterFallback", of, "Sum"),
      comparison: ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
      threshold: 1,
      periods: 3,
      missingData: TreatMissingData.NOT_BREACHING,
      missingDataReason: "it is written only by hosts that decide alone, while requests come",
    });
  }
  board.alarm({
    runbook: "enrichment-unavailable",
    meaning:
      "Events are recorded without fields that their stream looks up, because the online store does not answer ingest.",
    metric: serviceMetric("EnrichmentsUnavailable", "ingest", "Sum"),
    comparison: ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
    threshold: 1,
    periods: 5,
    datapoints: 3,
    missingData: TreatMissingData.NOT_BREACHING,
    missingDataReason: "it has no value in a minute without events, nor where no stream is enriched",
  });
  board.alarm({
    runbook: "model-refused",
    meaning: "A model that an alias points to is refused: what served before it goes on.",
    metric: serviceMetric("ModelsRefused", "api", "Maximum"),
    comparison: ComparisonOperator.GREATER_THAN_THRESHOLD,
    threshold: 0,
    periods: 5,
    datapoints: 3,
    missingData: TreatMissingData.NOT_BREACHING,
    missingDataReason: "the metric has no value in a minute without requests",
  });
  board.alarm({
    runbook: "api-5xx",
    meaning: `More than ${stage.alarms.serverErrorShare * 100} % of all answers are server errors.`,
    metric: restApi.metricServerError({ period: Duration.minutes(1), statistic: "Average" }),
    comparison: ComparisonOperator.GREATER_THAN_THRESHOLD,
    threshold: stage.alarms.serverErrorShare,
    periods: 5,
    datapoints: 3,
    missingData: TreatMissingData.NOT_BREACHING,
    missingDataReason: "the metric has no value in a minute without requests",
  });
}
