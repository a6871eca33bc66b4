import { availableParallelism } from "node:os";
import { resolve } from "node:path";
import { type Command, Option } from "commander";
import type { RunOptions } from "../../functions/mapping/run.ts";
import { ENVIRONMENT } from "../../functions/shared/environment.ts";
import { freshetHome } from "../../local/home.ts";
import { untilInterrupted } from "../../local/interrupt.ts";
import { MAPPING_GROUP, serveEnvironment } from "../../local/parts.ts";
import { LOOPBACK } from "../../local/ports.ts";
import { duration, port, whole } from "../arguments.ts";
import { requireRunning } from "../running.ts";

interface Options extends Omit<RunOptions, "batchWindowMs" | "timeoutMs" | "sessionTimeoutMs"> {
  readonly batchWindow: number;
  readonly timeout: number;
  readonly sessionTimeout: number;
}

export function register(program: Command): void {
  program
    .command("mapping")
    .description("Hands what is in Kafka's topics to the aggregate function, where no platform does. `up` runs one.")
    .option("--group <name>", "consumer group", MAPPING_GROUP)
    .option("--instance <name>", "name of this member, for one that comes back under it")
    .option("--batch-size <n>", "records of an invocation at most", whole(1, 10_000), 1_000)
    .addOption(
      new Option("--batch-window <time>", "how long a batch that is not full waits for more")
        .argParser(duration)
        .default(0, "0s"),
    )
    .addOption(
      new Option("--timeout <time>", "of an invocation; the control function has to know it")
        .argParser(duration)
        .default(60_000, "60s"),
    )
    .option("--concurrency <n>", "invocations at once", whole(1, 64), availableParallelism())
    .addOption(
      new Option("--session-timeout <time>", "after which the group takes a silent member for dead")
        .argParser(duration)
        .default(10_000, "10s"),
    )
    .addOption(new Option("--port <port>", "port of /health and /metrics").argParser(port).default(8090))
    .option("--host <address>", "address of these", LOOPBACK)
    .option("--handler <file>", "bundle of another function than this checkout's", (file: string) => resolve(file))
    .addHelpText(
      "after",
      "\nOf each partition one batch is in flight. One that fails is tried again for ever, in halves: its partition waits, and nothing is skipped." +
        "\nSettings come from the environment; where they are not set, from the running laptop.\n\nExamples:\n  freshet mapping --host 0.0.0.0\n  freshet mapping --concurrency 8 --batch-size 2000 --batch-window 1s",
    )
    .action(async ({ batchWindow, timeout, sessionTimeout, ...options }: Options) => {
      if (process.env[ENVIRONMENT.controlTable] === undefined) {
        const { ports, deployment } = requireRunning(freshetHome());
        Object.assign(process.env, serveEnvironment(ports.emulator, deployment));
      }
      // After the environment is set: modules below read it as they load.
      const { runMapping } = await import("../../functions/mapping/run.ts");
      const times = { batchWindowMs: batchWindow, timeoutMs: timeout, sessionTimeoutMs: sessionTimeout };
      await untilInterrupted((signal) => runMapping({ ...options, ...times }, signal));
    });
}
