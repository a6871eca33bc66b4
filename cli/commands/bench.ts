import { join } from "node:path";
import { type Command, Option } from "commander";
import { ROOT } from "../../local/home.ts";
import { interruptible } from "../../local/interrupt.ts";
import type { LaptopBroker } from "../../local/state.ts";
import { EXIT } from "../exit.ts";

interface Options {
  readonly only?: string[];
  readonly broker?: LaptopBroker[];
  readonly quick?: boolean;
  readonly json?: boolean;
  readonly check?: boolean;
  /** Undefined where neither is said: a whole result is written, and one that is apart. */
  readonly write?: boolean;
}

export function register(program: Command): void {
  program
    .command("bench")
    .description("Measure, each number beside a baseline of the same run. How: bench/README.md")
    .option(
      "--only <names...>",
      "some of: aggregate, build, repair, archive, point-in-time, pipeline, online, score, rank, memory; alone: soak, restore, outage, feast",
    )
    .addOption(
      new Option("--broker <brokers...>", "with `--only pipeline`: what carries the events (default: kinesis)").choices(
        ["kinesis", "kafka"],
      ),
    )
    .option("--quick", "seconds instead of minutes; shows that it runs, not what it reaches")
    .option("--write", "write to bench/results/ with `--only`, too, under the names of what was measured")
    .option("--no-write", "leave bench/results/ as it is")
    .option("--check", "exit 1 when a number misses its target")
    .option("--json", "print the result as JSON instead of a table")
    .addHelpText(
      "after",
      "\nExamples:\n  freshet bench --quick --no-write\n  freshet bench --only online score\n" +
        "  freshet bench --only pipeline --broker kinesis kafka",
    )
    .action(async (options: Options, command: Command) => {
      const [only, ...more] = options.only ?? [];
      if (options.broker !== undefined && (only !== "pipeline" || more.length > 0)) {
        command.error("error: option '--broker' is for the pipeline; give '--only pipeline' with it");
      }
      const { BENCHMARKS } = await import("../../bench/benchmark.ts");
      const { runBenchmarks } = await import("../../bench/run.ts");
      const { reached, renderJson, renderMarkdown, writeReport } = await import("../../bench/report.ts");
      const whole = Object.keys(BENCHMARKS).filter((name) => BENCHMARKS[name].apart === undefined);
      const report = await interruptible((signal) =>
        runBenchmarks(options.only ?? whole, {
          quick: options.quick ?? false,
          brokers: options.broker ?? ["kinesis"],
          signal,
          say: (text) => process.stderr.write(`  ${text}\n`),
        }),
      );
      process.stdout.write(options.json ? renderJson(report) : renderMarkdown(report));
      const apart = more.length === 0 && (BENCHMARKS[only]?.apart || options.broker);
      // A part of the rows, or a rough run, must not take the place of a whole result.
      if ((options.write ?? (options.only === undefined || apart)) && !options.quick) {
        const named = options.only && [...options.only, ...(options.broker ?? [])].join("-");
        process.stderr.write(
          `  written to ${writeReport(report, join(ROOT, "bench", "results"), named)}.md and .json\n`,
        );
      }
      const missed = report.sections.flatMap(({ rows }) => rows).filter((row) => reached(row) === false);
      if (options.check && missed.length > 0) process.exitCode = EXIT.failed;
    });
}
