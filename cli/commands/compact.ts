import { join } from "node:path";
import type { Command } from "commander";
import { DURABLE_CLIENT } from "../../adapters/aws/durable-call.ts";
import { compactArchive } from "../../adapters/offline/compact-archive.ts";
import { DuckSession } from "../../adapters/offline/duckdb.ts";
import { ArchiveMirror } from "../../adapters/offline/mirror.ts";
import { s3Client } from "../../adapters/s3/client.ts";
import { parseDuration } from "../../core/duration.ts";
import { PUSHED_VALUES } from "../../core/retention.ts";
import { plan } from "../../features/plan.ts";
import { freshetHome } from "../../local/home.ts";
import { openDeployment, type StageOption, stageOption } from "../deployment.ts";
import { progressBar } from "../progress.ts";
import { formatTable } from "../table.ts";

interface Options extends StageOption {
  stream?: string;
  grace: string;
  skipCorrupt?: boolean;
  json?: boolean;
}

export function register(program: Command): void {
  program
    .command("compact")
    .description("Turn the archive's raw objects into Parquet by event time, as the hourly function does.")
    .option("--stream <name>", `this stream only; ${PUSHED_VALUES}: values of batch views and callers`)
    .option("--grace <time>", "how long replaced objects stay; no reader may run longer", "24h")
    .option("--skip-corrupt", "go round damaged objects, which stay where they are")
    .addOption(stageOption())
    .option("--json", "print what was done to each stream as JSON")
    .addHelpText(
      "after",
      `
Safe at any time: beside the hourly function, beside readers, and after it was killed. Pushed values of a day
that is over become few objects; what has no use any more is removed by the function alone, which knows the stage's retention.

Examples:
  freshet compact
  freshet compact --stream transactions --skip-corrupt`,
    )
    .action(run);
}

async function run(options: Options): Promise<void> {
  const graceMs = parseDuration(options.grace, "--grace");
  const deployment = await openDeployment(options);
  const s3 = s3Client({ ...DURABLE_CLIENT, ...deployment.clientConfig });
  const folder = join(freshetHome(), "offline", `compact-${process.pid}`);
  const session = await DuckSession.open({ folder });
  const bar = options.json ? null : progressBar();
  try {
    const reports = await compactArchive({
      ...{ plan, session, s3, folder, graceMs, stream: options.stream, skipCorrupt: options.skipCorrupt },
      mirror: new ArchiveMirror({ s3, bucket: deployment.archiveBucket, folder }),
      nowMs: Date.now(),
      onProgress: (stream, tenant, share) => bar?.show(share, `${stream} of ${tenant}`),
    });
    bar?.end();
    if (options.json) process.stdout.write(`${JSON.stringify(reports, null, 2)}\n`);
    else {
      const header = [
        "stream",
        "raw objects",
        "rows",
        "hours",
        "payload conflicts",
        "time conflicts",
        "damaged",
        "removed",
      ];
      const rows = Object.entries(reports).map(([stream, done]) => [
        stream,
        ...[
          done.rawObjects,
          done.rows,
          done.hours,
          done.payloadConflicts,
          done.timeConflicts,
          done.corrupt,
          done.removed,
        ],
      ]);
      process.stdout.write(`${formatTable([header, ...rows])}\n`);
    }
  } finally {
    bar?.end();
    session.close();
  }
}
