import type { Command } from "commander";
import { freshetHome } from "../../local/home.ts";
import { describe } from "../../local/status.ts";
import { addPortOptions, type PortOptions, wantedPorts, withRuntime } from "../bring-up.ts";
import { formatStatus } from "../status-table.ts";

export function register(program: Command): void {
  const command = program
    .command("up")
    .description("Start the online store and the emulator, deploy the app to it, start the API. What runs stays.")
    .option("--json", "print the status as JSON when done");
  addPortOptions(command).action(async (options: PortOptions & { json?: boolean }) => {
    const home = freshetHome();
    await withRuntime(home, { wanted: wantedPorts(options) }, async () => {});
    const status = describe(home);
    process.stdout.write(`${options.json ? JSON.stringify(status, null, 2) : `\n${formatStatus(status)}`}\n`);
  });
}
