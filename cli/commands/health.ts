import type { Command } from "commander";
import { checkParts } from "../../local/checks.ts";
import { freshetHome } from "../../local/home.ts";
import { EXIT } from "../exit.ts";
import { requireRunning } from "../running.ts";
import { formatTable } from "../table.ts";

export function register(program: Command): void {
  program
    .command("health")
    .description("Check each part. Exit code 1 when one does not work, 3 when it does not run.")
    .option("--json", "print the checks as JSON")
    .addHelpText("after", "\nExamples:\n  freshet health\n  freshet health --json")
    .action(async (options: { json?: boolean }) => {
      const home = freshetHome();
      const { ports, deployment } = requireRunning(home);
      const checks = await checkParts(home, ports, deployment);
      process.stdout.write(
        options.json
          ? `${JSON.stringify(checks, null, 2)}\n`
          : `${formatTable(checks.map(({ name, ok, detail, ms }) => [name, ok ? "ok" : "FAILED", `${ms} ms`, detail]))}\n`,
      );
      if (checks.some(({ ok }) => !ok)) process.exitCode = EXIT.failed;
    });
}
