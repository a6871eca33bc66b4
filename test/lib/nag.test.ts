/**
 * cdk-nag's rules for AWS solutions over the template for AWS. Advice that was not taken is listed here with its reason; a
 * finding that is not listed fails, and so does a row that no finding matches any more.
 */
import { AwsSolutionsChecks } from "cdk-nag";
import { expect, test } from "vitest";
import { mskBroker } from "../../lib/brokers/msk.ts";
import { awsTarget } from "../../lib/targets/aws.ts";
import { synthesize } from "./synthesized.ts";

interface Accepted {
  readonly rule: RegExp;
  readonly at: RegExp;
  readonly reason: string;
}

const always: readonly Accepted[] = [
  {
    rule: /^AwsSolutions-KDS3$/,
    at: /streams\/Events\//,
    reason: "the rule wants AWS's own key; a key of the deployment can be audited, and closed",
  },
  {
    rule: /^AwsSolutions-AEC6$/,
    at: /online-store\/Store\/ReplicationGroup$/,
    reason: "the rule knows passwords only; users authenticate by IAM, and there is no user without",
  },
  {
    rule: /^AwsSolutions-IAM5\[Resource::\*\]$/,
    at: /(Aggregate|Control|Sweep|Snapshot|Build|Materialize|Repair|Verify|Replay|Restore|Erase|Read|Ingest)\/Role\/DefaultPolicy/,
    reason: "Lambda asks for the network interface actions on every resource; the functions' code is denied them",
  },
  {
    rule: /^AwsSolutions-IAM5\[Resource::.*Bucket.*\/(raw|quarantine|aws\/lambda)\/\*\]$/,
    at: /(Aggregate|Repair|Replay)\/Role\/DefaultPolicy/,
    reason:
      "objects are written under fresh names, and read again by what a listing names: a prefix is as exact as it gets",
  },
  {
    rule: /^AwsSolutions-IAM5\[Resource::.*Bucket.*\/(raw|compacted|compaction|values)\/\*\]$/,
    at: /(Build|Materialize|Repair|Verify)\/Role\/DefaultPolicy/,
    reason:
      "a build reads the whole archive of a stream, a batch view's run adds to its values, and nothing else in its bucket",
  },
  {
    rule: /^AwsSolutions-IAM5\[Resource::.*Bucket.*\/(raw|compacted|compaction|values|inference-log|historical|quarantine|erasures|training-sets)\/\*\]$/,
    at: /Erase\/Role\/DefaultPolicy/,
    reason: "who is erased may be in any object of these folders, and nowhere else",
  },
  {
    rule: /^AwsSolutions-IAM5\[Resource::.*Bucket.*\/(models|inference-log|historical|values|quarantine)\/\*\]$/,
    at: /Read\/Role\/DefaultPolicy/,
    reason:
      "versions of models, logged scores, pushed values and refused records come under fresh names: a prefix is as exact as it gets",
  },
  {
    rule: /^AwsSolutions-IAM5\[Resource::.*Bucket.*\/(models|training-sets|training-sets\/champions|jobs|raw|compacted|compaction|values|inference-log)\/\*\]$/,
    at: /training\/((Build|Steps)\/Role|Job\/JobRole)\/DefaultPolicy/,
    reason: "training sets, jobs and versions come under fresh names: a prefix is as exact as it gets",
  },
  {
    rule: /^AwsSolutions-IAM5\[Resource::\*\]$/,
    at: /training\/(MachineRole|Job\/JobRole)\/DefaultPolicy/,
    reason: "delivery of logs, traces, metrics and the token of the image registry know no resources",
  },
  {
    rule: /^AwsSolutions-IAM5\[Resource::arn:.*(TrainingJobs:\*|training-job\/\*|model-package\/[a-z-]+\/\*)\]$/,
    at: /training\/(MachineRole|Job\/JobRole)\/DefaultPolicy/,
    reason: "a job and its log are named after the execution that asks for it",
  },
  {
    rule: /^AwsSolutions-IAM5\[Resource::.*Bucket.*\/(athena|athena-keys)\/\*\]$/,
    at: /(Historical|training\/Build)\/Role\/DefaultPolicy/,
    reason: "what a job has done so far is under its own fresh id, as is what Athena writes for it",
  },
  {
    rule: /^AwsSolutions-IAM5\[Resource::.*Bucket.*\/(raw|compacted|compaction|values|inference-log|historical)\/\*\]$/,
    at: /Historical\/Role\/DefaultPolicy/,
    reason: "a job reads the archive of its tenant, which the request names, and writes under its own fresh id",
  },
  {
    rule: /^AwsSolutions-IAM5\[Resource::.*Bucket.*\/(raw|compacted|compaction|values)\/\*\]$/,
    at: /Compact\/Role\/DefaultPolicy/,
    reason: "what is compacted and replaced is told by listing, and written under fresh names",
  },
  {
    rule: /^AwsSolutions-IAM5\[Resource::.*BulkSnapshotsBucket.*\/(rounds\/|manifests\/)?\*\]$/,
    at: /(Snapshot|Restore|Erase)\/Role\/DefaultPolicy/,
    reason: "the bucket holds nothing but the rounds that the one writes and removes, and the other reads",
  },
  {
    rule: /^AwsSolutions-IAM4\[.*AmazonAPIGatewayPushToCloudWatchLogs\]$/,
    at: /Api\/Rest\/CloudWatchRole/,
    reason: "the account's role for API Gateway's logs, of which an account has one, shared by all its APIs",
  },
  {
    rule: /^AwsSolutions-APIG2$/,
    at: /Api\/Rest\/Resource$/,
    reason: "the router validates each request against its contract, and answers with the field and the repair",
  },
  {
    rule: /^AwsSolutions-APIG3$/,
    at: /DeploymentStage/,
    reason: "the firewall's rules are the organisation's; it is attached to the stage from outside",
  },
  {
    rule: /^AwsSolutions-(APIG4|COG4)$/,
    at: /Api\/Rest\/Default\//,
    reason: "the router checks the API key and its scope; one check serves this API and the plain Node server",
  },
];

/** Of a deployment on MSK alone. */
const acceptedOnMsk: readonly Accepted[] = [
  {
    rule: /^AwsSolutions-IAM5\[Resource::\*\]$/,
    at: /(Heartbeat|Topics)\/Role\/DefaultPolicy/,
    reason: "Lambda asks for the network interface actions on every resource; the functions' code is denied them",
  },
  {
    rule: /^AwsSolutions-IAM5\[Resource::.*Topics.*:\*\]$/,
    at: /TopicMaker\/Provider\//,
    reason: "CDK's own function may invoke the one of ours that it is made for, in any version",
  },
  {
    rule: /^AwsSolutions-(IAM4\[.*AWSLambdaBasicExecutionRole\]|L1)$/,
    at: /(TopicMaker\/Provider|AWS679f53fac002430cb0da5b7982bd2287)\//,
    reason: "CDK's own functions, which run while a deployment does, and see no event",
  },
];

test.each([
  ["Kinesis", awsTarget(), []],
  ["MSK, provisioned", awsTarget({ broker: mskBroker("provisioned") }), acceptedOnMsk],
  ["MSK, serverless", awsTarget({ broker: mskBroker("serverless") }), acceptedOnMsk],
] as const)("cdk-nag finds nothing that was not considered, with %s", (name, target, more) => {
  const { app } = synthesize(target, "prod");
  const { violations } = new AwsSolutionsChecks(app).validateScope(app);
  // The rows of streams are of Kinesis.
  const accepted = [...always.filter(({ rule }) => name === "Kinesis" || !rule.source.includes("KDS")), ...more];
  const findings = violations.flatMap(({ ruleName, violatingResources }) =>
    violatingResources.map(({ constructPath = "" }) => ({ ruleName, constructPath })),
  );
  const matches = ({ rule, at }: Accepted, finding: (typeof findings)[number]) =>
    rule.test(finding.ruleName) && at.test(finding.constructPath);
  expect(findings.filter((finding) => !accepted.some((row) => matches(row, finding)))).toEqual([]);
  expect(accepted.filter((row) => !findings.some((finding) => matches(row, finding)))).toEqual([]);
});
