import { type Command, InvalidArgumentError, Option } from "commander";
import { FreshetError } from "../../core/errors.ts";
import { FUTURE_LIMIT_MS } from "../../core/event.ts";
import { plan } from "../../features/plan.ts";
import type { ReplayEvent } from "../../functions/replay.ts";
import type { ReplayCounts } from "../../functions/shared/replay/archive-replay.ts";
import type { FailedReplayReport } from "../../functions/shared/replay/failed-replay.ts";
import { interruptible } from "../../local/interrupt.ts";
import { time } from "../arguments.ts";
import { ALL_TENANTS, withRecord } from "../audited.ts";
import { type OperatedDeployment, openDeployment, type StageOption, stageOption } from "../deployment.ts";
import { EXIT } from "../exit.ts";
import { type Functions, openFunctions } from "../invoke.ts";
import { progressBar } from "../progress.ts";
import { type Replay, replayFromArchive, replayFromBroker } from "../replay.ts";
import { NOTHING_YET, replayStateFile } from "../replay-state.ts";
import { sealOf } from "../seal.ts";

interface Options extends StageOption {
  readonly failed?: boolean;
  readonly stream?: string;
  readonly from?: number;
  readonly to?: number;
  readonly source: "archive" | "broker";
  readonly sealed?: boolean;
  readonly dryRun?: boolean;
  readonly rate?: number;
  readonly restart?: boolean;
  readonly json?: boolean;
}

const print = (text: string): void => void process.stdout.write(`${text}\n`);

export function register(program: Command): void {
  program
    .command("replay")
    .description("Deliver events again, with the arrivals that they had.")
    .addOption(
      new Option("--failed", "what the mapping gave up, batches included that are tried no more by themselves"),
    )
    .option("--stream <name>", "events of this stream")
    .option("--from <time>", "that arrived since, as 2026-11-21T10:00:00Z or 6h", time)
    .option("--to <time>", "and before; now when left out", time)
    .addOption(
      new Option("--source <name>", "where from: the archive, or the broker within its retention")
        .choices(["archive", "broker"])
        .default("archive"),
    )
    .option("--sealed", "of the broker: hand to repair what is below the seal, which the archive may lack")
    .option("--rate <events/s>", "at most so many events a second, as 2000/s", rate)
    .option("--dry-run", "count what there is and change nothing")
    .option("--restart", "begin anew instead of going on where it was ended")
    .addOption(stageOption())
    .option("--json", "print one JSON object when it has ended")
    .addHelpText(
      "after",
      `
Safe to run twice: an event that the store has is not counted again, one that it lacks is, and one whose tile is sealed waits
for repair. Ended by Ctrl-C or a crash, it goes on where it was when it is run again on this machine with the same times. What lies below the seal is not
applied event by event: of it the archive tells what was late and never repaired, which is queued for repair; the rest is counted and left to
\`freshet backfill --restart\`, which builds all that is sealed in one go. The archive reaches back as far as it is kept; the broker as far as
its retention, and its records pass through this machine.

Examples:
  freshet replay --stream transactions --from 2h --dry-run
  freshet replay --stream transactions --from 2026-11-21T10:00:00Z --to 2026-11-21T11:00:00Z --rate 2000/s
  freshet replay --stream transactions --from 30d --to 29d
  freshet replay --failed
  AWS_PROFILE=prod AWS_REGION=eu-west-1 freshet replay --stream transactions --from 6h --source broker --stage prod`,
    )
    .action(run);
}

/** `2000` or `2000/s`. */
function rate(text: string): number {
  const value = Number(/^(\d+)(\/s)?$/.exec(text)?.[1]);
  if (value > 0) return value;
  throw new InvalidArgumentError("Give events a second, as 2000 or 2000/s.");
}

async function run(options: Options): Promise<void> {
  const { failed, stream, from } = options;
  if (!failed && (stream === undefined || from === undefined)) {
    throw new FreshetError("option_missing", "what is to be replayed is not said", {
      repair: "give --stream and --from, or --failed",
    });
  }
  const deployment = await openDeployment(options);
  const functions = openFunctions(deployment);
  try {
    if (options.failed) await replayFailed(deployment, functions, options);
    else await replayRange(deployment, functions, options);
  } finally {
    functions.close();
  }
}

async function replayFailed(deployment: OperatedDeployment, functions: Functions, { json }: Options): Promise<void> {
  const record = { tenant: ALL_TENANTS, action: "replay", target: "failed batches" };
  const event = { kind: "waiting", retryParked: true } satisfies ReplayEvent;
  const report = await withRecord(deployment, "change", record, () =>
    functions.invoke<FailedReplayReport>(deployment.replayFunction, event),
  );
  if (json) print(JSON.stringify(report));
  else {
    print(
      `${report.batches} batches brought back: ${report.applied} events counted, ${report.duplicates} had been, ${report.late} wait for repair`,
    );
    if (report.waiting > 0) print(`${report.waiting} batches are left; the log says why: freshet logs replay`);
  }
  if (report.waiting > 0) process.exitCode = EXIT.failed;
}

/** @throws FreshetError `stream_unknown`, `stream_unused`, `times_invalid`, `range_sealed` */
async function rangeOf(deployment: OperatedDeployment, options: Options): Promise<Replay> {
  const { to, source, dryRun = false } = options;
  const stream = options.stream!;
  const from = options.from!;
  const nowMs = Date.now();
  const streams = plan.streams.map(({ name }) => name);
  if (!streams.includes(stream)) {
    const repair = `use ${streams.join(", ")}`;
    throw new FreshetError("stream_unknown", `the plan has no stream ${stream}`, { field: "stream", repair });
  }
  const toMs = Math.min(to ?? nowMs, nowMs);
  if (from >= toMs) {
    const repair = "give a --from before --to, and before now";
    throw new FreshetError("times_invalid", "the range from --from to --to is empty", { field: "from", repair });
  }
  const sealMs = await sealOf(deployment, stream);
  if (sealMs === Number.POSITIVE_INFINITY) {
    throw new FreshetError(
      "stream_unused",
      `no feature is made of ${stream}: there is nothing to deliver its events to`,
      {
        field: "stream",
        repair: "training sets and jobs read it from the archive; name a stream that a feature view has as its source",
      },
    );
  }
  if (source === "broker" && !options.sealed && toMs + FUTURE_LIMIT_MS <= sealMs && !dryRun) {
    throw new FreshetError(
      "range_sealed",
      `all that arrived in the range is sealed (up to ${new Date(sealMs).toISOString()}): nothing of it can be applied event by event`,
      {
        repair: `leave --source broker out: what was late is queued for repair, what was counted is left to \`freshet backfill --stream ${stream} --restart\`; --sealed hands to repair what the archive may lack`,
      },
    );
  }
  // Events that arrived before are sealed for certain: each would be a late item that repair has to look up.
  const openMs = source === "broker" && !options.sealed ? Math.max(from, sealMs - FUTURE_LIMIT_MS) : from;
  return { stream, fromMs: Math.min(openMs, toMs), toMs, sealMs, dryRun, ratePerS: options.rate };
}

async function replayRange(deployment: OperatedDeployment, functions: Functions, options: Options): Promise<void> {
  const { json, source, dryRun } = options;
  const replay = await rangeOf(deployment, options);
  // A range up to now is another one each time: it is known by where it begins.
  const { to, from, stream } = options;
  const file = replayStateFile({ stage: deployment.stage, place: deployment.place, source, stream, from, to });
  const state = (options.restart || dryRun ? null : file.read()) ?? NOTHING_YET;
  const bar = json ? null : progressBar();
  const begunMs = Date.now();
  let first: number | null = null;
  let told: ReplayCounts = state.counts;
  const record = { tenant: ALL_TENANTS, action: "replay", target: `stream ${replay.stream}` };
  const work = (signal: AbortSignal) =>
    (source === "archive" ? replayFromArchive : replayFromBroker)(replay, {
      ...{ deployment, functions, signal, state },
      keep(now, share) {
        told = now.counts;
        if (!dryRun) file.write(now);
        first ??= share;
        bar?.show(
          share,
          `${now.counts.events} events, ${now.counts.applied} were missing${leftOf(share, first, begunMs)}`,
        );
      },
    });
  let counts: ReplayCounts;
  try {
    counts = dryRun
      ? await interruptible(work)
      : await withRecord(deployment, "change", record, () => interruptible(work));
  } catch (error) {
    if (!dryRun && told.events > 0) process.stderr.write("  run it again: it goes on where it was\n");
    throw error;
  } finally {
    bar?.end();
  }
  file.remove();
  if (json)
    return print(JSON.stringify({ ...counts, dry_run: dryRun ?? false, from_ms: replay.fromMs, to_ms: replay.toMs }));
  if (dryRun) return print(dryWords(counts, source));
  print(`${counts.events} events: ${counts.applied} were missing and are counted, ${counts.duplicates} were there`);
  if (counts.sealed > 0) {
    print(
      `${counts.sealed} are sealed and were counted; should they be missing: freshet backfill --stream ${replay.stream} --restart`,
    );
  }
  if (counts.late > 0)
    print(`${counts.late} are sealed and go to repair, which passes over those that it has repaired`);
  if (counts.refused > 0) print(`${counts.refused} are refused: freshet quarantine list`);
}

const dryWords = ({ events, sealed }: ReplayCounts, source: Options["source"]): string =>
  source === "broker"
    ? `${events} records of the broker lie in the range; what is in them is seen when they are delivered`
    : `${events} events lie in the range: ${events - sealed} above the seal or never counted, ${sealed} below it`;

function leftOf(share: number, first: number, begunMs: number): string {
  if (share <= first || share >= 1) return "";
  const seconds = ((Date.now() - begunMs) / 1_000 / (share - first)) * (1 - share);
  return `, about ${seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} min`} left`;
}
