import type { Command } from "commander";
import { freshetHome } from "../../local/home.ts";
import { describe, describeStore } from "../../local/status.ts";
import { withRuntime } from "../bring-up.ts";
import { requireRunning } from "../running.ts";

export function register(program: Command): void {
  program
    .command("deploy")
    .description("Deploy the app again to the running emulator, and restart the API server with it.")
    .option("--json", "print the status as JSON when done")
    .addHelpText("after", "\nExamples:\n  freshet plan --write && freshet deploy")
    .action(async (options: { json?: boolean }) => {
      const home = freshetHome();
      requireRunning(home);
      await withRuntime(home, { redeploy: true }, async () => {});
      if (!options.json) return;
      process.stdout.write(`${JSON.stringify({ ...describe(home), ...(await describeStore(home)) }, null, 2)}\n`);
    });
}
