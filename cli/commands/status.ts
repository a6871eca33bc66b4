import type { Command } from "commander";
import { freshetHome } from "../../local/home.ts";
import { describe } from "../../local/status.ts";
import { EXIT } from "../exit.ts";
import { formatStatus } from "../status-table.ts";

export function register(program: Command): void {
  program
    .command("status")
    .description("What runs, where, and how to connect. Exit code 3 when something does not run.")
    .option(
      "--json",
      "all that a script needs to connect: api.url, api.key, serve.url, emulator.url, valkey.url, streams",
    )
    .action((options: { json?: boolean }) => {
      const status = describe(freshetHome());
      process.stdout.write(`${options.json ? JSON.stringify(status, null, 2) : formatStatus(status)}\n`);
      if (!status["running"]) process.exitCode = EXIT.notRunning;
    });
}
