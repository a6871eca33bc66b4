import { type Command, Option } from "commander";
import { mountArchive } from "../../adapters/offline/archive-view.ts";
import { DuckSession } from "../../adapters/offline/duckdb.ts";
import { ArchiveMirror } from "../../adapters/offline/mirror.ts";
import { declaredOutcomes, outcomesByEvent } from "../../adapters/offline/outcomes.ts";
import { newestLabels, outcomesOf, readScores } from "../../adapters/offline/scored-outcomes.ts";
import { labelJoin, requireRange } from "../../adapters/offline/spine.ts";
import { s3Client } from "../../adapters/s3/client.ts";
import { FreshetError } from "../../core/errors.ts";
import { type Arm, compareArms, compareShadows, type Difference } from "../../core/scoring/arms.ts";
import type { Rate } from "../../core/scoring/intervals.ts";
import { limitsOf } from "../../core/scoring/scoring.ts";
import { experimentOf } from "../../core/scoring/variant.ts";
import { definitions } from "../../features/index.ts";
import { plan } from "../../features/plan.ts";
import { freshetHome, homeFolder } from "../../local/home.ts";
import { time } from "../arguments.ts";
import { openDeployment, type StageOption, stageOption } from "../deployment.ts";
import { formatTable } from "../table.ts";

interface Options extends StageOption {
  readonly service: string;
  readonly tenant: string;
  readonly from?: number;
  readonly to?: number;
  readonly baseline: string;
  readonly json?: boolean;
}

export function register(program: Command): void {
  program
    .command("experiment")
    .description("Compare the arms of an experiment: logged scores joined with what became of their events.")
    .option("--service <name>", "the service that was scored", "fraud")
    .option("--tenant <name>", "whose scores", "default")
    .option("--from <time>", "scored at or after", time)
    .option("--to <time>", "scored before", time)
    .addOption(
      new Option("--baseline <variant>", "the variant that the others are held to")
        .choices(["champion", "challenger", "fallback"])
        .default("champion"),
    )
    .addOption(stageOption())
    .option("--json", "print as JSON")
    .addHelpText(
      "after",
      "\nA score is joined by the event's id, which a caller sends along (`transaction_id`). Arms are what chance has dealt;" +
        "\na shadow is held to the champion on the scores that both gave. Intervals are of 95 % and count keys, since one key's" +
        "\nscores are alike: Wilson's at the effective size for rates, Newcombe's for differences of arms, the delta method for" +
        "\nmean scores and shadows." +
        "\n\nExamples:\n  freshet experiment --from 2026-11-01\n  freshet experiment --service fraud --json",
    )
    .action(async (options: Options) => {
      const { outcomes, pairs, leftOut } = await load(options);
      const baseline = outcomes.find(({ arm }) => arm.startsWith(`${options.baseline} `))?.arm ?? options.baseline;
      const { arms, differences } = compareArms(outcomes, baseline);
      const shadows = compareShadows(pairs);
      if (options.json) {
        const found = { baseline, arms, differences, shadows, left_out: leftOut };
        process.stdout.write(`${JSON.stringify(found, null, 2)}\n`);
        return;
      }
      if (arms.length === 0 && shadows.length === 0) {
        const none = "no logged score was dealt by an experiment, or has a shadow, and can be joined with an event";
        const repair = "name a challenger or a shadow (freshet models), and send the event's id with each score";
        process.stdout.write(`${none}: ${repair}\n${leftOutLine(leftOut)}\n`);
        return;
      }
      if (arms.length > 0) process.stdout.write(`${formatTable([ARM_HEAD, ...arms.map(armRow)])}\n`);
      if (arms.length > 1 && !arms.some(({ arm }) => arm === baseline))
        process.stdout.write(
          `\nno arm is a ${options.baseline}'s, so nothing is held to it: --baseline names another\n`,
        );
      for (const { arm, of } of differences) writeDifferences(`${arm} against ${baseline}`, of);
      for (const { champion, shadow, of } of shadows) {
        process.stdout.write(`\n${formatTable([ARM_HEAD, ...[champion, shadow].map(armRow)])}\n`);
        writeDifferences(`${shadow.arm} against ${champion.arm}, on the same scores`, of);
      }
      process.stdout.write(`${leftOutLine(leftOut)}\n`);
    });
}

const writeDifferences = (title: string, of: readonly Difference[]) =>
  process.stdout.write(`\n${title}\n${formatTable([DIFFERENCE_HEAD, ...of.map(differenceRow)])}\n`);

async function load({ service: name, tenant, from = 0, to = Number.MAX_SAFE_INTEGER, stage }: Options) {
  const service = plan.services.find((one) => one.name === name);
  const definition = definitions.services.find((one) => one.name === name);
  if (service === undefined || definition === undefined) {
    throw new FreshetError("service_unknown", `there is no feature service ${name}`, {
      field: "service",
      repair: `use one of ${plan.services.map((one) => one.name).join(", ")}`,
    });
  }
  requireRange(from, to);
  if (definition.labels === null) {
    throw new FreshetError("labels_missing", `service ${name} declares no labels, so nobody knows an outcome`, {
      field: "service",
      repair: "declare labels: { stream, delay } in its definition",
    });
  }
  const stream = definition.labels.stream.name;
  const outcomes = declaredOutcomes(plan, definition, stream);
  const join = outcomes === null ? labelJoin(plan, service, stream) : null;
  const { clientConfig, archiveBucket } = await openDeployment({ stage });
  const folder = homeFolder(freshetHome(), "offline");
  const s3 = s3Client(clientConfig);
  const session = await DuckSession.open({ folder });
  try {
    const mirror = new ArchiveMirror({ s3, bucket: archiveBucket, folder });
    // A label may come long after its event.
    const judges = outcomes?.stream ?? join!.labels;
    await mountArchive(session, mirror, { tenant, stream: judges, fromMs: 0, toMs: Number.MAX_SAFE_INTEGER }, "labels");
    const labels =
      outcomes === null
        ? await newestLabels(session, "labels", join!)
        : await outcomesByEvent(session, "labels", outcomes);
    const scores = readScores(s3, archiveBucket, { tenant, service: name, fromMs: from, toMs: to });
    return await outcomesOf(scores, labels, limitsOf(definition), experimentOf(plan, service, definition).key);
  } finally {
    session.close();
    s3.destroy();
  }
}

const percent = (value: number): string => (value * 100).toFixed(2);
const rate = ({ rate: given, low, high }: Rate): string =>
  given === null ? "-" : `${percent(given)} (${percent(low)} to ${percent(high)})`;
const ARM_HEAD = [
  "arm",
  "keys",
  "scored",
  "labelled",
  "mean score",
  "declined %",
  "precision %",
  "recall %",
  "false positives %",
];
const armRow = ({ arm, units, scored, labelled, meanScore, rates }: Arm) => [
  arm,
  units,
  scored,
  labelled,
  meanScore === null ? "-" : meanScore.toFixed(4),
  rate(rates.decline_rate),
  rate(rates.precision),
  rate(rates.recall),
  rate(rates.false_positive_rate),
];
const DIFFERENCE_HEAD = ["", "difference", "95 % interval", ""];
function differenceRow({ name, difference, low, high, significant }: Difference): string[] {
  if (difference === null || low === null || high === null) return [name, "-", "nothing to compare", ""];
  const shown = name === "mean_score" ? (value: number) => value.toFixed(4) : (value: number) => `${percent(value)} %`;
  return [name, shown(difference), `${shown(low)} to ${shown(high)}`, significant ? "differs" : "may be chance"];
}
const leftOutLine = (leftOut: Readonly<Record<string, number>>): string =>
  `left out: ${Object.entries(leftOut)
    .map(([reason, count]) => `${count} ${reason.replaceAll("_", " ")}`)
    .join(", ")}`;
