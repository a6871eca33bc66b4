import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { CloudFormationClient, DescribeStacksCommand } from "@aws-sdk/client-cloudformation";
import { GetFunctionConfigurationCommand, LambdaClient } from "@aws-sdk/client-lambda";
import { FreshetError } from "../core/errors.ts";
import { ENVIRONMENT, optionalEnvironment } from "../functions/shared/environment.ts";
import { LOCAL_ACCOUNT, LOCAL_REGION, localCdkEnvironment } from "../lib/local-guard.ts";
import { emulatorUrl, toolPath } from "./emulator.ts";
import { emulatorOf } from "./emulator-kinds.ts";
import { homeFolder, ROOT } from "./home.ts";
import { bootstrapOf } from "./kafka/broker.ts";
import { stopProcess } from "./processes.ts";
import type { Deployment, LaptopPorts } from "./state.ts";
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

/** Hash of the sources: equal means that a deployment would change nothing. */
export function sourceHash(): string {
  const hash = createHash("sha256");
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

/** Runs the CDK CLI against the emulator, and nothing else: it gets no credentials, profile or endpoint of the user's. */
function runCdk(
  home: string,
  ports: LaptopPorts,
  name: string,
  args: readonly string[],
  cwd: string,
  signal?: AbortSignal,
): Promise<void> {
  return runTool(
    home,
    {
      name,
      command: join(ROOT, "node_modules", ".bin", "node"),
      args: [
        join(ROOT, "node_modules", emulatorOf(home).deployer),
        ...args,
        "--no-notices",
        "--no-version-reporting",
        "--no-color",
        "--ci",
      ],
      cwd,
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

/** Ends what a killed `up` has left at work. */
export async function endLeftTools(home: string): Promise<void> {
  for (const name of ["cdk-bootstrap", "cdk-deploy"]) await stopProcess(home, name, 0);
}

/** Run where no app is found: bootstrapping needs none, and would synthesize it for nothing. */
export function bootstrap(home: string, ports: LaptopPorts, signal?: AbortSignal): Promise<void> {
  const args = ["bootstrap", `aws://${LOCAL_ACCOUNT}/${LOCAL_REGION}`];
  return runCdk(home, ports, "cdk-bootstrap", args, homeFolder(home, "cdk"), signal);
}

/** @param more CDK context beside that of every deployment of the home, as `sagemakerEndpoint=…` */
export function deploy(
  home: string,
  ports: LaptopPorts,
  options: { more?: readonly string[]; signal?: AbortSignal } = {},
): Promise<void> {
  const { more = [], signal } = options;
  const broker = ports.kafka === undefined ? [] : ["broker=msk", `bootstrapServers=${bootstrapOf(ports.kafka)}`];
  const registry = optionalEnvironment("schemaRegistry");
  const schemas = registry === undefined ? [] : [`schemaRegistry=${registry}`];
  const context = ["target=local", "stage=local", ...broker, ...schemas, ...emulatorOf(home).context(ports), ...more];
  const args = ["deploy", "--all", "--require-approval", "never", "--concurrency", "4"];
  args.push(...context.flatMap((each) => ["-c", each]), "--output", join(home, "cdk.out"));
  return runCdk(home, ports, "cdk-deploy", args, ROOT, signal);
}

/** Names of the deployed stacks, to see whether the emulator still has what the state file says. */
export async function stackNames(port: number): Promise<string[]> {
  const client = new CloudFormationClient(clientConfig(port));
  const { Stacks = [] } = await client.send(new DescribeStacksCommand({}));
  return Stacks.filter((stack) => stack.StackStatus?.endsWith("_COMPLETE")).map((stack) => stack.StackName ?? "");
}

/** Tables and buckets that no API function needs, but tools do: each with its output. */
const STORED = {
  archiveBucket: "ArchiveBucket",
  quarantineBucket: "QuarantineBucket",
  quarantineTable: "QuarantineTable",
  lateTable: "LateTable",
  controlTable: "ControlTable",
} as const;

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
      ["AggregateFunction", "ApiFunction", "IngestFunction"].map(async (key) => {
        const { Environment } = await lambda.send(new GetFunctionConfigurationCommand({ FunctionName: output(key) }));
        return Environment?.Variables ?? {};
      }),
    );
    const stored = Object.entries(STORED).map(([name, key]) => [ENVIRONMENT[name as keyof typeof STORED], output(key)]);
    const environment = Object.assign({}, ...environments, Object.fromEntries(stored)) as Record<string, string>;
    return {
      deployedAtMs: Date.now(),
      stacks: Stacks.map((stack) => stack.StackName ?? ""),
      // The stack's own URL is a public name; the emulator serves the same API under this path.
      apiUrl: `${emulatorUrl(port)}/_aws/execute-api/${output("ApiId")}/${output("ApiStage")}`,
      environment,
      controlFunction: output("ControlFunction"),
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
