import type { Command } from "commander";
import { freshetHome } from "../../local/home.ts";
import { withRuntime } from "../bring-up.ts";
import { requireRunning } from "../running.ts";

export function register(program: Command): void {
  program
    .command("deploy")
    .description("Deploy the app again to the running emulator, and restart the API server with it.")
    .addHelpText("after", "\nExamples:\n  freshet plan --write && freshet deploy")
    .action(async () => {
      const home = freshetHome();
      requireRunning(home);
      await withRuntime(home, { redeploy: true }, async () => {});
    });
}
