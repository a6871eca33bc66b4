/** LocalStack as a process of this machine, installed by `install.ts`. What it holds is gone when it ends. */
import { mkdirSync, rmSync, symlinkSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { emulatorUrl, toolPath } from "../emulator.ts";
import { homeFolder } from "../home.ts";
import { LOOPBACK } from "../ports.ts";
import { processesNaming } from "../process-table.ts";
import type { ProcessSpec } from "../processes.ts";
import { LOCALSTACK_PYTHON, PARTS_FOLDER } from "./install.ts";

/** What the app and its bootstrap are made of; docker-compose.localstack.yml has the same. It starts no other. */
export const LOCALSTACK_SERVICES = [
  ...["apigateway", "cloudformation", "cloudwatch", "dynamodb", "dynamodbstreams", "events", "iam", "kinesis", "kms"],
  ...["lambda", "logs", "s3", "sns", "ssm", "stepfunctions", "sts"],
] as const;

/** Its environment is named here as a whole, and hardly any of it reaches a function: see `executor/`. */
export function localStackProcess(home: string, ports: { emulator: number }): ProcessSpec {
  const folder = join(home, "emulator");
  rmSync(folder, { recursive: true, force: true });
  const temporary = homeFolder(folder, "tmp");
  // Everything that it would write under /var lies in the home; what was installed is shared by all homes.
  const root = homeFolder(folder, "root");
  const library = join(root, "var", "lib", "localstack", "lib");
  mkdirSync(dirname(library), { recursive: true });
  symlinkSync(PARTS_FOLDER, library);
  return {
    name: "emulator",
    command: LOCALSTACK_PYTHON,
    args: ["-m", "freshet_executor"],
    cwd: folder,
    env: {
      PATH: [dirname(LOCALSTACK_PYTHON), toolPath()].join(delimiter),
      HOME: temporary,
      TMPDIR: temporary,
      LC_ALL: "C.UTF-8",
      PYTHONUNBUFFERED: "1",
      // A machine may look like LocalStack's own container to it, and then it writes to the machine's folders.
      OVERRIDE_IN_DOCKER: "0",
      FILESYSTEM_ROOT: root,
      GATEWAY_LISTEN: `${LOOPBACK}:${ports.emulator}`,
      // What functions are told. A name, as in LocalStack's container: buckets must be asked for by path.
      LOCALSTACK_HOST: `localhost:${ports.emulator}`,
      SERVICES: LOCALSTACK_SERVICES.join(","),
      LAMBDA_RUNTIME_EXECUTOR: "freshet-node",
      // It would poll a stream once a second, and an idle one every ten.
      LAMBDA_EVENT_SOURCE_MAPPING_POLL_INTERVAL_SEC: "0.5",
      LAMBDA_EVENT_SOURCE_MAPPING_MAX_BACKOFF_ON_EMPTY_POLL_SEC: "1",
      LAMBDA_EVENT_SOURCE_MAPPING_MAX_BACKOFF_ON_ERROR_SEC: "5",
      // Dashboards, which it does not have, must not end the deployment.
      CFN_IGNORE_UNSUPPORTED_RESOURCE_TYPES: "1",
      // Of its children: the Kinesis stand-in is a program of Node's. Functions get no variable from here.
      NODE_OPTIONS: `--import=${pathToFileURL(join(import.meta.dirname, "loopback.mjs"))}`,
      // Nothing of it asks the network.
      DDB_LOCAL_TELEMETRY: "0",
      SKIP_SSL_CERT_DOWNLOAD: "1",
      DISABLE_EVENTS: "1",
      DNS_ADDRESS: "0",
      DOCKER_HOST: `unix://${join(temporary, "no-docker")}`,
      AWS_ACCESS_KEY_ID: "test",
      AWS_SECRET_ACCESS_KEY: "test",
    },
  };
}

/** Ends what a killed LocalStack leaves behind: its DynamoDB and its Kinesis lead groups of their own. */
export function endLeftOfLocalStack(home: string): void {
  for (const pid of processesNaming(join(home, "emulator", "root"))) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It ended by itself between the look and the signal.
    }
  }
}

export async function pingLocalStack(port: number, timeoutMs = 2_000): Promise<boolean> {
  const answer = await fetch(`${emulatorUrl(port)}/_localstack/health`, { signal: AbortSignal.timeout(timeoutMs) });
  await answer.body?.cancel();
  return answer.ok;
}
