/** What LocalStack made of the templates: everything but what its free edition lacks, which is asserted on the template instead. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { CloudFormationClient, DescribeStacksCommand, ListStackResourcesCommand } from "@aws-sdk/client-cloudformation";
import { CloudWatchClient, DescribeAlarmsCommand } from "@aws-sdk/client-cloudwatch";
import { CloudWatchLogsClient, FilterLogEventsCommand } from "@aws-sdk/client-cloudwatch-logs";
import { LambdaClient, ListEventSourceMappingsCommand } from "@aws-sdk/client-lambda";
import { afterAll, describe, expect, it } from "vitest";
import { smoke } from "../../../local/localstack/smoke.ts";
import { logFile } from "../../../local/processes.ts";
import { createTenant, deployed, deployedClientConfig } from "../../support/deployed.ts";
import { deployment, until } from "../../system/app.ts";

const clients = {
  cloudFormation: new CloudFormationClient(deployedClientConfig()),
  cloudWatch: new CloudWatchClient(deployedClientConfig()),
  lambda: new LambdaClient(deployedClientConfig()),
  logs: new CloudWatchLogsClient(deployedClientConfig()),
};
afterAll(() => {
  for (const client of Object.values(clients)) client.destroy();
});

interface Template {
  readonly Resources: Readonly<Record<string, { readonly Type: string; readonly Properties: Record<string, any> }>>;
}
/** What cdklocal deployed, by stack. */
function templates(): Map<string, Template> {
  const folder = join(deployed().home, "cdk.out");
  const files = readdirSync(folder).filter((name) => name.endsWith(".template.json"));
  return new Map(
    files.map((name) => [
      name.replace(".template.json", ""),
      JSON.parse(readFileSync(join(folder, name), "utf8")) as Template,
    ]),
  );
}
const ofType = (type: string) =>
  [...templates().values()].flatMap(({ Resources }) => Object.values(Resources)).filter(({ Type }) => Type === type);

describe("cdklocal", () => {
  it("brought every stack to its end, each resource of its template in it", async () => {
    const { Stacks = [] } = await clients.cloudFormation.send(new DescribeStacksCommand({}));
    const ours = Stacks.filter(({ StackName }) => StackName !== "CDKToolkit");
    expect(new Set(ours.map(({ StackStatus }) => StackStatus))).toEqual(new Set(["CREATE_COMPLETE"]));
    expect(ours.map(({ StackName }) => StackName).sort()).toEqual([...templates().keys()].sort());
    expect(ours.length).toBeGreaterThanOrEqual(8);
    for (const [StackName, { Resources }] of templates()) {
      const made: string[] = [];
      let NextToken: string | undefined;
      do {
        const page = await clients.cloudFormation.send(new ListStackResourcesCommand({ StackName, NextToken }));
        made.push(...(page.StackResourceSummaries ?? []).map(({ LogicalResourceId }) => LogicalResourceId!));
        NextToken = page.NextToken;
      } while (NextToken !== undefined);
      expect(made.sort(), StackName).toEqual(Object.keys(Resources).sort());
    }
  });

  it("was told of one type that is not there but in the template: the dashboard", () => {
    const log = readFileSync(logFile(deployed().home, "cdk-deploy"), "utf8");
    const lacking = [...log.matchAll(/Resource type (\S+) is not supported but was deployed as a fallback/g)];
    expect(new Set(lacking.map(([, type]) => type))).toEqual(new Set(["AWS::CloudWatch::Dashboard"]));
    const [dashboard, ...more] = ofType("AWS::CloudWatch::Dashboard");
    expect(more).toEqual([]);
    const body = JSON.stringify(dashboard.Properties["DashboardBody"]);
    for (const graph of ["Applied and received a minute", "Batches that wait in the failure bucket"]) {
      expect(body).toContain(graph);
    }
  });
});

it("every alarm of the template is there", async () => {
  const names: string[] = [];
  let NextToken: string | undefined;
  do {
    const page = await clients.cloudWatch.send(new DescribeAlarmsCommand({ NextToken }));
    names.push(...(page.MetricAlarms ?? []).map(({ AlarmName }) => AlarmName!));
    NextToken = page.NextToken;
  } while (NextToken !== undefined);
  const wanted = ofType("AWS::CloudWatch::Alarm").map(({ Properties }) => Properties["AlarmName"]);
  expect(wanted.length).toBeGreaterThan(20);
  expect(names.filter((name) => wanted.includes(name)).sort()).toEqual(wanted.sort());
});

it("each mapping of a stream blocks, halves and reports to the failure bucket", async () => {
  const FunctionName = deployment().controlFunction.replace(/control$/, "aggregate");
  const { EventSourceMappings = [] } = await clients.lambda.send(new ListEventSourceMappingsCommand({ FunctionName }));
  const streams = Object.values(deployed().streams);
  expect(EventSourceMappings.map(({ EventSourceArn }) => EventSourceArn!.split("/")[1]).sort()).toEqual(streams.sort());
  for (const mapping of EventSourceMappings) {
    expect(mapping).toMatchObject({
      State: "Enabled",
      StartingPosition: "TRIM_HORIZON",
      MaximumRetryAttempts: -1,
      MaximumRecordAgeInSeconds: 23 * 3_600,
      BisectBatchOnFunctionError: true,
      FunctionResponseTypes: ["ReportBatchItemFailures"],
      DestinationConfig: { OnFailure: { Destination: expect.stringMatching(/^arn:aws:s3:::.*quarantine/) } },
    });
  }
});

it("an event by API Gateway is a feature, and a score", async () => {
  const { key } = await createTenant();
  await smoke({ url: deployed().api.url, key });
});

it("the gateway lets nobody in without a key, though it has no authorizer here: the router asks", async () => {
  for (const headers of [{}, { "x-api-key": "fk_nobody_nothing" }] as Record<string, string>[]) {
    const answer = await fetch(`${deployed().api.url}/v1/features/card/c1`, { headers });
    expect([answer.status, answer.headers.get("content-type")]).toEqual([401, "application/problem+json"]);
  }
});

it("rules run what is due each minute", async () => {
  const logGroupName = `/aws/lambda/${deployment().controlFunction.replace(/control$/, "replay")}`;
  // Nobody else invokes this one without naming what is to be replayed.
  await until(
    "the rule to invoke the replay function",
    async () => {
      const { events = [] } = await clients.logs.send(new FilterLogEventsCommand({ logGroupName }));
      return events.some(({ message = "" }) => message.includes("FailedBatches"));
    },
    240_000,
    1_000,
  );
}, 300_000);
