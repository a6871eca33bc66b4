import type { Command } from "commander";
import { freshetHome } from "../../local/home.ts";
import { describe, describeStore } from "../../local/status.ts";
import { addRuntimeOptions, type RuntimeOptions, wantedRuntime, withRuntime } from "../bring-up.ts";
import { formatStatus } from "../status-table.ts";

export function register(program: Command): void {
  const command = program
    .command("up")
    .description("Start the online store and the emulator, deploy the app to it, start the API. What runs stays.")
    .option("--json", "print the status as JSON when done");
  addRuntimeOptions(command)
    .addHelpText(
      "after",
      "\nExamples:\n  freshet up\n  freshet up --json\n  freshet up --serve-port 8080\n  freshet up --emulator localstack",
    )
    .action(async (options: RuntimeOptions & { json?: boolean }) => {
      const home = freshetHome();
      await withRuntime(home, wantedRuntime(options), async () => {});
      const [status, store] = [describe(home), await describeStore(home)];
      process.stdout.write(
        `${options.json ? JSON.stringify({ ...status, ...store }, null, 2) : `\n${formatStatus(status, store)}`}\n`,
      );
    });
}
