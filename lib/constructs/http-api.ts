import { Duration, RemovalPolicy, Size } from "aws-cdk-lib";
import {
  AccessLogField,
  AccessLogFormat,
  AuthorizationType,
  EndpointType,
  IdentitySource,
  LambdaIntegration,
  LogGroupLogDestination,
  MethodLoggingLevel,
  RequestAuthorizer,
  ResponseType,
  RestApi,
} from "aws-cdk-lib/aws-apigateway";
import { ComparisonOperator, TreatMissingData } from "aws-cdk-lib/aws-cloudwatch";
import { LogGroup } from "aws-cdk-lib/aws-logs";
import { Construct } from "constructs";
import { type Deployment, physicalName } from "../deployment.ts";
import { type Board, graph } from "./board.ts";
import { labelled, type RouterMetric, type ServiceMetric, serviceMetric } from "./metrics.ts";
import type { NodeFunction } from "./node-function.ts";

/** Content types whose bodies are bytes; API Gateway hands all others over as text, which would spoil them. */
const BINARY_TYPES = ["application/vnd.freshet.avro", "avro/binary", "application/octet-stream"];

/** How long API Gateway goes by what it was told of a key. The router looks again, at most 30 s later than the table. */
const DECISION_KEPT = Duration.minutes(5);

interface OwnAnswer {
  readonly type: ResponseType;
  readonly status: number;
  readonly code: string;
  readonly title: string;
  readonly detail: string;
  readonly repair: string;
  readonly field?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

const OF_KEYS = {
  status: 401,
  field: "x-api-key",
  headers: { "www-authenticate": `'ApiKey realm="freshet", header="x-api-key"'` },
};

/**
 * What API Gateway answers by itself, as the router's problem documents: same members, codes and titles, which a test compares.
 * No variable of the error goes into them, since its message may quote a header.
 */
const OWN_ANSWERS: readonly OwnAnswer[] = [
  {
    ...OF_KEYS,
    type: ResponseType.UNAUTHORIZED,
    code: "api_key_missing",
    title: "An API key is required",
    detail: "the request has no API key",
    repair: "send your key in the header x-api-key; freshet status --json shows the development key",
  },
  {
    // The authorizer denies for no other reason.
    ...OF_KEYS,
    type: ResponseType.ACCESS_DENIED,
    code: "api_key_invalid",
    title: "The API key is not valid",
    detail: "the API key is not known",
    repair: "check that the whole key was copied (fk_, id, secret); a deleted key cannot be used again",
  },
  {
    type: ResponseType.AUTHORIZER_FAILURE,
    status: 503,
    code: "keys_unavailable",
    title: "API keys cannot be checked",
    detail: "the table of API keys could not be read",
    repair: "try again in a few seconds",
    headers: { "retry-after": "'2'" },
  },
  {
    // A path that has a resource and no method; API Gateway calls that a missing token.
    type: ResponseType.MISSING_AUTHENTICATION_TOKEN,
    status: 404,
    code: "not_found",
    title: "There is nothing here",
    detail: "no route matches this path",
    repair: "see /docs for all calls",
  },
  {
    type: ResponseType.REQUEST_TOO_LARGE,
    status: 413,
    code: "body_too_large",
    title: "The body is too large",
    detail: "the body is larger than API Gateway takes",
    repair: "split it into several requests",
  },
  {
    type: ResponseType.THROTTLED,
    status: 429,
    code: "throttled",
    title: "The stream is at its limit",
    detail: "the API takes no more requests in this second",
    repair: "send it again with backoff and jitter",
  },
  {
    type: ResponseType.INTEGRATION_FAILURE,
    status: 502,
    code: "integration_failure",
    title: "The function could not answer",
    detail: "the function behind the API failed to answer",
    repair: "send it again; if it stays, give the request_id to whoever runs this service",
  },
  {
    type: ResponseType.INTEGRATION_TIMEOUT,
    status: 504,
    code: "integration_timeout",
    title: "The function did not answer in time",
    detail: "the function behind the API did not answer in time; events of the request may have been queued",
    repair: "send it again: an event that was queued is not counted twice",
  },
  {
    type: ResponseType.DEFAULT_4XX,
    status: 400,
    code: "request_refused",
    title: "API Gateway refused the request",
    detail: "the request did not reach the service",
    repair: "send plain HTTP with x-api-key; an Authorization header only as Bearer and an API key",
  },
  {
    type: ResponseType.DEFAULT_5XX,
    status: 500,
    code: "internal",
    title: "Something failed on our side",
    detail: "the request could not be answered because of an error on our side",
    repair: "try again; if it stays, give the request_id to whoever runs this service",
  },
];

export interface HttpApiProps {
  readonly deployment: Deployment;
  /** Serves /v1/events/{stream}, from outside of the VPC, where Kinesis can be reached. */
  readonly ingest: NodeFunction;
  /** Serves everything else, from inside. */
  readonly api: NodeFunction;
  /** Decides whether a request has a key. */
  readonly authorizer: NodeFunction;
}

/**
 * One REST API over the two functions. It is the outer wall only: what has no key of ours does not get in, and all else about keys,
 * scopes and limits of a tenant is the router's.
 */
export class HttpApi extends Construct {
  readonly restApi: RestApi;
  private readonly deployment: Deployment;

  constructor(scope: Construct, id: string, props: HttpApiProps) {
    super(scope, id);
    const { deployment } = props;
    this.deployment = deployment;
    const accessLog = new LogGroup(this, "AccessLog", {
      logGroupName: `/freshet/${physicalName(deployment, "api")}/access`,
      retention: deployment.stage.logRetentionDays,
      removalPolicy: RemovalPolicy.DESTROY,
    });
    this.restApi = new RestApi(this, "Rest", {
      restApiName: physicalName(deployment, "api"),
      description: `Freshet (${deployment.stage.name}): events in, features and scores out`,
      endpointTypes: [EndpointType.REGIONAL],
      binaryMediaTypes: BINARY_TYPES,
      // For callers who ask for it. What fits into one packet arrives no sooner for being shorter.
      minCompressionSize: Size.bytes(1_400),
      // Account-wide and needed by the access log; kept, because other APIs of the account may have come to rely on it.
      cloudWatchRole: true,
      cloudWatchRoleRemovalPolicy: RemovalPolicy.RETAIN,
      deployOptions: {
        stageName: deployment.stage.name,
        throttlingRateLimit: deployment.stage.api.requestsPerSecond,
        throttlingBurstLimit: deployment.stage.api.burst,
        loggingLevel: MethodLoggingLevel.ERROR,
        // Bodies hold payloads, which no log may.
        dataTraceEnabled: false,
        accessLogDestination: new LogGroupLogDestination(accessLog),
        accessLogFormat: AccessLogFormat.custom(
          JSON.stringify({
            request_id: AccessLogField.contextRequestId(),
            time: AccessLogField.contextRequestTime(),
            method: AccessLogField.contextHttpMethod(),
            resource: AccessLogField.contextResourcePath(),
            status: AccessLogField.contextStatus(),
            latency_ms: AccessLogField.contextResponseLatency(),
            integration_ms: AccessLogField.contextIntegrationLatency(),
            bytes: AccessLogField.contextResponseLength(),
          }),
        ),
      },
    });
    // The stack has its own output of the address, under a name that stays.
    this.restApi.node.tryRemoveChild("Endpoint");
    const { root } = this.restApi;
    const toApi = new LambdaIntegration(props.api.lambda, { allowTestInvoke: false });
    const toIngest = new LambdaIntegration(props.ingest.lambda, { allowTestInvoke: false });
    const keyed = {
      authorizationType: AuthorizationType.CUSTOM,
      authorizer: new RequestAuthorizer(this, "Keys", {
        handler: props.authorizer.lambda,
        identitySources: [IdentitySource.header("x-api-key")],
        resultsCacheTtl: DECISION_KEPT,
      }),
    };
    // Open pages, and addresses whose clients know bearer tokens alone: there the router is the only wall.
    root.addMethod("ANY", toApi);
    root.addResource("{proxy+}").addMethod("ANY", toApi);
    const v1 = root.addResource("v1");
    v1.addResource("{proxy+}").addMethod("ANY", toApi, keyed);
    v1.addResource("events").addResource("{stream}").addMethod("ANY", toIngest, keyed);
    root.addResource("api").addResource("{proxy+}").addMethod("ANY", toApi, keyed);
    for (const answer of OWN_ANSWERS) this.answer(answer);
  }

  watch(board: Board): void {
    const { plan, stage } = this.deployment;
    const each = (metric: ServiceMetric | RouterMetric, services: readonly string[], statistic: string) =>
      services.map((service) => labelled(service, serviceMetric(metric, service, statistic)));
    const ofGateway = { period: Duration.minutes(1), statistic: "Average" };
    const functions = ["api", "ingest"];
    board.row("API", [
      graph("Requests a minute", each("RequestCount", functions, "Sum")),
      graph(
        "Errors a minute, and as a share of all answers of the gateway",
        [...each("ServerErrors", functions, "Sum"), ...each("ClientErrors", functions, "Sum")],
        [this.restApi.metricServerError(ofGateway), this.restApi.metricClientError(ofGateway)],
      ),
      graph("Latency p50 and p99, ms", [
        ...each("LatencyMs", functions, "p50"),
        ...each("LatencyMs", functions, "p99"),
      ]),
      graph(
        "Refused by a tenant's limits a minute, and answers while hosts decide these alone",
        each("RateLimited", functions, "Sum"),
        each("LimiterFallback", functions, "Sum"),
      ),
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
      graph("Such reads p50 and p99, ms", [
        ...each("FallbackMs", ["api"], "p50"),
        ...each("FallbackMs", ["api"], "p99"),
      ]),
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
      metric: this.restApi.metricServerError({ period: Duration.minutes(1), statistic: "Average" }),
      comparison: ComparisonOperator.GREATER_THAN_THRESHOLD,
      threshold: stage.alarms.serverErrorShare,
      periods: 5,
      datapoints: 3,
      missingData: TreatMissingData.NOT_BREACHING,
      missingDataReason: "the metric has no value in a minute without requests",
    });
  }

  private answer({ type, status, code, title, detail, repair, field, headers }: OwnAnswer): void {
    this.restApi.addGatewayResponse(type.responseType, {
      type,
      statusCode: String(status),
      responseHeaders: {
        "Content-Type": "'application/problem+json'",
        "x-request-id": "context.requestId",
        ...headers,
        ...(status === 429 ? { "retry-after": "'1'" } : {}),
      },
      templates: {
        "application/json": JSON.stringify({
          type: `urn:freshet:problem:${code}`,
          title,
          status,
          detail,
          code,
          field,
          repair,
          request_id: "$context.requestId",
        }),
      },
    });
  }
}
