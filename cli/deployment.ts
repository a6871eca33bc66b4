/**
 * The deployment that a command works on: the laptop's, or with `--stage` one on AWS. What it is made of is read from the
 * outputs of its stacks in both cases, so that what runs on a laptop is what runs against AWS.
 */
import { CloudFormationClient, DescribeStacksCommand, type Stack } from "@aws-sdk/client-cloudformation";
import { Option } from "commander";
import type { BrokerSettings, KafkaSettings } from "../adapters/broker/open-broker.ts";
import { FreshetError } from "../core/errors.ts";
import { checkLimits, type Limits } from "../functions/api/admission/tenants.ts";
import { clientConfig } from "../local/deploy.ts";
import { freshetHome } from "../local/home.ts";
import { requireRunning } from "./running.ts";

/** Stacks of `lib/app.ts` that have outputs for operators. */
const STACKS = ["streams", "storage", "aggregation", "serving"] as const;

/** A shard's readers share its five calls a second. */
const MAX_ATTEMPTS = 10;

/** Settings of every AWS client; empty for those of the user's environment. */
export type ClientConfig = Partial<ReturnType<typeof clientConfig>>;

export interface OperatedDeployment {
  readonly stage: string;
  /** `eu-west-1, account 123456789012`. */
  readonly place: string;
  readonly clientConfig: ClientConfig;
  readonly controlFunction: string;
  readonly aggregateFunction: string;
  readonly buildFunction: string;
  readonly verifyFunction: string;
  readonly eraseFunction: string;
  readonly materializeFunction: string;
  readonly replayFunction: string;
  readonly quarantineBucket: string;
  readonly quarantineTable: string;
  readonly restoreFunction: string;
  readonly keysTable: string;
  readonly featuresTable: string;
  readonly erasuresTable: string;
  readonly auditTable: string;
  readonly auditRetentionDays: number;
  readonly archiveBucket: string;
  readonly lateTable: string;
  readonly controlTable: string;
  readonly modelsTable: string;
  readonly modelsBucket: string;
  readonly apiUrl: string;
  /** Of a tenant without limits of its own. */
  readonly limits: Limits;
  /** Stream name in the plan to its name at the broker. */
  readonly streams: Readonly<Record<string, string>>;
  readonly broker: BrokerSettings;
}

export interface StageOption {
  readonly stage?: string;
}

export const stageOption = (
  description = "a deployment on AWS (dev, prod), with the environment's credentials and region; the laptop's when left out",
): Option => new Option("--stage <name>", description);

/** @throws FreshetError `not_running`, and those of `readDeployment` */
export function openDeployment({ stage }: StageOption): Promise<OperatedDeployment> {
  if (stage !== undefined) return readDeployment(stage, {});
  const { ports } = requireRunning(freshetHome());
  return readDeployment("local", clientConfig(ports.emulator));
}

/**
 * @param config empty for the SDK's own: variables, profile, region of the user
 * @throws FreshetError `aws_unreachable`, `not_deployed`, `output_missing`
 */
export async function readDeployment(stage: string, config: ClientConfig): Promise<OperatedDeployment> {
  const client = new CloudFormationClient(config);
  try {
    const stacks = await Promise.all(STACKS.map((name) => readStack(client, stage, name)));
    const outputs = new Map(
      stacks.flatMap(({ Outputs = [] }) => Outputs.map((each) => [each.OutputKey, each.OutputValue])),
    );
    const output = (key: string): string => {
      const value = outputs.get(key);
      if (value !== undefined) return value;
      throw new FreshetError("output_missing", `no stack of stage ${stage} has the output ${key}`, {
        repair: "deploy this version of the app",
      });
    };
    // arn:aws:cloudformation:<region>:<account>:stack/…
    const [, , , region, account] = (stacks[0].StackId ?? "").split(":");
    const kafka = outputs.get("Broker");
    return {
      stage,
      place: `${region}, account ${account}`,
      clientConfig: config,
      controlFunction: output("ControlFunction"),
      aggregateFunction: output("AggregateFunction"),
      buildFunction: output("BuildFunction"),
      verifyFunction: output("VerifyFunction"),
      eraseFunction: output("EraseFunction"),
      materializeFunction: output("MaterializeFunction"),
      replayFunction: output("ReplayFunction"),
      quarantineBucket: output("QuarantineBucket"),
      quarantineTable: output("QuarantineTable"),
      restoreFunction: output("RestoreFunction"),
      keysTable: output("KeysTable"),
      featuresTable: output("FeaturesTable"),
      erasuresTable: output("ErasuresTable"),
      auditTable: output("AuditTable"),
      auditRetentionDays: Number(output("AuditRetentionDays")),
      archiveBucket: output("ArchiveBucket"),
      lateTable: output("LateTable"),
      controlTable: output("ControlTable"),
      modelsTable: output("ModelsTable"),
      modelsBucket: output("ModelsBucket"),
      apiUrl: output("ApiUrl"),
      limits: checkLimits(JSON.parse(output("TenantLimits"))),
      streams: JSON.parse(output("Streams")),
      broker:
        kafka === undefined
          ? { kind: "kinesis", client: { ...config, maxAttempts: MAX_ATTEMPTS } }
          : { ...(JSON.parse(kafka) as Omit<KafkaSettings, "region">), region },
    };
  } finally {
    client.destroy();
  }
}

async function readStack(client: CloudFormationClient, stage: string, name: string): Promise<Stack> {
  const stack = `freshet-${stage}-${name}`;
  try {
    const { Stacks = [] } = await client.send(new DescribeStacksCommand({ StackName: stack }));
    if (Stacks.length > 0) return Stacks[0];
  } catch (cause) {
    const { name: kind, message } = cause as Error;
    if (!/does not exist/.test(message)) {
      throw new FreshetError("aws_unreachable", `AWS did not describe the stack ${stack}: ${kind}: ${message}`, {
        repair: "set credentials and region as for any AWS tool: AWS_PROFILE, or AWS_ACCESS_KEY_ID …, and AWS_REGION",
        cause,
      });
    }
  }
  throw new FreshetError("not_deployed", `there is no stack ${stack} in this account and region`, {
    repair:
      "check --stage, AWS_PROFILE and AWS_REGION, or deploy it: npx cdk deploy --all -c target=aws -c stage=<stage>",
  });
}
