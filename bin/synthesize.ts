/**
 * The CDK app's stacks, by its context. The only file that reads CDK context:
 *
 *   -c target=local|aws             where it runs (default aws)
 *   -c stage=local|dev|prod         column of lib/stage.ts (default local for target local, dev for aws)
 *   -c broker=kinesis|msk           what carries events (default kinesis)
 *   -c mskCluster=serverless|provisioned   target aws only: the kind of cluster, instead of the stage's
 *   -c bootstrapServers=            target local only, where broker msk needs it: a Kafka that is already there, host:port
 *   -c emulator=ministack|localstack   target local only: what stands for AWS there (default ministack)
 *   -c valkeyHost= -c valkeyPort=   target local only: a Valkey that is already there, instead of the emulator's
 *   -c trainingImage=               target aws only: the training container in ECR, instead of the deployment's own repository
 *   -c sagemakerEndpoint=           target local only: a stand-in for SageMaker, with which the training machine is deployed
 *   -c schemaRegistry=              where schemas are that events name by an id: https://…, or glue:<registry>
 *   -c schemaRegistrySecret=        ARN of the secret with that registry's credentials
 */
import type { App } from "aws-cdk-lib";
import { checkSchemas } from "../adapters/avro/check-schemas.ts";
import { registryAddress } from "../adapters/schema-registry/address.ts";
import { FreshetError } from "../core/errors.ts";
import { checkServices } from "../core/scoring/scoring.ts";
import { definitions } from "../features/index.ts";
import { plan } from "../features/plan.ts";
import { addStacks } from "../lib/app.ts";
import type { Broker } from "../lib/broker.ts";
import { kinesisBroker } from "../lib/brokers/kinesis.ts";
import { mskBroker } from "../lib/brokers/msk.ts";
import type { FunctionCode } from "../lib/constructs/function-code.ts";
import type { SchemaRegistryChoice } from "../lib/constructs/schema-registry.ts";
import { assertLoopbackEndpoints } from "../lib/local-guard.ts";
import { stageNamed } from "../lib/stage.ts";
import type { Target } from "../lib/target.ts";
import { awsTarget } from "../lib/targets/aws.ts";
import { localTarget } from "../lib/targets/local.ts";

/** Each target with the stage it takes when none is given. */
const targets: Readonly<Record<string, { stage: string; make: (given: Given) => Target }>> = {
  aws: { stage: "dev", make: onAws },
  local: { stage: "local", make: onThisMachine },
};

/** Context that not every target knows. */
interface Given {
  readonly broker: string;
  readonly mskCluster?: string;
  readonly bootstrapServers?: string;
  readonly valkey?: { readonly host: string; readonly port: string };
  readonly trainingImage?: string;
  readonly sagemakerEndpoint?: string;
  readonly emulator?: string;
}

function onAws(given: Given): Target {
  const { valkey, trainingImage, sagemakerEndpoint, bootstrapServers } = given;
  if (valkey !== undefined) {
    throw refused("valkeyHost", "on AWS the app makes its own store", "leave valkeyHost and valkeyPort out");
  }
  if (sagemakerEndpoint !== undefined) {
    throw refused("sagemakerEndpoint", "on AWS Step Functions ask SageMaker itself", "leave sagemakerEndpoint out");
  }
  if (bootstrapServers !== undefined) {
    throw refused("bootstrapServers", "on AWS the app makes its own cluster", "leave bootstrapServers out");
  }
  return awsTarget({ trainingImage, broker: brokerOnAws(given) });
}

function brokerOnAws({ broker, mskCluster }: Given): Broker {
  if (mskCluster !== undefined && mskCluster !== "serverless" && mskCluster !== "provisioned") {
    throw new FreshetError("context_invalid", `no cluster of MSK is ${mskCluster}; use serverless or provisioned`, {
      field: "mskCluster",
      repair: "leave mskCluster out: the stage says which",
    });
  }
  return broker === "msk" ? mskBroker(mskCluster) : kinesisBroker;
}

const refused = (field: string, why: string, leaveOut: string): FreshetError =>
  new FreshetError("context_invalid", `${field} is for target local; ${why}`, {
    field,
    repair: `${leaveOut}, or pass -c target=local`,
  });

function onThisMachine(given: Given): Target {
  const { broker, valkey, sagemakerEndpoint, bootstrapServers, emulator = "ministack" } = given;
  assertLoopbackEndpoints(process.env);
  if (emulator !== "ministack" && emulator !== "localstack") {
    throw new FreshetError("context_invalid", `no emulator ${emulator}; use ministack, localstack`, {
      field: "emulator",
      repair: "pass -c emulator=localstack, or leave it out",
    });
  }
  if (broker === "kinesis" && bootstrapServers !== undefined) {
    throw new FreshetError("context_invalid", "bootstrapServers are Kafka's, and the broker is Kinesis", {
      field: "bootstrapServers",
      repair: "pass -c broker=msk, or leave bootstrapServers out",
    });
  }
  if (broker === "msk" && bootstrapServers === undefined) {
    throw new FreshetError("context_invalid", "no emulator has MSK; target local needs a Kafka that is already there", {
      field: "bootstrapServers",
      repair: "pass -c bootstrapServers=127.0.0.1:9092, or leave broker out for Kinesis",
    });
  }
  return localTarget({ emulator, valkey, sagemakerEndpoint, bootstrapServers });
}

/** @throws FreshetError `schema_registry_invalid`, `context_invalid` */
function chosenRegistry(address?: string, secretArn?: string): SchemaRegistryChoice | undefined {
  if (address === undefined && secretArn === undefined) return undefined;
  if (address !== undefined && !("glue" in registryAddress(address) && secretArn !== undefined)) {
    return { address, secretArn };
  }
  throw new FreshetError("context_invalid", "schemaRegistrySecret is for a registry with an https address", {
    field: "schemaRegistrySecret",
    repair: "pass -c schemaRegistry=https://… too; Glue takes the functions' own roles",
  });
}

/** A contract that breaks what was shipped is refused here, where nothing has been deployed yet. */
function requireCompatibleContracts(): void {
  const problems = checkSchemas();
  if (problems.length === 0) return;
  throw new FreshetError(
    "schemas_invalid",
    problems.map(({ contract, message, repair }) => `${contract}: ${message}\n    ${repair}`).join("\n  "),
    { repair: "`freshet schemas check` shows the same" },
  );
}

/**
 * @param codeFor the functions' code, by the name of the target
 * @throws FreshetError what is to be repaired, before anything is made
 */
export function synthesize(app: App, codeFor: (target: string) => FunctionCode): void {
  requireCompatibleContracts();
  checkServices(plan, definitions.services);
  const context = (name: string): string | undefined => app.node.tryGetContext(name);
  const name = context("target") ?? "aws";
  const target = targets[name];
  if (target === undefined) {
    throw new FreshetError("target_unknown", `no target ${name}; use ${Object.keys(targets).join(", ")}`, {
      field: "target",
      repair: "pass -c target=local",
    });
  }
  const broker = context("broker") ?? "kinesis";
  if (broker !== "kinesis" && broker !== "msk") {
    throw new FreshetError("broker_unknown", `no broker ${broker}; use kinesis, msk`, {
      field: "broker",
      repair: "pass -c broker=msk",
    });
  }
  const host = context("valkeyHost");
  const stage = stageNamed(context("stage") ?? target.stage);
  if (name === "aws" && stage.name === "local") {
    throw new FreshetError("stage_unknown", "stage local is the laptop's; on AWS use dev or prod", {
      field: "stage",
      repair: "pass -c stage=dev",
    });
  }
  addStacks(app, {
    stage,
    target: target.make({
      broker,
      mskCluster: context("mskCluster"),
      bootstrapServers: context("bootstrapServers"),
      valkey: host === undefined ? undefined : { host, port: String(context("valkeyPort") ?? 6379) },
      trainingImage: context("trainingImage"),
      sagemakerEndpoint: context("sagemakerEndpoint"),
      emulator: context("emulator"),
    }),
    plan,
    schemaRegistry: chosenRegistry(context("schemaRegistry"), context("schemaRegistrySecret")),
    code: codeFor(name),
  });
}
