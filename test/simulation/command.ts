/** What `npm run simulate` does: runs one seed after the other, tells how far it is, and shrinks the first run that fails. */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { Command } from "commander";
import { startValkey } from "../support/valkey.ts";
import { watchAppliers } from "./builds.ts";
import { DESIGNS, WRONG } from "./designs.ts";
import { BUCKETS } from "./hooks.ts";
import { type RunReport, simulate } from "./run.ts";
import { type Schedule, shrink } from "./shrink.ts";
import { SimulatedStore } from "./store.ts";
import { Summary } from "./summary.ts";
import { install } from "./virtual.ts";

interface Options {
  readonly seed?: number;
  readonly runs?: number;
  readonly minutes?: number;
  readonly updates?: number;
  readonly events?: number;
  readonly design: string;
  readonly wrong?: boolean;
  readonly repairs?: boolean;
  readonly schedule?: string;
  readonly shrinkSeconds: number;
  readonly log?: string;
  readonly summary?: string;
  readonly json?: boolean;
}

const number = (text: string): number => Number(text.replace(/M$/, "e6"));
const realNow = Date.now;

export async function command(args: readonly string[]): Promise<void> {
  const program = new Command("simulate")
    .description("Simulates the path of events under faults, one seed after the other, until a run fails.")
    .option("--seed <n>", "the first seed. Default: drawn, and told", number)
    .option("--runs <n>", "so many seeds. Default: 1, where neither minutes nor updates are given", number)
    .option("--minutes <n>", "no further seed after so many minutes", number)
    .option("--updates <n>", "no further seed after so many entity updates, as 100M", number)
    .option("--events <n>", "about so many events in a run. Default: by the seed", number)
    .option("--design <name>", `whose code: ${Object.keys(DESIGNS).join(", ")}`, "freshet")
    .option("--repairs", "with repairs and builds going on")
    .option("--wrong", "runs every design but the product's own, until each is caught")
    .option("--schedule <file>", "the events and faults of a run that was shrunk, alone")
    .option("--shrink-seconds <n>", "how long to look for a smaller run that fails", number, 120)
    .option("--log <file>", "writes every step of the last run")
    .option("--summary <file>", "writes what was run, as JSON, after each minute and at the end")
    .option("--json", "prints the summary as JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  npm run simulate -- --seed 7\n  npm run simulate -- --minutes 60 --summary run.json",
    );
  program.parse(args, { from: "user" });
  const options = program.opts<Options>();
  if (!(options.design in DESIGNS)) program.error(`there is no design ${options.design}`);
  const valkey = await startValkey();
  const store = new SimulatedStore(valkey, BUCKETS);
  install();
  watchAppliers();
  try {
    const failed = options.wrong ? await catchAll(store, options) : await runAll(store, options);
    if (failed) process.exitCode = 1;
  } finally {
    await store.raw.close();
    await valkey.stop();
  }
}

/** Runs each wrong design until it is caught. @returns whether one was not, within so many seeds */
async function catchAll(store: SimulatedStore, options: Options): Promise<boolean> {
  const told: Record<string, { seeds: number; updates: number; seconds: number; violation: string | null }> = {};
  for (const design of WRONG) {
    const startedMs = performance.now();
    let [seeds, updates] = [0, 0];
    let violation: string | null = null;
    for (let seed = options.seed ?? 1; violation === null && seeds < (options.runs ?? 30); seed++, seeds++) {
      const schedule = { seed, size: options.events ?? null, events: null, faults: [] };
      const report = await once(store, { ...options, design }, schedule, false);
      updates += report.updates;
      violation = report.violations[0] ?? null;
    }
    const seconds = Math.round((performance.now() - startedMs) / 100) / 10;
    told[design] = { seeds, updates, seconds, violation };
    if (!options.json) console.log(`${design}: ${violation ?? "NOT CAUGHT"} (${seeds} seeds, ${seconds} s)`);
  }
  if (options.json) console.log(JSON.stringify(told, null, 2));
  return Object.values(told).some(({ violation }) => violation === null);
}

/** @returns whether a run failed */
async function runAll(store: SimulatedStore, options: Options): Promise<boolean> {
  const given: Schedule | null = options.schedule ? JSON.parse(readFileSync(options.schedule, "utf8")) : null;
  const first = given?.seed ?? options.seed ?? realNow() % 1_000_000_000;
  const summary = new Summary(first, commit(), options.design);
  const endMs = options.minutes === undefined ? Number.POSITIVE_INFINITY : performance.now() + options.minutes * 60_000;
  const most = options.runs ?? (options.minutes === undefined && options.updates === undefined ? 1 : undefined);
  const until = options.updates ?? Number.POSITIVE_INFINITY;
  let toldMs = performance.now();
  let failed: RunReport | null = null;
  for (let seed = first; failed === null; seed++) {
    const report = await once(
      store,
      options,
      given ?? { seed, size: options.events ?? null, events: null, faults: [] },
      given !== null,
    );
    summary.add(report, await cpuSeconds(store));
    if (report.violations.length > 0) failed = report;
    const over = summary.runs === most || performance.now() >= endMs || summary.updates >= until;
    if (over || performance.now() - toldMs > 60_000) {
      toldMs = performance.now();
      if (!options.json) console.log(summary.line());
      if (options.summary) writeFileSync(options.summary, summary.json());
    }
    if (over) break;
  }
  if (options.json) console.log(summary.json());
  else console.log(summary.text());
  if (options.summary) writeFileSync(options.summary, summary.json());
  if (failed !== null) await explain(store, options, failed, given !== null);
  return failed !== null;
}

async function once(store: SimulatedStore, options: Options, schedule: Schedule, shrunk: boolean): Promise<RunReport> {
  const lines: string[] = [];
  const report = await simulate(store, {
    seed: schedule.seed,
    events: schedule.size ?? undefined,
    kept: schedule.events === null ? null : new Set(schedule.events),
    faults: shrunk ? new Set(schedule.faults) : null,
    design: DESIGNS[options.design](),
    repairs: options.repairs,
    log: options.log ? (line) => lines.push(line) : undefined,
  });
  if (options.log) writeFileSync(options.log, `${lines.join("\n")}\n`);
  return report;
}

/** Tells what is wrong, and the smallest schedule that was found for it. */
async function explain(store: SimulatedStore, options: Options, failed: RunReport, shrunk: boolean): Promise<void> {
  const print = options.json ? console.error : console.log;
  print(`seed ${failed.seed} fails:\n  ${failed.violations.slice(0, 5).join("\n  ")}`);
  if (shrunk || options.shrinkSeconds === 0) return;
  const endMs = performance.now() + options.shrinkSeconds * 1_000;
  let attempts = 0;
  let last: readonly string[] = failed.violations;
  const schedule = await shrink(
    failed.seed,
    options.events ?? null,
    failed.sent,
    failed.fired,
    async (candidate) => {
      attempts++;
      const { violations } = await once(store, { ...options, log: undefined }, candidate, true);
      if (violations.length > 0) last = violations;
      return violations.length > 0;
    },
    () => performance.now() < endMs,
  );
  const file = `simulation-${failed.seed}.json`;
  writeFileSync(file, `${JSON.stringify(schedule, null, 1)}\n`);
  print(`${attempts} smaller runs later: ${schedule.events?.length} events and ${schedule.faults.length} faults fail:`);
  for (const fault of schedule.faults.slice(0, 40)) print(`  ${fault}`);
  print(`  ${last.slice(0, 3).join("\n  ")}\nagain: npm run simulate -- --schedule ${file} --log steps.txt`);
}

/** Of this process and the server. */
async function cpuSeconds(store: SimulatedStore): Promise<number> {
  const { user, system } = process.cpuUsage();
  const told = await (await store.node()).info("cpu");
  const server = ["user", "sys"].map((kind) => Number(new RegExp(`used_cpu_${kind}:([\\d.]+)`).exec(told)?.[1] ?? 0));
  return (user + system) / 1e6 + server[0] + server[1];
}

function commit(): string {
  try {
    return execFileSync("git", ["rev-parse", "--short", "HEAD"], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  } catch {
    return "unknown";
  }
}
