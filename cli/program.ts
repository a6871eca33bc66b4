/**
 * What the `freshet` command does with its words. Command modules are imported when they are called, so that `--help` and errors of
 * usage cost no import of clients and constructs; hence the names and one-line descriptions here.
 */
import { Command, CommanderError } from "commander";
import { DefinitionError, FreshetError } from "../core/errors.ts";
import { TIMES, time } from "./arguments.ts";
import { EXIT, USAGE_CODES } from "./exit.ts";

type Register = (program: Command) => void;

const COMMANDS: Readonly<Record<string, { description: string; load: () => Promise<{ register: Register }> }>> = {
  up: { description: "start and deploy everything on this machine", load: () => import("./commands/up.ts") },
  down: { description: "end every process, keep the state", load: () => import("./commands/down.ts") },
  status: { description: "what runs, where, and how to connect", load: () => import("./commands/status.ts") },
  health: { description: "check each part", load: () => import("./commands/health.ts") },
  inspect: { description: "watch events flow through the streams", load: () => import("./commands/inspect.ts") },
  logs: { description: "logs of functions and processes", load: () => import("./commands/logs.ts") },
  deploy: { description: "deploy again after a change", load: () => import("./commands/deploy.ts") },
  demo: {
    description: "the whole thing: up, live events, features, a score",
    load: () => import("./commands/demo.ts"),
  },
  generate: { description: "simulated transactions, clicks and labels", load: () => import("./commands/generate.ts") },
  "training-set": {
    description: "features as they were at each labelled event, as Parquet",
    load: () => import("./commands/training-set.ts"),
  },
  consistency: {
    description: "hold what was served against the archive",
    load: () => import("./commands/consistency.ts"),
  },
  verify: {
    description: "hold the online store against the archive",
    load: () => import("./commands/verify.ts"),
  },
  rebuild: {
    description: "build one entity anew from the archive",
    load: () => import("./commands/rebuild.ts"),
  },
  train: { description: "train a model and register it", load: () => import("./commands/train.ts") },
  models: {
    description: "versions of models, who is champion, and the gate",
    load: () => import("./commands/models.ts"),
  },
  features: {
    description: "what can be read; register and push your own",
    load: () => import("./commands/features.ts"),
  },
  score: { description: "score one request", load: () => import("./commands/score.ts") },
  experiment: { description: "compare the arms of an experiment", load: () => import("./commands/experiment.ts") },
  serve: { description: "the API as a plain HTTP server", load: () => import("./commands/serve.ts") },
  mapping: {
    description: "hand Kafka's records to the aggregate function",
    load: () => import("./commands/mapping.ts"),
  },
  keys: { description: "make, list, rotate and revoke API keys", load: () => import("./commands/keys.ts") },
  tenants: { description: "what each tenant may ask for", load: () => import("./commands/tenants.ts") },
  erase: { description: "remove a person from everything that is held", load: () => import("./commands/erase.ts") },
  audit: { description: "who changed what, and who looked", load: () => import("./commands/audit.ts") },
  plan: { description: "check the definitions and show what a change does", load: () => import("./commands/plan.ts") },
  client: { description: "write a typed client of this app's API", load: () => import("./commands/client.ts") },
  schemas: { description: "check the contracts for compatibility", load: () => import("./commands/schemas.ts") },
  bench: { description: "measure, beside a baseline of the same run", load: () => import("./commands/bench.ts") },
  import: { description: "bring past events into the archive", load: () => import("./commands/import.ts") },
  backfill: { description: "give new features their history", load: () => import("./commands/backfill.ts") },
  materialize: {
    description: "run a batch view for a range of time",
    load: () => import("./commands/materialize.ts"),
  },
  compact: { description: "turn the archive into Parquet by event time", load: () => import("./commands/compact.ts") },
  quarantine: {
    description: "refused records: look, replay, drop",
    load: () => import("./commands/quarantine.ts"),
  },
  replay: { description: "deliver a range of events again", load: () => import("./commands/replay.ts") },
  recover: {
    description: "bring the store back after a failover or a loss",
    load: () => import("./commands/recover.ts"),
  },
  restore: { description: "write a snapshot back into the store", load: () => import("./commands/restore.ts") },
  chaos: { description: "break a runtime of its own and compare", load: () => import("./commands/chaos.ts") },
  clean: { description: "end every process and remove all state", load: () => import("./commands/clean.ts") },
};

/** Writes to the process's output and sets its exit code, as a whole process would. @param argv words after `freshet` */
export async function run(argv: readonly string[]): Promise<void> {
  try {
    await dispatch(argv);
  } catch (error) {
    process.exitCode = await report(error);
  }
}

async function dispatch(argv: readonly string[]): Promise<void> {
  const program = new Command("freshet")
    .description("A streaming feature store with online inference.")
    .version("0.1.0")
    .configureHelp({ sortSubcommands: false })
    .addHelpText("after", "\nExit codes: 0 done, 1 failed, 2 wrong usage, 3 not running, 130 interrupted.")
    .exitOverride();
  const named = argv.find((word) => Object.hasOwn(COMMANDS, word));
  if (named !== undefined) {
    (await COMMANDS[named].load()).register(program);
    explainTimes(program);
  } else for (const [name, { description }] of Object.entries(COMMANDS)) program.command(name).description(description);
  await program.parseAsync([...argv], { from: "user" });
}

/** Says how times are written, with every command that takes one. */
function explainTimes(command: Command): void {
  if (command.options.some(({ parseArg }) => parseArg === time)) command.addHelpText("after", `\n${TIMES}`);
  for (const sub of command.commands) explainTimes(sub);
}

/** @returns the exit code of an error, having shown it */
async function report(thrown: unknown): Promise<number> {
  const { placeOf, tellLoadFailure } = await import("./definition-place.ts");
  const error = tellLoadFailure(thrown);
  if (error instanceof CommanderError) {
    // Commander has written help, version or the usage error itself.
    return error.exitCode === 0 ? 0 : EXIT.usage;
  }
  if (error instanceof FreshetError) {
    if (error.code === "interrupted") return EXIT.interrupted;
    process.stderr.write(`\nfreshet: ${error.message}\n`);
    const place = error instanceof DefinitionError ? placeOf(error.message) : null;
    if (place !== null) process.stderr.write(`  in: ${place}\n`);
    // Refusals of definitions end with their repair.
    const { repair } = error;
    if (repair !== undefined && !error.message.endsWith(repair)) process.stderr.write(`  repair: ${repair}\n`);
    if (!(error instanceof DefinitionError) && USAGE_CODES.has(error.code)) return EXIT.usage;
    return error.code === "not_running" ? EXIT.notRunning : EXIT.failed;
  }
  process.stderr.write(`\nfreshet: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  return EXIT.failed;
}
