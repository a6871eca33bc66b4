/** What a schema registry adds to the template, of either kind; and nothing where there is none. */
import { expect, test } from "vitest";
import type { SchemaRegistryChoice } from "../../lib/constructs/schema-registry.ts";
import { awsTarget } from "../../lib/targets/aws.ts";
import { fixturePlan, type Synthesized, synthesize, synthesizeAws } from "./synthesized.ts";

const SECRET = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:registry-AbCdEf";
const withRegistry = (schemaRegistry: SchemaRegistryChoice) =>
  synthesize(awsTarget(), "dev", fixturePlan, { schemaRegistry });
const apps = {
  none: synthesizeAws("dev"),
  glue: withRegistry({ address: "glue:freshet" }),
  https: withRegistry({ address: "https://registry.example.com:8443/base", secretArn: SECRET }),
};

const functionNamed = (app: Synthesized, name: string) =>
  app.named("AWS::Lambda::Function", "FunctionName", `freshet-dev-${name}`).Properties;
const environmentOf = (app: Synthesized, name: string) =>
  Object.entries(functionNamed(app, name)["Environment"].Variables).filter(([key]) => key.includes("SCHEMA_REGISTRY"));
function allowed(app: Synthesized, name: string, action: string): unknown[] {
  const role = functionNamed(app, name)["Role"]["Fn::GetAtt"][0];
  return app
    .resources("AWS::IAM::Policy")
    .filter(([, { Properties }]) => Properties["Roles"].some((attached: any) => attached.Ref === role))
    .flatMap(([, { Properties }]) => Properties["PolicyDocument"].Statement)
    .filter((statement: any) => [statement.Action].flat().includes(action))
    .map(({ Resource }: any) => JSON.stringify(Resource));
}
const endpointsOf = (app: Synthesized) =>
  app
    .resources("AWS::EC2::VPCEndpoint")
    .filter(([, { Properties }]) => Properties["VpcEndpointType"] === "Interface")
    .map(([, { Properties }]) => JSON.stringify(Properties["ServiceName"]));

const ASKING = ["aggregate", "ingest", "replay"];

test("without a registry nobody may ask for schemas", () => {
  for (const name of ASKING) {
    expect(environmentOf(apps.none, name)).toEqual([]);
    expect(allowed(apps.none, name, "glue:GetSchemaVersion")).toEqual([]);
    expect(allowed(apps.none, name, "s3:PutObject").join()).not.toContain("/schemas/*");
  }
});

test.each(ASKING)("%s asks Glue for versions", (name) => {
  expect(environmentOf(apps.glue, name)).toEqual([["FRESHET_SCHEMA_REGISTRY", "glue:freshet"]]);
  expect(allowed(apps.glue, name, "glue:GetSchemaVersion")).toEqual(['"*"']);
  expect(allowed(apps.glue, name, "secretsmanager:GetSecretValue")).toEqual([]);
});

test("what is delivered again once it is read keeps schemas in the archive's bucket; ingest, whose callers wait, does not", () => {
  for (const action of ["s3:GetObject", "s3:PutObject"]) {
    for (const name of ["aggregate", "replay"]) {
      expect(allowed(apps.glue, name, action).join()).toContain("/schemas/*");
    }
    expect(allowed(apps.glue, "ingest", action).join()).not.toContain("/schemas/*");
  }
});

test.each(ASKING)("%s knows the address, and the secret by its name alone", (name) => {
  expect(environmentOf(apps.https, name)).toEqual([
    ["FRESHET_SCHEMA_REGISTRY", "https://registry.example.com:8443/base"],
    ["FRESHET_SCHEMA_REGISTRY_SECRET", SECRET],
  ]);
  expect(allowed(apps.https, name, "secretsmanager:GetSecretValue")).toEqual([JSON.stringify(SECRET)]);
  expect(allowed(apps.https, name, "glue:GetSchemaVersion")).toEqual([]);
});

test("other functions know nothing of it", () => {
  const known = apps.https
    .resources("AWS::Lambda::Function")
    .filter(([, { Properties }]) => JSON.stringify(Properties["Environment"] ?? {}).includes("SCHEMA_REGISTRY"))
    .map(([, { Properties }]) => Properties["FunctionName"]);
  expect(known.sort()).toEqual(ASKING.map((name) => `freshet-dev-${name}`));
});

test("the network without a way out gets an endpoint of what is asked there, and a port out of it", () => {
  expect(endpointsOf(apps.glue).filter((name) => !endpointsOf(apps.none).includes(name))).toEqual([
    expect.stringContaining(".glue"),
  ]);
  expect(endpointsOf(apps.https).filter((name) => !endpointsOf(apps.none).includes(name))).toEqual([
    expect.stringContaining(".secretsmanager"),
  ]);
  const ports = (app: Synthesized) =>
    app
      .resources("AWS::EC2::SecurityGroup")
      .flatMap(([, { Properties }]) => Properties["SecurityGroupEgress"] ?? [])
      .map(({ FromPort }: any) => FromPort);
  expect(ports(apps.https)).toContain(8443);
  expect([...ports(apps.glue), ...ports(apps.none)]).not.toContain(8443);
});
