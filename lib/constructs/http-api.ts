import { Duration, RemovalPolicy, Size } from "aws-cdk-lib";
import {
  AccessLogField,
  AccessLogFormat,
  ApiKeySourceType,
  AuthorizationType,
  EndpointType,
  IdentitySource,
  LambdaIntegration,
  LogGroupLogDestination,
  MethodLoggingLevel,
  RequestAuthorizer,
  RestApi,
} from "aws-cdk-lib/aws-apigateway";
import { LogGroup } from "aws-cdk-lib/aws-logs";
import { Construct } from "constructs";
import { type Deployment, physicalName } from "../deployment.ts";
import { watchApi } from "./api-board.ts";
import type { Board } from "./board.ts";
import { OWN_ANSWERS, type OwnAnswer } from "./gateway-answers.ts";
import type { NodeFunction } from "./node-function.ts";
import { UsagePlans } from "./usage-plans.ts";

/** Content types whose bodies are bytes; API Gateway hands all others over as text, which would spoil them. */
const BINARY_TYPES = ["application/vnd.freshet.avro", "avro/binary", "application/octet-stream"];

/** How long API Gateway goes by what it was told of a key. The router looks again, at most 30 s later than the table. */
const DECISION_KEPT = Duration.minutes(5);

export interface HttpApiProps {
  readonly deployment: Deployment;
  /** Serves /v1/events/{stream} and /v1/labels, from outside of the VPC, where Kinesis can be reached. */
  readonly ingest: NodeFunction;
  /** Serves everything else, from inside. */
  readonly api: NodeFunction;
  /** Decides whether a request has a key. */
  readonly authorizer: NodeFunction;
}

/**
 * One REST API over the two functions. It is the outer wall only: what has no key of ours does not get in, nor more of one tenant than its
 * usage plan lets through. All else about keys, scopes and limits of a tenant is the router's.
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
      apiKeySourceType: ApiKeySourceType.AUTHORIZER,
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
    const isCounted = deployment.target.countsByAuthorizer;
    const keyed = deployment.target.asksAuthorizer
      ? {
          apiKeyRequired: isCounted,
          authorizationType: AuthorizationType.CUSTOM,
          authorizer: new RequestAuthorizer(this, "Keys", {
            handler: props.authorizer.lambda,
            identitySources: [IdentitySource.header("x-api-key")],
            resultsCacheTtl: DECISION_KEPT,
          }),
        }
      : {};
    // Open pages, and addresses whose clients know bearer tokens alone: there the router is the only wall.
    root.addMethod("ANY", toApi);
    root.addResource("{proxy+}").addMethod("ANY", toApi);
    const v1 = root.addResource("v1");
    v1.addResource("{proxy+}").addMethod("ANY", toApi, keyed);
    v1.addResource("events").addResource("{stream}").addMethod("ANY", toIngest, keyed);
    v1.addResource("labels").addMethod("ANY", toIngest, keyed);
    root.addResource("api").addResource("{proxy+}").addMethod("ANY", toApi, keyed);
    if (isCounted) {
      new UsagePlans(this, "Plans", { deployment, restApi: this.restApi, authorizer: props.authorizer });
    }
    for (const answer of OWN_ANSWERS) this.answer(answer);
  }

  watch(board: Board): void {
    watchApi(board, this.deployment, this.restApi);
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
