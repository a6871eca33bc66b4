import { setTimeout as sleep } from "node:timers/promises";
import type { Command } from "commander";
import type { BuildEvent } from "../../functions/build.ts";
import type { EntityBuildReport } from "../../functions/shared/build/entity-build.ts";
import { interruptible } from "../../local/interrupt.ts";
import { withRecord } from "../audited.ts";
import { openDeployment, type StageOption, stageOption } from "../deployment.ts";
import { openFunctions } from "../invoke.ts";

interface Options extends StageOption {
  readonly entity: string;
  readonly id: string;
  readonly tenant: string;
  readonly json?: boolean;
}

const WAIT_MS = 5_000;

export function register(program: Command): void {
  program
    .command("rebuild")
    .description("Build every sealed tile of one entity anew from the archive, and wait for it.")
    .requiredOption("--entity <name>", "as card")
    .requiredOption("--id <id>", "as its events have it")
    .option("--tenant <name>", "whose entity", "default")
    .addOption(stageOption())
    .option("--json", "print one JSON object when it has ended")
    .addHelpText(
      "after",
      `
For an entity that \`freshet verify\` finds wrong. Open tiles stay, so nothing is missed or counted twice meanwhile; one that
is right stays as it is. Waits while a bulk build works on the stream.

Examples:
  freshet rebuild --entity card --id card_001403_1
  AWS_PROFILE=prod AWS_REGION=eu-west-1 freshet rebuild --entity card --id card_001403_1 --stage prod`,
    )
    .action(run);
}

async function run({ entity, id, tenant, json, ...options }: Options): Promise<void> {
  const deployment = await openDeployment(options);
  const functions = openFunctions(deployment);
  const event: BuildEvent = { kind: "entity", tenant, entity, id };
  try {
    const record = { tenant, action: "rebuild", target: `${entity}/${id}` };
    const untilDone = async (signal: AbortSignal) => {
      for (let told: string | null = null; ; ) {
        const reports = await functions.invoke<EntityBuildReport[]>(deployment.buildFunction, event);
        const left = reports.find(({ state }) => state === "waiting");
        if (left === undefined) return reports;
        if (!json && left.reason !== told) process.stderr.write(`  waiting: ${left.reason}\n`);
        told = left.reason;
        await sleep(WAIT_MS, undefined, { signal });
      }
    };
    const reports = await withRecord(deployment, "change", record, () => interruptible(untilDone));
    const words = reports.map(({ stream, events }) => `${entity} ${id} on ${stream}: rebuilt from ${events} events\n`);
    process.stdout.write(json ? `${JSON.stringify({ entity, id, tenant, streams: reports })}\n` : words.join(""));
  } finally {
    functions.close();
  }
}
