/** The HTTP API's template for AWS: what the gateway asks for, lets through and answers by itself. One fact a test. */
import { App, Stack } from "aws-cdk-lib";
import { Template } from "aws-cdk-lib/assertions";
import { RestApi } from "aws-cdk-lib/aws-apigateway";
import { describe, expect, test } from "vitest";
import { checkLimits } from "../../functions/api/admission/tenants.ts";
import { COMPRESSED_FROM } from "../../functions/api/compression.ts";
import { PROBLEMS, type ProblemCode, problemType } from "../../functions/api/problems.ts";
import { UsagePlans } from "../../lib/constructs/usage-plans.ts";
import { type Stage, stageNamed } from "../../lib/stage.ts";
import { synthesizeAws } from "./synthesized.ts";

const app = synthesizeAws("prod");
const functionNamed = (name: string) => app.named("AWS::Lambda::Function", "FunctionName", `freshet-prod-${name}`);

/** What the authorizer is told, and the plan of each key, for a stage. */
function usagePlansOf(stage: Stage): [{ own: Record<string, string>; shared: string[] }, string[]] {
  const stack = new Stack(new App(), "plans");
  const restApi = new RestApi(stack, "Rest");
  restApi.root.addMethod("ANY");
  let told = "";
  const authorizer = { set: (_: string, value: string) => (told = value) } as never;
  new UsagePlans(stack, "Plans", { deployment: { stage } as never, restApi, authorizer });
  const placed = Object.values(Template.fromStack(stack).findResources("AWS::ApiGateway::UsagePlanKey"));
  return [
    JSON.parse(told),
    placed.map(({ Properties }) => (/large/.test(Properties.UsagePlanId.Ref) ? "large" : "standard")),
  ];
}

describe("the API", () => {
  const methods = app.resources("AWS::ApiGateway::Method");

  test("events go to ingest, everything else to the API function", () => {
    const paths = methods.map(([id, { Properties }]) => [id, JSON.stringify(Properties["Integration"].Uri)]);
    const toIngest = paths.filter(([, uri]) => uri.includes("Ingest"));
    expect(methods).toHaveLength(6);
    expect(toIngest.map(([id]) => id)).toEqual([
      expect.stringContaining("v1eventsstream"),
      expect.stringContaining("v1labels"),
    ]);
  });

  test("the router says which methods a path takes, so all of them come to it", () => {
    expect(new Set(methods.map(([, { Properties }]) => Properties["HttpMethod"]))).toEqual(new Set(["ANY"]));
  });

  test("both functions know the stage's limits of tenants", () => {
    for (const name of ["api", "ingest"]) {
      const limits = JSON.parse(functionNamed(name).Properties["Environment"].Variables.FRESHET_LIMITS);
      expect(checkLimits(limits)).toEqual(stageNamed("prod").limits);
    }
  });

  test("nobody gets past without a key but to open pages and to addresses of clients that know bearer tokens alone", () => {
    const types = methods.map(([, { Properties }]) => Properties["AuthorizationType"]);
    // The root and all that lies below it elsewhere; /v1, its events and labels, and /api.
    expect(types.sort()).toEqual(["CUSTOM", "CUSTOM", "CUSTOM", "CUSTOM", "NONE", "NONE"]);
    const [[, { Properties }]] = app.resources("AWS::ApiGateway::Authorizer");
    expect(Properties).toMatchObject({
      Type: "REQUEST",
      IdentitySource: "method.request.header.x-api-key",
      AuthorizerResultTtlInSeconds: 300,
    });
  });

  test("requests of a tenant count by the key that the authorizer names, on every path that asks it, and each key has a plan", () => {
    const { Properties: api } = app.resources("AWS::ApiGateway::RestApi")[0][1];
    expect(api["ApiKeySourceType"]).toBe("AUTHORIZER");
    for (const [, { Properties }] of methods) {
      expect(Properties["ApiKeyRequired"] ?? false).toBe(Properties["AuthorizationType"] === "CUSTOM");
    }
    const plans = app.resources("AWS::ApiGateway::UsagePlan").map(([id, { Properties }]) => [id, Properties] as const);
    const { large, standard } = stageNamed("prod").api.plans;
    expect(plans.map(([, { UsagePlanName, Throttle }]) => [UsagePlanName, Throttle])).toEqual([
      ["freshet-prod-tenant-standard", { RateLimit: standard.requestsPerSecond, BurstLimit: standard.burst }],
      ["freshet-prod-tenant-large", { RateLimit: large.requestsPerSecond, BurstLimit: large.burst }],
    ]);
    for (const [, { ApiStages }] of plans)
      expect(ApiStages).toEqual([
        { ApiId: expect.anything(), Stage: { Ref: expect.stringContaining("DeploymentStage") } },
      ]);
    const { own, shared } = JSON.parse(
      functionNamed("authorize").Properties["Environment"].Variables.FRESHET_USAGE_KEYS,
    );
    const keys = app.resources("AWS::ApiGateway::ApiKey").map(([, { Properties }]) => Properties);
    expect(keys.map(({ Value, Enabled }) => [Value, Enabled]).sort()).toEqual(
      [...Object.values(own), ...shared].map((value) => [value, true]).sort(),
    );
    // What API Gateway takes for a value.
    for (const { Value } of keys) expect(Value).toMatch(/^[a-zA-Z0-9]{20,128}$/);
    expect(app.resources("AWS::ApiGateway::UsagePlanKey")).toHaveLength(keys.length);
  });

  test("tenants in the stage table have a key of their plan to themselves", () => {
    const stage = { ...stageNamed("prod"), tenants: { "team-a": "large", "team-b": "standard" } as const };
    const [{ own, shared }, placed] = usagePlansOf(stage);
    expect(Object.keys(own)).toEqual(["team-a", "team-b"]);
    expect(new Set([...Object.values(own), ...shared]).size).toBe(18);
    expect(placed.filter((plan) => plan === "large")).toHaveLength(1);
    const many = Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`team-${i}`, "standard"] as const));
    expect(() => usagePlansOf({ ...stage, tenants: many })).toThrow(
      /^keys of 100 tenants take \d+ bytes of the authorizer's environment, of 3072$/,
    );
  });

  test("bytes arrive as bytes, and long answers are compressed for who asks", () => {
    const { Properties } = app.resources("AWS::ApiGateway::RestApi")[0][1];
    expect(Properties["MinimumCompressionSize"]).toBe(COMPRESSED_FROM);
    expect(Properties["BinaryMediaTypes"]).toEqual([
      "application/vnd.freshet.avro",
      "avro/binary",
      "application/octet-stream",
    ]);
  });

  test("a stage is throttled as a whole, and logs each request without its body", () => {
    const { Properties } = app.resources("AWS::ApiGateway::Stage")[0][1];
    expect(Properties["MethodSettings"]).toEqual([
      expect.objectContaining({ ThrottlingRateLimit: 5_000, ThrottlingBurstLimit: 2_500, DataTraceEnabled: false }),
    ]);
    expect(Object.keys(JSON.parse(Properties["AccessLogSetting"].Format))).toContain("request_id");
  });

  test("what API Gateway answers by itself is a problem document of the router's table", () => {
    const answers = app.resources("AWS::ApiGateway::GatewayResponse").map(([, { Properties }]) => Properties);
    const codes = answers.map(({ ResponseType, StatusCode, ResponseParameters, ResponseTemplates }) => {
      const body = JSON.parse(ResponseTemplates["application/json"]);
      const { status, title } = PROBLEMS[body.code as ProblemCode];
      expect(body).toEqual({
        ...{ type: problemType(body.code), title, status, code: body.code, request_id: "$context.requestId" },
        ...(status === 401 && { field: "x-api-key" }),
        ...{ detail: expect.stringMatching(/^[^$]+$/), repair: expect.stringMatching(/^[^$]+$/) },
      });
      expect(StatusCode).toBe(String(status));
      expect(ResponseParameters).toMatchObject({
        "gatewayresponse.header.Content-Type": "'application/problem+json'",
        "gatewayresponse.header.x-request-id": "context.requestId",
      });
      return [ResponseType, body.code];
    });
    expect(Object.fromEntries(codes)).toEqual({
      UNAUTHORIZED: "api_key_missing",
      ACCESS_DENIED: "api_key_invalid",
      AUTHORIZER_FAILURE: "keys_unavailable",
      INVALID_API_KEY: "keys_unavailable",
      MISSING_AUTHENTICATION_TOKEN: "not_found",
      REQUEST_TOO_LARGE: "body_too_large",
      THROTTLED: "throttled",
      INTEGRATION_FAILURE: "integration_failure",
      INTEGRATION_TIMEOUT: "integration_timeout",
      DEFAULT_4XX: "request_refused",
      DEFAULT_5XX: "internal",
    });
    const { ResponseParameters } = answers.find(({ ResponseType }) => ResponseType === "THROTTLED")!;
    expect(ResponseParameters["gatewayresponse.header.retry-after"]).toBe("'1'");
  });
});
