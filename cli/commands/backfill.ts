import { setTimeout as sleep } from "node:timers/promises";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { type Command, InvalidArgumentError, Option } from "commander";
import { DURABLE_CLIENT } from "../../adapters/aws/durable-call.ts";
import { BuildProgress, type BuildRecord, pendingOf } from "../../adapters/control-table/build-progress.ts";
import { BUCKETS } from "../../adapters/valkey/layout.ts";
import { FreshetError } from "../../core/errors.ts";
import { plan } from "../../features/plan.ts";
import type { BuildEvent } from "../../functions/build.ts";
import type { ViewReadiness } from "../../functions/shared/build/build-readiness.ts";
import type { BuildReport } from "../../functions/shared/build/bulk-build.ts";
import { interruptible } from "../../local/interrupt.ts";
import { ALL_TENANTS, withRecord } from "../audited.ts";
import { type OperatedDeployment, openDeployment, type StageOption, stageOption } from "../deployment.ts";
import { type Functions, openFunctions } from "../invoke.ts";
import { type ProgressBar, progressBar } from "../progress.ts";

/** Of one call of the function: its answer has to reach us over one connection. */
const BUDGET_MS = 4 * 60_000;
const LOOK_MS = 1_000;

interface Options extends StageOption {
  view?: string;
  stream?: string;
  tenant?: string;
  rate?: number;
  restart?: boolean;
  json?: boolean;
}

export function register(program: Command): void {
  program
    .command("backfill")
    .description("Give new features their history, and imported events their place in the online store.")
    .addOption(
      new Option("--view <name>", "a feature view whose features are to have their history").conflicts("stream"),
    )
    .option("--stream <name>", "a stream whose archive has been imported into")
    .option("--tenant <name>", "this tenant's entities alone; new features become ready when all tenants are built")
    .option("--rate <entities/s>", "write at most so many entities a second, as 2000/s", rate)
    .option("--restart", "begin anew instead of going on where a backfill was ended")
    .addOption(stageOption())
    .option("--json", "print one JSON object when it has ended")
    .addHelpText(
      "after",
      `
All that was ever archived below the stream's seal is put into the online store, one of 1,024 buckets after another, while
events flow. A bucket's features are ready when it is done; until then they are NOT_READY, never wrong. Ended by Ctrl-C or a
crash, it goes on where it was when it is run again. New features wait until the seal has passed their deployment,
about a quarter of an hour.

Examples:
  freshet backfill --view card_activity
  freshet backfill --stream transactions --rate 2000/s
  AWS_PROFILE=prod AWS_REGION=eu-west-1 freshet backfill --view card_activity --stage prod`,
    )
    .action(run);
}

/** `2000` or `2000/s`. */
function rate(text: string): number {
  const value = Number(/^(\d+)(\/s)?$/.exec(text)?.[1]);
  if (value > 0) return value;
  throw new InvalidArgumentError("Give entities a second, as 2000 or 2000/s.");
}

/** @throws FreshetError `view_unknown`, `stream_unknown`, `option_missing` */
function streamOf({ view, stream }: Options): string {
  const known = (names: readonly string[]) => `use ${names.join(", ")}`;
  if (view !== undefined) {
    const found = plan.views.find(({ name }) => name === view);
    if (found !== undefined) return found.stream;
    const repair = known(plan.views.map(({ name }) => name));
    throw new FreshetError("view_unknown", `the plan has no view ${view}`, { field: "view", repair });
  }
  const streams = plan.streams.map(({ name }) => name);
  if (stream !== undefined && streams.includes(stream)) return stream;
  if (stream === undefined) {
    throw new FreshetError("option_missing", "what is to be filled is not said", { repair: "give --view or --stream" });
  }
  throw new FreshetError("stream_unknown", `the plan has no stream ${stream}`, {
    field: "stream",
    repair: known(streams),
  });
}

async function run(options: Options): Promise<void> {
  const stream = streamOf(options);
  const deployment = await openDeployment(options);
  const functions = openFunctions(deployment);
  const startedMs = Date.now();
  try {
    const before = await readiness(functions, deployment);
    const view = before.find((each) => each.view === options.view);
    if (view?.bucketsReady === BUCKETS && !options.restart) {
      tell(options, { state: "done", stream, entities: 0, seconds: 0 }, `${view.view} has its history: nothing to do`);
      return;
    }
    const record = { tenant: options.tenant ?? ALL_TENANTS, action: "backfill", target: `stream ${stream}` };
    const report = await withRecord(deployment, "change", record, () =>
      interruptible((signal) => drive(functions, deployment, options, stream, signal)),
    );
    const seconds = (Date.now() - startedMs) / 1_000;
    const ready = (await readiness(functions, deployment)).filter((each) => each.stream === stream);
    const words = [
      `${report.entities} entities of ${stream} in ${seconds.toFixed(0)} s`,
      ...ready.map(
        (each) =>
          `${each.view}: ${each.bucketsReady === BUCKETS ? "has its history" : `${each.bucketsReady} of ${BUCKETS} buckets ready`}`,
      ),
    ];
    tell(options, { ...report, stream, seconds, views: ready }, words.join("\n"));
  } finally {
    functions.close();
  }
}

function tell({ json }: Options, object: unknown, words: string): void {
  process.stdout.write(json ? `${JSON.stringify(object)}\n` : `${words}\n`);
}

const readiness = (functions: Functions, { buildFunction }: OperatedDeployment): Promise<ViewReadiness[]> =>
  functions.invoke<ViewReadiness[]>(buildFunction, { kind: "readiness" } satisfies BuildEvent);

/** Calls the function until it is done, and shows how far it is meanwhile. */
async function drive(
  functions: Functions,
  deployment: OperatedDeployment,
  { tenant, rate: ratePerS, restart, json }: Options,
  stream: string,
  signal: AbortSignal,
): Promise<BuildReport> {
  const progress = new BuildProgress({
    table: deployment.controlTable,
    dynamodb: new DynamoDBClient({ ...DURABLE_CLIENT, ...deployment.clientConfig }),
  });
  const bar = json ? null : progressBar();
  let told: string | null = null;
  try {
    for (let first = true; ; first = false) {
      const event: BuildEvent = { stream, tenant, ratePerS, restart: first && restart, budgetMs: BUDGET_MS };
      const call = functions.invoke<BuildReport>(deployment.buildFunction, event);
      const report = await watched(call, progress, stream, bar, signal);
      if (report.state === "done") return report;
      if (report.state === "waiting" && report.reason !== told) {
        told = report.reason;
        if (!json) process.stderr.write(`  waiting: ${told}\n`);
      }
      await sleep(report.waitMs, undefined, { signal });
    }
  } catch (error) {
    if (signal.aborted) process.stderr.write("  run it again: it goes on where it was\n");
    throw error;
  } finally {
    bar?.end();
  }
}

async function watched(
  call: Promise<BuildReport>,
  progress: BuildProgress,
  stream: string,
  bar: ProgressBar | null,
  signal: AbortSignal,
): Promise<BuildReport> {
  let ended = false;
  const over = call.finally(() => {
    ended = true;
  });
  // It is awaited below; a failure before that must not count as unhandled.
  over.catch(() => {});
  let from: { atMs: number; share: number } | null = null;
  while (!ended && bar !== null) {
    signal.throwIfAborted();
    await Promise.race([sleep(LOOK_MS, undefined, { signal }), over]).catch(() => {});
    const record = ended ? null : await progress.get(stream).catch(() => null);
    if (record?.state !== "running") continue;
    const share = shareOf(record);
    from ??= { atMs: Date.now(), share };
    bar.show(share, `${record.entities} entities${leftOf(share, from)}`);
  }
  return over;
}

function shareOf(record: BuildRecord): number {
  const groups = Object.keys(record.done);
  const left = groups.reduce((sum, group) => sum + pendingOf(record, group).length, 0);
  return groups.length === 0 ? 1 : 1 - left / (groups.length * BUCKETS);
}

/** Buckets are about equally large. */
function leftOf(share: number, from: { readonly atMs: number; readonly share: number }): string {
  if (share <= from.share) return "";
  const seconds = ((Date.now() - from.atMs) / 1_000 / (share - from.share)) * (1 - share);
  return `, about ${seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} min`} left`;
}
