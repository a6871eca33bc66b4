import type { Command } from "commander";
import { clientConfig } from "../../local/deploy.ts";
import { freshetHome } from "../../local/home.ts";
import { recover } from "../../local/recover.ts";
import { EXIT } from "../exit.ts";
import { requireRunning } from "../running.ts";
import { formatTable } from "../table.ts";

export function register(program: Command): void {
  program
    .command("recover")
    .description("Bring the online store back after a failover or a loss, by replaying what the broker holds.")
    .option("--json", "print the result as JSON")
    .addHelpText("after", "\nSafe to run at any time and twice: an event that is still counted is not counted again.")
    .action(async (options: { json?: boolean }) => {
      const { ports, deployment } = requireRunning(freshetHome());
      const result = await recover(clientConfig(ports.emulator), deployment, (message) => {
        if (!options.json) process.stderr.write(`  ${message}\n`);
      });
      if (options.json) process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
      else if (result.steps.length === 0) process.stdout.write(`the store is ${result.state}: nothing to recover\n`);
      else {
        const rows = result.steps.map(({ stream, records, applied }) => [stream, String(records), String(applied)]);
        process.stdout.write(`${formatTable([["stream", "records replayed", "events that were missing"], ...rows])}\n`);
        process.stdout.write(`the store was ${result.found} and is ${result.state}\n`);
      }
      if (result.state !== "ok") process.exitCode = EXIT.failed;
    });
}
