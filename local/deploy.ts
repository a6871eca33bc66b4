import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { CloudFormationClient, DescribeStacksCommand } from "@aws-sdk/client-cloudformation";
import { GetFunctionConfigurationCommand, LambdaClient } from "@aws-sdk/client-lambda";
import { FreshetError } from "../core/errors.ts";
import { ENVIRONMENT } from "../functions/shared/environment.ts";
import { LOCAL_ACCOUNT, LOCAL_REGION, localCdkEnvironment } from "../lib/local-guard.ts";
import { emulatorUrl, toolPath } from "./emulator.ts";
import { homeFolder, ROOT } from "./home.ts";
import { LOOPBACK } from "./ports.ts";
import type { Deployment } from "./state.ts";
import { runTool } from "./tool.ts";

/** What the deployed app consists of. Docs, tests and the laptop's own code change nothing in it. */
const SOURCES = [
  "bin",
  "lib",
  "core",
  "adapters",
  "functions",
  "features",
  "schemas",
  "cdk.json",
  "package-lock.json",
  "tsconfig.json",
];

export interface LaptopPorts {
  readonly valkey: number;
  readonly emulator: number;
  readonly serve: number;
}

/** Hash of the sources and of the context they are deployed with. */
export function sourceHash(ports: LaptopPorts): string {
  const hash = createHash("sha256").update(JSON.stringify(contextArguments(ports)));
  const add = (path: string): void => {
    const stats = statSync(join(ROOT, path), { throwIfNoEntry: false });
    if (stats === undefined) return;
    if (stats.isDirectory()) {
      for (const name of readdirSync(join(ROOT, path)).sort()) add(join(path, name));
    } else {
      hash
        .update(path)
        .update("\0")
        .update(readFileSync(join(ROOT, path)))
        .update("\0");
    }
  };
  for (const source of SOURCES) add(source);
  return hash.digest("hex");
}

function contextArguments(ports: LaptopPorts): string[] {
  const context = { target: "local", stage: "local", valkeyHost: LOOPBACK, valkeyPort: String(ports.valkey) };
  return Object.entries(context).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
}

/** Runs the CDK CLI against the emulator, and nothing else: it gets no credentials, profile or endpoint of the user's. */
function runCdk(
  home: string,
  ports: LaptopPorts,
  name: string,
  args: readonly string[],
  signal?: AbortSignal,
): Promise<void> {
  return runTool(
    home,
    {
      name,
      command: join(ROOT, "node_modules", ".bin", "node"),
      args: [
        join(ROOT, "node_modules", "aws-cdk", "bin", "cdk"),
        ...args,
        ...contextArguments(ports),
        "--output",
        join(home, "cdk.out"),
        "--no-notices",
        "--no-version-reporting",
        "--no-color",
        "--ci",
      ],
      cwd: ROOT,
      env: localCdkEnvironment(
        {
          PATH: toolPath(),
          LC_ALL: "C.UTF-8",
          FRESHET_HOME: home,
          HOME: homeFolder(home, "cdk"),
          CDK_HOME: homeFolder(home, "cdk"),
          TMPDIR: homeFolder(home, "cdk", "tmp"),
        },
        emulatorUrl(ports.emulator),
      ),
    },
    signal,
  );
}

export function bootstrap(home: string, ports: LaptopPorts, signal?: AbortSignal): Promise<void> {
  return runCdk(home, ports, "cdk-bootstrap", ["bootstrap", `aws://${LOCAL_ACCOUNT}/${LOCAL_REGION}`], signal);
}

export function deploy(home: string, ports: LaptopPorts, signal?: AbortSignal): Promise<void> {
  const args = ["deploy", "--all", "--require-approval", "never", "--concurrency", "4"];
  return runCdk(home, ports, "cdk-deploy", args, signal);
}

/** Names of the deployed stacks, to see whether the emulator still has what the state file says. */
export async function stackNames(port: number): Promise<string[]> {
  const client = new CloudFormationClient(clientConfig(port));
  const { Stacks = [] } = await client.send(new DescribeStacksCommand({}));
  return Stacks.filter((stack) => stack.StackStatus?.endsWith("_COMPLETE")).map((stack) => stack.StackName ?? "");
}

/** What the deployed stacks say of themselves. */
export async function describeDeployment(port: number): Promise<Omit<Deployment, "sourceHash">> {
  const cloudFormation = new CloudFormationClient(clientConfig(port));
  const lambda = new LambdaClient(clientConfig(port));
  try {
    const { Stacks = [] } = await cloudFormation.send(new DescribeStacksCommand({}));
    const outputs = new Map(
      Stacks.flatMap((stack) => stack.Outputs ?? []).map((each) => [each.OutputKey, each.OutputValue]),
    );
    const output = (key: string): string => {
      const value = outputs.get(key);
      if (value !== undefined) return value;
      throw new FreshetError("output_missing", `no deployed stack has the output ${key}`, {
        repair: "run `make deploy`",
      });
    };
    const environments = await Promise.all(
      ["ApiFunctionName", "IngestFunctionName"].map(async (key) => {
        const { Environment } = await lambda.send(new GetFunctionConfigurationCommand({ FunctionName: output(key) }));
        return Environment?.Variables ?? {};
      }),
    );
    const environment = Object.assign({}, ...environments) as Record<string, string>;
    return {
      deployedAtMs: Date.now(),
      stacks: Stacks.map((stack) => stack.StackName ?? ""),
      apiUrl: output("ApiUrl").replace(/\/$/, ""),
      environment,
      controlFunction: output("ControlFunctionName"),
      streams: JSON.parse(environment[ENVIRONMENT.streams]),
    };
  } finally {
    cloudFormation.destroy();
    lambda.destroy();
  }
}

/** Settings of an SDK client for the emulator, whatever the user's environment says. */
export function clientConfig(port: number): {
  endpoint: string;
  region: string;
  credentials: { accessKeyId: string; secretAccessKey: string };
} {
  return {
    endpoint: emulatorUrl(port),
    region: LOCAL_REGION,
    credentials: { accessKeyId: "test", secretAccessKey: "test" },
  };
}
