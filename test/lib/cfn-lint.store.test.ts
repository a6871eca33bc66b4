/**
 * cfn-lint over every template that the app makes: each target, stage and broker. It knows what CloudFormation's resources have, which
 * no emulator looks at: one deploys a property that there is not, and an attribute that nothing has. What it is wrong about is listed
 * here with the reason; a finding that is not listed fails, and so does a row that no finding matches any more.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { mskBroker } from "../../lib/brokers/msk.ts";
import { allStages } from "../../lib/stage.ts";
import { awsTarget } from "../../lib/targets/aws.ts";
import { localTarget } from "../../lib/targets/local.ts";
import { ROOT } from "../../local/home.ts";
import { type Synthesized, synthesize } from "./synthesized.ts";

interface Finding {
  readonly rule: string;
  /** `aws-prod-streams/Resources/Key961B73FD/Properties/Description` */
  readonly at: string;
  readonly message: string;
}

const accepted: readonly { readonly rule: string; readonly at: RegExp; readonly reason: string }[] = [
  {
    rule: "W3005",
    at: /\/DependsOn\//,
    reason:
      "CDK has a function wait for its role and for the policy of it, of which the role alone is named elsewhere, too",
  },
];

/** Of each, under names that are part of the file's. */
function apps(): Record<string, Synthesized> {
  const onAws = allStages.filter(({ name }) => name !== "local");
  const given = { valkey: { host: "valkey", port: "6379" }, bootstrapServers: "127.0.0.1:9092" };
  return {
    local: synthesize(localTarget({ sagemakerEndpoint: "http://127.0.0.1:4570" }), "local"),
    given: synthesize(localTarget(given), "local"),
    ...Object.fromEntries(
      onAws.flatMap((stage) => [
        [`aws-${stage.name}`, synthesize(awsTarget(), stage)],
        // The one is serverless, the other provisioned.
        [`msk-${stage.name}`, synthesize(awsTarget({ broker: mskBroker() }), stage)],
      ]),
    ),
  };
}

const linter = join(ROOT, ".freshet", "cfn-lint-venv", "bin", "cfn-lint");
const folder = mkdtempSync(join(tmpdir(), "freshet-cfn-lint-"));
beforeAll(() => {
  if (!existsSync(linter)) throw new Error("cfn-lint is not installed; repair: node local/install.js --tests");
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** In as many processes as there are processors, each of which reads what it knows of resources once. */
async function lint(templates: ReadonlyMap<string, object>): Promise<Finding[]> {
  const files = [...templates].map(([name, template]) => {
    const text = JSON.stringify(template);
    const path = join(folder, `${name}.json`);
    writeFileSync(path, text);
    return { path, bytes: text.length };
  });
  const shares = Array.from({ length: Math.min(availableParallelism(), files.length) }, () => ({
    paths: [] as string[],
    bytes: 0,
  }));
  for (const { path, bytes } of files.sort((a, b) => b.bytes - a.bytes)) {
    const least = shares.reduce((a, b) => (b.bytes < a.bytes ? b : a));
    least.paths.push(path);
    least.bytes += bytes;
  }
  return (await Promise.all(shares.map(({ paths }) => runLinter(paths)))).flat();
}

/** @throws Error when it ends otherwise than with a list of findings */
async function runLinter(paths: readonly string[]): Promise<Finding[]> {
  const child = spawn(linter, ["--format", "json", "--", ...paths], { stdio: ["ignore", "pipe", "pipe"] });
  const [output, complaints] = await Promise.all([child.stdout, child.stderr].map((stream) => stream.toArray()));
  const text = Buffer.concat(output).toString();
  if (!text.trimStart().startsWith("[")) throw new Error(`cfn-lint failed: ${Buffer.concat(complaints)}`);
  return (JSON.parse(text) as any[]).map(({ Filename, Rule, Location, Message }) => ({
    rule: Rule.Id,
    at: [basename(Filename, ".json"), ...Location.Path].join("/"),
    message: Message,
  }));
}

test("no template has what CloudFormation would refuse, or what cfn-lint advises against and was not considered", async () => {
  const distinct = new Map<string, [string, object]>();
  for (const [name, app] of Object.entries(apps())) {
    for (const stack of app.stacks) {
      const template = app.template(stack).toJSON();
      const known = JSON.stringify(template).replaceAll(/freshet-(local|dev|prod)-/g, "freshet-stage-");
      if (!distinct.has(known)) distinct.set(known, [`${name}-${stack}`, template]);
    }
  }
  expect(distinct.size).toBeGreaterThan(20);
  const findings = await lint(new Map(distinct.values()));
  const isAccepted = (row: (typeof accepted)[number], { rule, at }: Finding) => rule === row.rule && row.at.test(at);
  expect(findings.filter((finding) => !accepted.some((row) => isAccepted(row, finding)))).toEqual([]);
  expect(accepted.filter((row) => !findings.some((finding) => isAccepted(row, finding)))).toEqual([]);
}, 1_200_000);

test("what emulators let pass is found", async () => {
  const queue = (properties: object) => ({ Type: "AWS::SQS::Queue", Properties: properties });
  const found = await lint(
    new Map([
      ["property", { Resources: { Queue: queue({ Retention: 60 }) } }],
      [
        "attribute",
        { Resources: { Queue: queue({}) }, Outputs: { Age: { Value: { "Fn::GetAtt": ["Queue", "Age"] } } } },
      ],
      ["value", { Resources: { Queue: queue({ MessageRetentionPeriod: 1 }) } }],
      ["type", { Resources: { Queue: { Type: "AWS::SQS::Line" } } }],
    ]),
  );
  expect(found.map(({ rule, at }) => `${rule} ${at}`).sort()).toEqual([
    "E3002 property/Resources/Queue/Properties/Retention",
    "E3006 type/Resources/Queue/Type",
    "E3034 value/Resources/Queue/Properties/MessageRetentionPeriod",
    "E6101 attribute/Outputs/Age/Value/Fn::GetAtt/1",
  ]);
}, 300_000);
