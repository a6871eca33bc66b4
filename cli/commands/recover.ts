import type { Command } from "commander";
import { ALL_TENANTS, withRecord } from "../audited.ts";
import { openDeployment, type StageOption, stageOption } from "../deployment.ts";
import { EXIT } from "../exit.ts";
import { recover } from "../recovery.ts";
import { formatTable } from "../table.ts";

export function register(program: Command): void {
  program
    .command("recover")
    .description("Bring the online store back after a failover or a loss, by replaying what the broker holds.")
    .addOption(stageOption())
    .option("--json", "print the result as JSON")
    .addHelpText(
      "after",
      "\nSafe to run at any time and twice: an event that is still counted is not counted again." +
        "\nWith --stage the broker is read from here, and its records pass through this machine." +
        "\n\nExamples:\n  freshet recover\n  AWS_PROFILE=prod AWS_REGION=eu-west-1 freshet recover --stage prod",
    )
    .action(async (options: StageOption & { json?: boolean }) => {
      const deployment = await openDeployment(options);
      const progress = (message: string): void => {
        if (!options.json) process.stderr.write(`  ${message}\n`);
      };
      if (options.stage !== undefined) progress(`stage ${deployment.stage} in ${deployment.place}`);
      // Made whether or not it can be recorded.
      const record = { tenant: ALL_TENANTS, action: "recover", target: "online store" };
      const result = await withRecord(deployment, "urgent", record, () => recover(deployment, progress));
      if (options.json) process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
      else if (result.steps.length === 0) process.stdout.write(`the store is ${result.state}: nothing to recover\n`);
      else {
        const rows = result.steps.map(({ stream, records, applied }) => [stream, String(records), String(applied)]);
        process.stdout.write(`${formatTable([["stream", "records replayed", "events that were missing"], ...rows])}\n`);
        process.stdout.write(`the store was ${result.found} and is ${result.state}\n`);
        for (const view of result.unready)
          process.stdout.write(`${view} lacks history that the broker never had: freshet backfill --view ${view}\n`);
      }
      if (result.state !== "ok") process.exitCode = EXIT.failed;
    });
}
