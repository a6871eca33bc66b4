import { type Command, Option } from "commander";
import { STORE_STATES } from "../../adapters/online-store/store-states.ts";
import type { ControlEvent } from "../../functions/control.ts";
import type { ControlReport } from "../../functions/shared/control-loop.ts";
import { freshetHome } from "../../local/home.ts";
import { serveUrl } from "../../local/parts.ts";
import { describe, describeStore } from "../../local/status.ts";
import { openDeployment, type StageOption, stageOption } from "../deployment.ts";
import { EXIT } from "../exit.ts";
import { openFunctions } from "../invoke.ts";
import { requireRunning } from "../running.ts";
import { formatStatus, historyRows } from "../status-table.ts";
import { formatTable } from "../table.ts";

export function register(program: Command): void {
  program
    .command("status")
    .description(
      "What runs, where, and how to connect. Exit code 3 when something does not run; with --stage, 1 when the store is not ok.",
    )
    .option(
      "--json",
      "all that a script needs to connect: api.url, api.key, serve.url, emulator.url, valkey.url, streams, store, late",
    )
    .addOption(
      new Option("--shell", "URL and KEY of the plain server as a shell's assignments").conflicts(["json", "stage"]),
    )
    .addOption(stageOption())
    .addHelpText(
      "after",
      "\nThe state of the online store is `ok`, or what it is with its repair. `late` counts what waits for repair: one for" +
        '\neach late event and entity of it. `history` names views that are to be given their past.\n\nExamples:\n  freshet status\n  freshet status --json\n  eval "$(freshet status --shell)"',
    )
    .action(async (options: StageOption & { json?: boolean; shell?: boolean }) => {
      if (options.shell) return showShell();
      if (options.stage !== undefined) return showStage(options);
      const home = freshetHome();
      const [status, store] = [describe(home), await describeStore(home)];
      process.stdout.write(
        `${options.json ? JSON.stringify({ ...status, ...store }, null, 2) : formatStatus(status, store)}\n`,
      );
      if (!status["running"]) process.exitCode = EXIT.notRunning;
    });
}

/** Nothing that a shell could stumble over: what is missing is an error. */
function showShell(): void {
  const { ports, apiKey } = requireRunning(freshetHome());
  process.stdout.write(`URL=${serveUrl(ports.serve)} KEY=${apiKey}\n`);
}

/** A deployment on AWS, as its stacks and its control function tell it. */
async function showStage(options: StageOption & { json?: boolean }): Promise<void> {
  const deployment = await openDeployment(options);
  const { stage, place, apiUrl, streams, controlFunction } = deployment;
  const functions = openFunctions(deployment);
  // What runs each minute anyway; without a list of shards it moves no seal.
  const tick: ControlEvent = {};
  const { state, epoch, seals, unready } = await functions
    .invoke<ControlReport>(controlFunction, tick)
    .finally(() => functions.close());
  const trouble = state === "ok" ? null : STORE_STATES[state];
  if (trouble !== null) process.exitCode = EXIT.failed;
  if (options.json) {
    const { sentence = null, repair = null } = trouble ?? {};
    const store = { state, epoch, sentence, repair, seals_ms: seals };
    const object = { stage, place, api: { url: apiUrl }, streams, store, unready };
    process.stdout.write(`${JSON.stringify(object, null, 2)}\n`);
    return;
  }
  const rows = [
    ["stage", `${stage} in ${place}`],
    ["api", apiUrl],
    ["store", trouble === null ? `ok, epoch ${epoch}` : `${state}: ${trouble.sentence}`],
    ...(trouble === null ? [] : [["repair", trouble.repair]]),
    ...Object.entries(streams).map(([name, kinesisName]) => [
      name,
      name in seals ? `${kinesisName}, sealed up to ${new Date(seals[name]).toISOString()}` : kinesisName,
    ]),
    ...historyRows(unready),
  ];
  process.stdout.write(`${formatTable(rows)}\n`);
}
