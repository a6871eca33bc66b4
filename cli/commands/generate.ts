import { type Command, Option } from "commander";
import { checkTenant } from "../../core/event.ts";
import { openRegistry } from "../../functions/shared/schema-registry.ts";
import { laptopBroker } from "../../local/broker.ts";
import { framedSink } from "../../local/generator/framed-sink.ts";
import { type GenerateSummary, generate } from "../../local/generator/run.ts";
import type { StreamName } from "../../local/generator/simulate.ts";
import { fileSink, httpSink, type Sink } from "../../local/generator/sinks.ts";
import { checkTimes } from "../../local/generator/time-check.ts";
import { sinkTo } from "../../local/generator/topic-sink.ts";
import { freshetHome } from "../../local/home.ts";
import { serveUrl } from "../../local/parts.ts";
import { askReady } from "../../local/status.ts";
import { duration, fraction, number, someOf, time, whole } from "../arguments.ts";
import { EXIT } from "../exit.ts";
import { requireRunning } from "../running.ts";
import { givenRegistry } from "../schema-push.ts";
import { formatTable } from "../table.ts";

const STREAMS: readonly StreamName[] = ["transactions", "clicks", "labels"];

/** Allowed lateness as declared, and the margin of the seal. */
const NEW_SEAL_MS = 12 * 60_000;
const SINKS = ["broker", "http", "file"] as const;

interface Options {
  streams: StreamName[];
  rate: number;
  /** Milliseconds. */
  duration: number;
  count?: number;
  seed: number;
  from?: number;
  to?: number;
  sink: (typeof SINKS)[number];
  out?: string;
  single?: boolean;
  registry?: string;
  glue?: string;
  duplicates: number;
  late: number;
  disorder: number;
  malformed: number;
  fraud: number;
  customers: number;
  tenant: string;
  truth?: string;
  anyway?: boolean;
  json?: boolean;
}

export function register(program: Command): void {
  program
    .command("generate")
    .description("Simulated transactions, clicks and labels, with fraud in them, to the broker, the API or a file.")
    .addOption(
      new Option("--streams <names>", "some of transactions, clicks, labels, with commas between")
        .argParser(someOf(STREAMS))
        .default([...STREAMS], "all"),
    )
    .option("--rate <n>", "events a second, on average", number(0.01, 100_000), 50)
    .addOption(new Option("--duration <time>", "how long, as 60s or 5m").argParser(duration).default(60_000, "60s"))
    .option("--count <n>", "stop after this many events", whole(1, 1e9))
    .option("--seed <n>", "the same seed, with the same --from and --to, gives the same events", whole(0, 2 ** 48), 7)
    .option(
      "--from <time>",
      "simulated time instead of the clock, as fast as it goes: a time, or an age as 42d; needs --to",
      time,
    )
    .option("--to <time>", "end of simulated time: a time, or an age as 1h", time)
    .addOption(
      new Option("--sink <where>", "broker (Avro; to Kinesis KPL-packed), http (JSON) or file (NDJSON, needs --out)")
        .choices(SINKS)
        .default("broker"),
    )
    .option("--out <file>", "file to write; means --sink file")
    .option("--single", "one event a record of Kinesis instead of packed ones, as it is with Kafka")
    .option(
      "--registry <address>",
      "write the framing of this schema registry, with the ids that `schemas push` was given",
    )
    .option("--glue <name>", "the same for a registry of AWS Glue")
    .option("--duplicates <share>", "share of events sent twice", fraction, 0)
    .option("--late <share>", "share of events 20 to 60 minutes old", fraction, 0)
    .option("--disorder <share>", "share of events up to 8 minutes old", fraction, 0)
    .option("--malformed <share>", "share of events that cannot be read", fraction, 0)
    .option("--fraud <share>", "share of payments that begin what looks like fraud", fraction, 0.0015)
    .option("--customers <n>", "size of the population", whole(10, 1e6), 2000)
    .option("--tenant <name>", "tenant of broker events", "default")
    .option(
      "--truth <file>",
      "write what is true of each event, with the chance that a payment is fraud, one JSON line each",
    )
    .option("--anyway", "send a range that will be late or quarantined")
    .option("--json", "print the summary as JSON")
    .addHelpText(
      "after",
      `
Examples:
  freshet generate --rate 200 --duration 2m
  freshet generate --rate 1000 --duplicates 0.01 --late 0.01 --disorder 0.05 --malformed 0.001 --truth truth.ndjson
  freshet generate --out weeks.ndjson --truth truth.ndjson --rate 0.2 --from 42d --to 1h
    then: freshet import weeks.ndjson --stream transactions --arrival 1s, and the same for clicks and labels
  freshet generate --out october.ndjson --rate 1 --from 2026-10-01 --to 2026-11-01

A payment is fraud by chance: by what its card and device did before, and what it is itself. The summary tells how well a
score that knew each chance would do on these payments; no model can do better. Labels come as in life: few at once, fraud
after days or never, the rest after a week. An item that is shown (a \`view\`) is clicked by chance too: by what the item is, and what
its customer likes and came for.`,
    )
    .action(run);
}

async function run(options: Options, command: Command): Promise<void> {
  checkTenant(options.tenant);
  const simulated = options.from !== undefined || options.to !== undefined;
  if (simulated && (options.from === undefined || options.to === undefined || options.to <= options.from)) {
    command.error("error: --from and --to go together, and --to is later");
  }
  if (options.out !== undefined && command.getOptionValueSource("sink") === "default") options.sink = "file";
  if ((options.sink === "file") !== (options.out !== undefined)) {
    command.error("error: --sink file and --out go together");
  }
  if ((options.registry ?? options.glue) !== undefined && options.sink !== "broker") {
    command.error("error: --registry and --glue go with --sink broker: only its records are framed");
  }
  const fromMs = options.from ?? Date.now();
  const toMs = options.to ?? fromMs + options.duration;
  const sink = makeSink(options);
  if (simulated && options.sink !== "file" && !options.anyway) {
    checkTimes({ fromMs, toMs }, Date.now(), await sealOf(options.streams));
  }
  const clicks = options.streams.includes("clicks");
  const payments = options.streams.some((name) => name !== "clicks");
  const abort = new AbortController();
  const stop = () => abort.abort();
  process.once("SIGINT", stop);
  process.once("SIGTERM", stop);
  const summary = await generate(
    {
      ...options,
      fromMs,
      toMs,
      live: !simulated,
      truthFile: options.truth,
      fraudRate: options.fraud,
      transactionsPerSecond: payments ? options.rate * (clicks ? 2 / 3 : 1) : 0,
      clicksPerSecond: clicks ? options.rate * (payments ? 1 / 3 : 1) : 0,
    },
    sink,
    options.json ? () => {} : showProgress(),
    abort.signal,
  );
  if (options.json) process.stdout.write(`${JSON.stringify(summary)}\n`);
  else process.stdout.write(render(summary));
  if (summary.interrupted) process.exitCode = EXIT.interrupted;
  else if (summary.acknowledged < summary.sent - (options.sink === "broker" ? 0 : (summary.byKind.malformed ?? 0))) {
    process.exitCode = EXIT.failed;
  }
}

function makeSink(options: Options): Sink {
  if (options.out !== undefined) return fileSink(options.out);
  const { ports, deployment, apiKey } = requireRunning(freshetHome());
  if (options.sink === "http") return httpSink(serveUrl(ports.serve), apiKey);
  const { streams } = deployment;
  const sink = sinkTo(laptopBroker(ports.emulator, deployment), streams, !options.single, options.seed);
  const registry = givenRegistry(options);
  return registry === undefined ? sink : framedSink(sink, openRegistry(registry), streams);
}

/** The seal that any of the streams has reached; where none is known, what a new stream begins with. */
async function sealOf(streams: readonly StreamName[]): Promise<number> {
  const seals = (await askReady(freshetHome()))?.checks?.online_store?.seals_ms ?? {};
  const known = streams.flatMap((name) => seals[name] ?? []);
  return known.length > 0 ? Math.max(...known) : Date.now() - NEW_SEAL_MS;
}

/** A bar on a terminal, a line every five seconds elsewhere. */
export function showProgress(
  out: NodeJS.WriteStream = process.stderr,
): (summary: GenerateSummary, share: number) => void {
  let shownMs = 0;
  return (summary, share) => {
    const nowMs = Date.now();
    if (share < 1 && nowMs - shownMs < (out.isTTY ? 100 : 5_000)) return;
    shownMs = nowMs;
    const rate = Math.round(summary.sent / Math.max(0.001, summary.seconds));
    const text = `${String(Math.round(share * 100)).padStart(3)} %  ${summary.sent} events, ${rate}/s`;
    if (!out.isTTY) out.write(`  ${text}\n`);
    else {
      const filled = Math.round(share * 30);
      out.write(`\r  [${"█".repeat(filled)}${" ".repeat(30 - filled)}] ${text}  ${share >= 1 ? "\n" : ""}`);
    }
  };
}

function render(summary: GenerateSummary): string {
  const rows = [
    ...Object.entries(summary.byStream),
    ...Object.entries(summary.byKind).filter(([kind]) => kind !== "event"),
    ["fraudulent transactions", summary.fraud] as const,
    ["sent", summary.sent] as const,
    ["acknowledged", summary.acknowledged] as const,
  ].map(([name, count]) => [name, count as number]);
  const best = [["score", summary.best] as const, ["chance of a click", summary.bestOfClicks] as const].map(
    ([what, { rocAuc, prAuc }]) =>
      rocAuc === null || prAuc === null
        ? ""
        : `\n  best possible ${what}: ROC-AUC ${rocAuc.toFixed(3)}, PR-AUC ${prAuc.toFixed(3)}`,
  );
  return `${formatTable(rows)}${best.join("")}\n  in ${summary.seconds.toFixed(1)} s${summary.interrupted ? ", interrupted" : ""}\n`;
}
