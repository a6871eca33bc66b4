import { createWriteStream } from "node:fs";
import { join } from "node:path";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { type Command, Option } from "commander";
import { DURABLE_CLIENT } from "../../adapters/aws/durable-call.ts";
import { BuildProgress } from "../../adapters/control-table/build-progress.ts";
import { LateQueue } from "../../adapters/late-queue/late-queue.ts";
import {
  type BadRow,
  FORMATS,
  type Format,
  formatOf,
  type ImportReport,
  importFile,
} from "../../adapters/offline/import/import-file.ts";
import type { ArrivalRule } from "../../adapters/offline/import/row-check.ts";
import { s3Client } from "../../adapters/s3/client.ts";
import { parseDuration } from "../../core/duration.ts";
import { FreshetError } from "../../core/errors.ts";
import { plan } from "../../features/plan.ts";
import { MIN_EVENT_TIME_MS } from "../../functions/api/limits.ts";
import { freshetHome } from "../../local/home.ts";
import { withRecord } from "../audited.ts";
import { openDeployment, type StageOption, stageOption } from "../deployment.ts";
import { EXIT } from "../exit.ts";
import { progressBar } from "../progress.ts";
import { sealOf } from "../seal.ts";
import { formatTable } from "../table.ts";

/** Bad rows that are told on the screen. */
const SHOWN = 20;

interface Options extends StageOption {
  stream: string;
  tenant: string;
  format?: Format;
  arrival: string;
  skipInvalid?: boolean;
  ignoreUnknown?: boolean;
  errors?: string;
  dryRun?: boolean;
  json?: boolean;
}

export function register(program: Command): void {
  program
    .command("import")
    .description("Bring past events into the archive, from a CSV, Parquet or NDJSON file.")
    .argument("<file>", "columns or keys are the fields of the stream's contract")
    .requiredOption("--stream <name>", "the stream that the events belong to")
    .option("--tenant <name>", "whose events they are", "default")
    .addOption(new Option("--format <name>", "when the file's extension does not tell").choices(FORMATS))
    .option(
      "--arrival <rule>",
      "when an event counts as seen: a duration after it (0, 5m), or a column of the file",
      "1s",
    )
    .option("--skip-invalid", "import the good rows when others are bad")
    .option("--ignore-unknown", "leave out columns that the contract does not have")
    .option("--errors <file>", "write every bad row's line and reason to this file, one JSON object a line")
    .option("--dry-run", "check the whole file and change nothing")
    .addOption(stageOption())
    .option("--json", "print the report as JSON")
    .addHelpText(
      "after",
      `
CSV: the first line names the columns; commas, semicolons, tabs or bars between them. Times: epoch milliseconds, or ISO 8601 with a zone.
Nothing is imported unless every row is good, or --skip-invalid is given. Importing a file again changes nothing.
Events that the stream is still open for become late events, which wait until they are sealed.

Examples:
  freshet import payments-2025.parquet --stream transactions --dry-run
  freshet import payments-2025.csv --stream transactions --arrival received_at --errors bad.ndjson
  freshet import weeks.ndjson --stream transactions --skip-invalid && freshet backfill --stream transactions`,
    )
    .action(run);
}

async function run(file: string, options: Options): Promise<void> {
  const stream = plan.streams.find(({ name }) => name === options.stream);
  if (stream === undefined) {
    throw new FreshetError("stream_unknown", `the plan has no stream ${options.stream}`, {
      field: "stream",
      repair: `use one of ${plan.streams.map(({ name }) => name).join(", ")}`,
    });
  }
  const format = options.format ?? formatOf(file);
  const deployment = await openDeployment(options);
  const config = { ...DURABLE_CLIENT, ...deployment.clientConfig };
  const sealMs = await sealOf(deployment, stream.name);
  const dynamodb = new DynamoDBClient(config);
  const progress = new BuildProgress({ table: deployment.controlTable, dynamodb });
  const bad: BadRow[] = [];
  const errors = options.errors === undefined ? null : createWriteStream(options.errors);
  const bar = options.json ? null : progressBar();
  const startedMs = Date.now();
  const record = { tenant: options.tenant, action: "import", target: `stream ${stream.name}` };
  const bring = () =>
    importFile({
      ...{ plan, stream, file, format, sealMs, tenant: options.tenant, arrival: arrivalRule(options.arrival) },
      nowMs: startedMs,
      minEventTimeMs: MIN_EVENT_TIME_MS,
      ignoreUnknown: options.ignoreUnknown ?? false,
      skipInvalid: options.skipInvalid,
      folder: join(freshetHome(), "offline"),
      target: options.dryRun
        ? null
        : {
            s3: s3Client(config),
            bucket: deployment.archiveBucket,
            late: new LateQueue({ table: deployment.lateTable, dynamodb }),
            // A backfill that has listed the archive has not seen these: it begins anew.
            note: () => progress.noteImport(stream.name),
          },
      onBadRow: (row) => {
        if (bad.length < SHOWN) bad.push(row);
        errors?.write(`${JSON.stringify(row)}\n`);
      },
      onProgress: (phase, share, rows) => bar?.show(share, `${phase} ${rows} rows`),
    });
  // A dry run changes nothing.
  const report = await (options.dryRun ? bring() : withRecord(deployment, "change", record, bring)).finally(() =>
    bar?.end(),
  );
  await new Promise<void>((resolve) => (errors === null ? resolve() : errors.end(resolve)));
  const seconds = (Date.now() - startedMs) / 1_000;
  const refused = report.bad > 0 && !options.skipInvalid;
  if (options.json)
    process.stdout.write(
      `${JSON.stringify({ ...report, seconds, dry_run: options.dryRun ?? false, first_bad: bad })}\n`,
    );
  else process.stdout.write(render(report, bad, options, seconds));
  if (refused) process.exitCode = EXIT.failed;
}

/** `0`, `5m`, or else a column. */
const arrivalRule = (text: string): ArrivalRule =>
  text === "0"
    ? { delayMs: 0 }
    : /^\d+[smhd]$/.test(text)
      ? { delayMs: parseDuration(text, "--arrival") }
      : { column: text };

function render(report: ImportReport, bad: readonly BadRow[], options: Options, seconds: number): string {
  const time = (ms: number | null) => (ms === null ? "" : new Date(ms).toISOString());
  const rows: (readonly [string, string | number])[] = [
    ["rows in the file", report.rows],
    ...(report.others > 0 ? [["of other streams", report.others] as const] : []),
    ["bad", report.bad],
    [options.dryRun ? "would be imported" : "imported", report.imported],
    ["of these late, to be sealed first", report.late],
    ["objects", report.objects],
    ["stored bytes", report.bytes],
    ["first event", time(report.fromMs)],
    ["last event", time(report.toMs)],
  ];
  const told = bad.map(
    ({ line, field, message, repair }) =>
      `  line ${line}${field === null ? "" : `, ${field}`}: ${message}${repair === null ? "" : `; ${repair}`}`,
  );
  if (report.bad > bad.length)
    told.push(
      `  and ${report.bad - bad.length} more${options.errors === undefined ? "; --errors FILE writes them all" : ` in ${options.errors}`}`,
    );
  const rate = Math.round(report.rows / Math.max(0.001, seconds));
  return [
    ...(told.length > 0 ? [...told, ""] : []),
    `${formatTable(rows)}`,
    `  in ${seconds.toFixed(1)} s, ${rate} rows/s`,
    nextStep(report, options),
    "",
  ].join("\n");
}

function nextStep(report: ImportReport, options: Options): string {
  if (report.bad > 0 && !options.skipInvalid)
    return "\nNothing was imported: repair the bad rows, or pass --skip-invalid.";
  if (options.dryRun) return "\nNothing was changed: run it again without --dry-run.";
  if (report.imported === 0) return "";
  if (!plan.groups.some(({ stream }) => stream === options.stream))
    return "\nThe events are in the archive, for training sets and queries.";
  return `\nThe events are in the archive. Features count them after: freshet backfill --stream ${options.stream}`;
}
