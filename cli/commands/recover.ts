import type { Command } from "commander";
import { ALL_TENANTS, withRecord } from "../audited.ts";
import { openDeployment, type StageOption, stageOption } from "../deployment.ts";
import { EXIT } from "../exit.ts";
import { recover, tellRecovery } from "../recovery.ts";

export function register(program: Command): void {
  program
    .command("recover")
    .description(
      "Bring the online store back after a failover or a loss, from its newest snapshot and what the broker holds.",
    )
    .option(
      "--snapshot <name>",
      "of a lost store: `latest`, a round of `freshet restore --list`, or `none` to replay all that the broker holds",
      "latest",
    )
    .addOption(stageOption())
    .option("--json", "print the result as JSON")
    .addHelpText(
      "after",
      "\nSafe to run at any time and twice: an event that is still counted is not counted again." +
        "\nWith --stage the broker is read from here, and its records pass through this machine." +
        "\n\nExamples:\n  freshet recover\n  AWS_PROFILE=prod AWS_REGION=eu-west-1 freshet recover --stage prod",
    )
    .action(async (options: StageOption & { json?: boolean; snapshot: string }) => {
      const deployment = await openDeployment(options);
      const progress = (message: string): void => {
        if (!options.json) process.stderr.write(`  ${message}\n`);
      };
      if (options.stage !== undefined) progress(`stage ${deployment.stage} in ${deployment.place}`);
      // Made whether or not it can be recorded.
      const record = { tenant: ALL_TENANTS, action: "recover", target: "online store" };
      const result = await withRecord(deployment, "urgent", record, () =>
        recover(deployment, progress, { snapshot: options.snapshot }),
      );
      if (options.json) process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
      else if (result.steps.length === 0) process.stdout.write(`the store is ${result.state}: nothing to recover\n`);
      else tellRecovery(result);
      if (result.state !== "ok") process.exitCode = EXIT.failed;
    });
}
