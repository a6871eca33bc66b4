/** An enriched stream: ingest reads the online store, so it moves into the network, which gets a way to Kinesis. */
import { expect, test } from "vitest";
import { awsTarget } from "../../lib/targets/aws.ts";
import { localTarget } from "../../lib/targets/local.ts";
import { fixturePlan, synthesize } from "./synthesized.ts";

const [transactions, ...others] = fixturePlan.streams;
const enrich = [{ field: "mcc_risk", feature: "merchant_risk:rate", entity: "card", joinKey: "card_id" }];
const plan = { ...fixturePlan, streams: [{ ...transactions, enrich }, ...others] };
const app = synthesize(awsTarget(), "prod", plan);
const ingest = app.named("AWS::Lambda::Function", "FunctionName", "freshet-prod-ingest").Properties;

test("ingest is inside, and knows where the store is", () => {
  expect(Object.keys(ingest["VpcConfig"])).toEqual(["SecurityGroupIds", "SubnetIds"]);
  expect(Object.keys(ingest["Environment"].Variables)).toContain("FRESHET_VALKEY_HOST");
});

test("it connects as the user that may only read", () => {
  expect(JSON.stringify(ingest["Environment"].Variables["FRESHET_VALKEY_USER"])).toContain("StoreReader");
});

test("the one endpoint that costs is that of Kinesis: in the isolated subnets, reached by the store's clients, for this account", () => {
  const paid = app
    .resources("AWS::EC2::VPCEndpoint")
    .map(([, { Properties }]) => Properties)
    .filter(({ VpcEndpointType }) => VpcEndpointType !== "Gateway");
  expect(paid).toHaveLength(1);
  expect(JSON.stringify(paid[0]["ServiceName"])).toContain(".kinesis-streams");
  expect(paid[0]["PrivateDnsEnabled"]).toBe(true);
  expect(Object.keys(paid[0]["PolicyDocument"].Statement[0].Condition.StringEquals)).toEqual([
    "aws:PrincipalAccount",
    "aws:ResourceAccount",
  ]);
  const rules = app.resources("AWS::EC2::SecurityGroupIngress").map(([, { Properties }]) => Properties);
  expect(rules.map(({ FromPort, ToPort }) => [FromPort, ToPort])).toEqual([
    [6380, 6380],
    [443, 443],
  ]);
  for (const rule of rules) expect(JSON.stringify(rule["SourceSecurityGroupId"])).toMatch(/ClientGroup/);
});

test("on a laptop nothing but the store's address is added", () => {
  const local = synthesize(localTarget(), "local", plan);
  const { Properties } = local.named("AWS::Lambda::Function", "FunctionName", "freshet-local-ingest");
  expect(Properties["VpcConfig"]).toBeUndefined();
  expect(Object.keys(Properties["Environment"].Variables)).toContain("FRESHET_VALKEY_HOST");
});
