import type { Command } from "commander";
import { interruptible } from "../../local/interrupt.ts";
import { number, whole } from "../arguments.ts";
import type { ChaosReport } from "../chaos/run.ts";
import { EXIT } from "../exit.ts";
import { formatTable } from "../table.ts";

interface Options {
  readonly minutes: number;
  readonly seed?: number;
  readonly rate: number;
  readonly keep: boolean;
  readonly json?: boolean;
}

/** Differences that are shown; the rest is counted. */
const SHOWN = 20;

export function register(program: Command): void {
  program
    .command("chaos")
    .description("Break a runtime of its own under load, then compare every online feature with the archive.")
    .option("--minutes <n>", "how long faults come", number(0.2, 1_440), 5)
    .option("--seed <n>", "the same faults and events again; drawn and told when left out", whole(0, 2 ** 32 - 1))
    .option("--rate <n>", "events a second", number(1, 2_000), 60)
    .option("--keep", "leave the runtime's folder behind: logs, archive, Valkey's file", false)
    .option("--json", "print the result as JSON")
    .addHelpText(
      "after",
      "\nKills, stops and restarts Valkey, the aggregate function's workers, the API servers and the emulator, fills Valkey, cuts" +
        "\nconnections, and has S3 and DynamoDB fail, while producers send every event until it is acknowledged and clients score." +
        "\nEnds with 1 when an acknowledged event is lost or a feature differs. What runs on this machine otherwise is left alone." +
        "\n\nExamples:\n  freshet chaos\n  freshet chaos --minutes 30 --seed 7 --json",
    )
    .action(async (options: Options) => {
      const { isClean, runChaos } = await import("../chaos/run.ts");
      const seed = options.seed ?? Date.now() % 2 ** 32;
      const say = (text: string): void => void process.stderr.write(`  ${text}\n`);
      say(`seed ${seed}`);
      const report = await interruptible((signal) =>
        runChaos({ seed, forMs: options.minutes * 60_000, perSecond: options.rate, keep: options.keep, signal, say }),
      );
      process.stdout.write(options.json ? `${JSON.stringify(report, null, 2)}\n` : render(report, isClean(report)));
      if (!isClean(report)) process.exitCode = EXIT.failed;
    });
}

const share = (of: number): string => `${(of * 100).toFixed(2)} %`;
const ms = (value: number | null): string => (value === null ? "–" : `${value.toFixed(0)} ms`);
const counted = (counts: Readonly<Record<string, number>>): string =>
  Object.entries(counts)
    .map(([name, count]) => `${name} ${count}`)
    .join(", ") || "none";

function render(report: ChaosReport, clean: boolean): string {
  const { events, features, pushed, availability, freshness, recoveries, faults } = report;
  const rows = [
    ["seed, duration", `${report.seed}, ${report.seconds} s`],
    ["faults", `${faults.length}`],
    ["recoveries", `${recoveries.filter(({ state }) => state === "ok").length}`],
    ["events sent, acknowledged", `${events.sent}, ${events.acknowledged}`],
    ["  repeated, malformed", `${events.repeated}, ${events.malformed}`],
    ["  late and repaired, left", `${events.repaired}, ${events.late}`],
    ["  acknowledged and lost", `${events.missing.length}`],
    ["entities, features compared", `${features.entities}, ${features.compared}`],
    ["  different", `${features.differences.length}`],
    ["pushed values taken, different", `${pushed.taken}, ${pushed.differences.length}`],
    ["scores", `${availability.requests}`],
    ["  answered, at the first try", `${share(availability.success)}, ${share(availability.firstTry)}`],
    ["  p50, p99", `${ms(availability.p50Ms)}, ${ms(availability.p99Ms)}`],
    ["  longest time without an answer", ms(availability.longestGapMs)],
    ["  degraded", `${share(availability.degraded)} (${counted(availability.degradedBy)})`],
    ["  failed", counted(availability.failures)],
    ["freshness p50, p99, longest", [freshness.p50Ms, freshness.p99Ms, freshness.maxMs].map(ms).join(", ")],
  ];
  const shown = features.differences
    .slice(0, SHOWN)
    .map(
      ({ entity, id, feature, online, offline }) =>
        `${entity} ${id} ${feature}: online ${online.status} ${JSON.stringify(online.value)}, archive ${offline.status} ${JSON.stringify(offline.value)}\n`,
    );
  for (const { id, pushed: value, online } of pushed.differences.slice(0, SHOWN)) {
    shown.push(`card ${id}: pushed ${value}, online ${JSON.stringify(online)}\n`);
  }
  const verdict = clean
    ? "Every acknowledged event is in the archive, and every online feature is what the archive and the pushes say.\n"
    : `NOT CLEAN. The same again: freshet chaos --seed ${report.seed}\n`;
  return `${formatTable(rows)}\n${shown.join("")}${verdict}`;
}
