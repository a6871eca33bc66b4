import type { Command } from "commander";
import { type ConsistencyReport, checkConsistency } from "../../adapters/offline/consistency.ts";
import { DuckSession } from "../../adapters/offline/duckdb.ts";
import { ArchiveMirror } from "../../adapters/offline/mirror.ts";
import { archiveMount } from "../../adapters/offline/mount.ts";
import { valuesMount } from "../../adapters/offline/pushed-in-time.ts";
import { readScores } from "../../adapters/offline/scored-outcomes.ts";
import { s3Client } from "../../adapters/s3/client.ts";
import { FreshetError } from "../../core/errors.ts";
import { plan } from "../../features/plan.ts";
import { freshetHome, homeFolder } from "../../local/home.ts";
import { fraction, time } from "../arguments.ts";
import { openDeployment, type StageOption, stageOption } from "../deployment.ts";
import { EXIT } from "../exit.ts";
import { progressBar } from "../progress.ts";
import { registeredInputs } from "../registered-inputs.ts";
import { formatTable } from "../table.ts";

interface Options extends StageOption {
  readonly service: string;
  readonly from?: number;
  readonly to?: number;
  readonly sample: number;
  readonly tenant: string;
  readonly json?: boolean;
}

export function register(program: Command): void {
  program
    .command("consistency")
    .description("Hold what was served against what the archive says: logged scores joined again at their instants.")
    .requiredOption("--service <name>", "the feature service")
    .option("--from <time>", "first instant of scoring; an hour ago when left out", time)
    .option("--to <time>", "end of instants, exclusive; now when left out", time)
    .option("--sample <share>", "share of the log, chosen by hash", fraction, 1)
    .option("--tenant <name>", "whose log", "default")
    .addOption(stageOption())
    .option("--json", "print every feature and hour as JSON")
    .addHelpText(
      "after",
      "\nEnds with 1 when a value differs. Reads within 2 s of an event of their entity, or of a push, are racing: neither right nor wrong." +
        "\n\nExamples:\n  freshet consistency --service fraud\n  freshet consistency --service fraud --from 2026-11-20 --sample 0.01 --stage prod",
    )
    .action(async (options: Options) => {
      const report = await run(options);
      process.stdout.write(options.json ? `${JSON.stringify(report, null, 2)}\n` : render(report));
      const wrong = report.features.some((row) => row.mismatches + row.nullOnline + row.nullOffline > 0);
      if (wrong) process.exitCode = EXIT.failed;
    });
}

async function run(options: Options): Promise<ConsistencyReport> {
  const service = plan.services.find(({ name }) => name === options.service);
  if (service === undefined) {
    throw new FreshetError("service_unknown", `there is no feature service ${options.service}`, {
      field: "service",
      repair: `use one of ${plan.services.map(({ name }) => name).join(", ")}`,
    });
  }
  const { tenant, sample, to: toMs = Date.now(), from: fromMs = toMs - 3_600_000 } = options;
  const deployment = await openDeployment(options);
  const s3 = s3Client(deployment.clientConfig);
  const folder = homeFolder(freshetHome(), "offline");
  const session = await DuckSession.open({ folder });
  const bar = progressBar();
  try {
    const mirror = new ArchiveMirror({ s3, bucket: deployment.archiveBucket, folder });
    return await checkConsistency(session, {
      plan,
      service,
      sample,
      rows: readScores(s3, deployment.archiveBucket, { tenant, service: service.name, fromMs, toMs }),
      inputs: await registeredInputs(deployment, service, tenant),
      mount: archiveMount(session, mirror, tenant),
      mountValues: valuesMount(session, mirror, tenant),
      onProgress: (share) => bar.show(share, "joining features"),
    });
  } finally {
    bar.end();
    session.close();
    s3.destroy();
  }
}

function render({ features, rowsChecked, leftOut, planHash }: ConsistencyReport): string {
  const names = [...new Set(features.map(({ feature }) => feature))];
  const rows = names.map((name) => {
    const own = features.filter(({ feature }) => feature === name);
    const sum = (key: "matches" | "mismatches" | "nullOnline" | "nullOffline" | "racing") =>
      own.reduce((total, row) => total + row[key], 0);
    const worst = Math.max(0, ...own.map(({ smape }) => smape ?? 0));
    return [name, sum("matches"), sum("mismatches"), sum("nullOnline"), sum("nullOffline"), sum("racing"), worst];
  });
  const head = ["feature", "matches", "mismatches", "null online", "null offline", "racing", "worst hour's SMAPE"];
  const left = Object.entries(leftOut).map(([reason, count]) => `${count} ${reason}`);
  return `${formatTable([head, ...rows])}\n\n${rowsChecked} rows of plan ${planHash} (left out: ${left.join(", ")})\n`;
}
