/** What an account is charged for while nothing comes: counted in the templates, as docs/operations.md tells it. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { awsTarget } from "../../lib/targets/aws.ts";
import { ROOT } from "../../local/home.ts";
import { fixturePlan, type Synthesized, synthesize, synthesizeAws } from "./synthesized.ts";

const MINUTES_A_MONTH = 30 * 24 * 60;
const stages = ["dev", "prod"] as const;
const two = stages.map((stage) => synthesizeAws(stage));
const one = stages.map((stage) => {
  const streams = fixturePlan.streams.slice(0, 1);
  return synthesize(awsTarget(), stage, { ...fixturePlan, streams });
});

const count = (app: Synthesized, type: string): number => app.resources(type).length;
const shards = (app: Synthesized): number =>
  app.resources("AWS::Kinesis::Stream").reduce((sum, [, { Properties }]) => sum + Properties["ShardCount"], 0);

/** In an app without streams, and for each stream. */
function perStream(of: (app: Synthesized) => number): string[] {
  return stages.map((_, i) => {
    const [each, base] = [of(two[i]) - of(one[i]), 2 * of(one[i]) - of(two[i])];
    return [...(base === 0 && each > 0 ? [] : [base]), ...(each === 0 ? [] : [`${each} a stream`])].join(" and ");
  });
}

function nodes(app: Synthesized): string {
  const [[, { Properties: group }]] = app.resources("AWS::ElastiCache::ReplicationGroup");
  return `${group["NumNodeGroups"] * (group["ReplicasPerNodeGroup"] + 1)} × ${group["CacheNodeType"]}`;
}

/** Interface endpoints are paid in each zone that they have a network interface in. */
const endpoints = (app: Synthesized): number =>
  app
    .resources("AWS::EC2::VPCEndpoint")
    .filter(([, { Properties }]) => Properties["VpcEndpointType"] === "Interface")
    .reduce((sum, [, { Properties }]) => sum + Properties["SubnetIds"].length, 0);

/** Rules that are switched on, by how often they fire. */
function scheduled(app: Synthesized): number {
  const rates = app
    .resources("AWS::Events::Rule")
    .flatMap(
      ([, { Properties }]) => /^rate\((\d+) (minute|hour|day)s?\)$/.exec(Properties["ScheduleExpression"] ?? "") ?? [],
    );
  const minutes: Readonly<Record<string, number>> = { minute: 1, hour: 60, day: 1_440 };
  let calls = 0;
  for (let at = 0; at < rates.length; at += 3)
    calls += MINUTES_A_MONTH / (Number(rates[at + 1]) * minutes[rates[at + 2]]);
  return calls;
}

it("the page has what is paid while nothing comes", () => {
  const rows = [
    ["shards of Kinesis", ...perStream(shards)],
    ["nodes of ElastiCache", ...two.map(nodes)],
    ["interface endpoints, times zones", ...two.map(endpoints)],
    ["NAT gateways", ...two.map((app) => count(app, "AWS::EC2::NatGateway"))],
    ["KMS keys", ...two.map((app) => count(app, "AWS::KMS::Key"))],
    ["alarms", ...perStream((app) => count(app, "AWS::CloudWatch::Alarm"))],
    ["dashboards", ...two.map((app) => count(app, "AWS::CloudWatch::Dashboard"))],
    ["scheduled calls of functions in 30 days", ...two.map((app) => scheduled(app).toLocaleString("en"))],
  ].map((cells) => `| ${cells.join(" | ")} |`);
  expect(scheduled(two[0])).toBeGreaterThan(MINUTES_A_MONTH);
  const page = readFileSync(join(ROOT, "docs/operations.md"), "utf8");
  expect(rows.filter((row) => !page.includes(`\n${row}`))).toEqual([]);
});
