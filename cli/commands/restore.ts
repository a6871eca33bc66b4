import { type Command, InvalidArgumentError, Option } from "commander";
import { FreshetError } from "../../core/errors.ts";
import type { RoundSummary } from "../../functions/shared/snapshot/rounds.ts";
import { ALL_TENANTS, withRecord } from "../audited.ts";
import { openDeployment, type StageOption, stageOption } from "../deployment.ts";
import { EXIT } from "../exit.ts";
import { openFunctions } from "../invoke.ts";
import { restore, tellRecovery } from "../recovery.ts";
import { listRounds } from "../snapshot-restore.ts";
import { formatTable } from "../table.ts";

interface Options extends StageOption {
  list?: boolean;
  snapshot: string;
  all?: boolean;
  bucket?: number[];
  replaceLive?: boolean;
  restart?: boolean;
  json?: boolean;
}

const BUCKETS = 1_024;
const SHOWN = 20;

export function register(program: Command): void {
  program
    .command("restore")
    .description(
      "Write a snapshot back into the online store, all of it or some of its buckets, and replay what arrived since.",
    )
    .addOption(new Option("--list", "show the snapshots that there are").conflicts(["all", "bucket"]))
    .option("--snapshot <name>", "`latest`, or a round that --list names", "latest")
    .addOption(new Option("--all", "all buckets, under a new epoch").conflicts("bucket"))
    .option("--bucket <n>", "this bucket of a store that is whole otherwise; may be given more than once", bucket)
    .option("--replace-live", "also what is served now: its reads and applies wait meanwhile")
    .option("--restart", "begin anew instead of going on where a restore was ended")
    .addOption(stageOption())
    .option("--json", "print the result as JSON")
    .addHelpText(
      "after",
      `
After a loss use \`freshet recover\`, which chooses by itself. Ended by Ctrl-C or a crash, a restore goes on where it was when it
is run again. Reads say \`restoring\`, events wait in the stream, and nothing acknowledged is lost.

Examples:
  freshet restore --list
  freshet restore --bucket 17
  freshet restore --snapshot latest --all --replace-live
  AWS_PROFILE=prod AWS_REGION=eu-west-1 freshet restore --bucket 17 --stage prod`,
    )
    .action(run);
}

function bucket(text: string, before: number[] = []): number[] {
  const value = Number(text);
  if (/^\d+$/.test(text) && value < BUCKETS) return [...before, value];
  throw new InvalidArgumentError(`Give a bucket, 0 to ${BUCKETS - 1}.`);
}

async function run(options: Options): Promise<void> {
  const { json, list, all, bucket: buckets } = options;
  if (!list && !all && buckets === undefined) {
    throw new FreshetError("option_missing", "what is to be restored is not said", {
      repair: "give --all, --bucket <n>, or --list",
    });
  }
  const deployment = await openDeployment(options);
  if (list) {
    const functions = openFunctions(deployment);
    try {
      tellRounds(await listRounds(functions, deployment, SHOWN), json);
    } finally {
      functions.close();
    }
    return;
  }
  const progress = (message: string): void => {
    if (!json) process.stderr.write(`  ${message}\n`);
  };
  if (options.stage !== undefined) progress(`stage ${deployment.stage} in ${deployment.place}`);
  const { snapshot, replaceLive, restart } = options;
  const target = all ? "online store" : `buckets ${buckets!.join(", ")}`;
  const record = { tenant: ALL_TENANTS, action: "restore", target };
  const result = await withRecord(deployment, "urgent", record, () =>
    restore(deployment, { snapshot, buckets, replaceLive, restart }, progress),
  );
  if (json) process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
  else tellRecovery(result);
  if (result.state !== "ok") process.exitCode = EXIT.failed;
}

function tellRounds(rounds: readonly RoundSummary[], json: boolean | undefined): void {
  if (json) process.stdout.write(`${JSON.stringify(rounds, null, 2)}\n`);
  else if (rounds.length === 0) process.stdout.write("there is no snapshot yet\n");
  else {
    const rows = rounds.map(({ round, damage, startedMs, epoch, records, bytes }) =>
      damage === null
        ? [
            round,
            new Date(startedMs).toISOString(),
            String(epoch),
            String(records),
            `${(bytes / 2 ** 20).toFixed(1)} MB`,
          ]
        : [round, damage, "", "", ""],
    );
    process.stdout.write(`${formatTable([["snapshot", "as of", "epoch", "hashes", "size"], ...rows])}\n`);
  }
}
