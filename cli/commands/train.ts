import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { type Command, InvalidArgumentError, Option } from "commander";
import { type ModelRegistry, type ModelVersion, modelName } from "../../adapters/model/model-registry.ts";
import type { ArtefactFiles } from "../../adapters/model/open.ts";
import { registerModel } from "../../adapters/model/register.ts";
import { FreshetError, InfrastructureError } from "../../core/errors.ts";
import { checkTenant } from "../../core/event.ts";
import { plan } from "../../features/plan.ts";
import { freshetHome, homeFolder, ROOT } from "../../local/home.ts";
import { interruptible } from "../../local/interrupt.ts";
import { type TrainedModel, train } from "../../local/sagemaker/train.ts";
import { time, whole } from "../arguments.ts";
import { operator } from "../audited.ts";
import { openDeployment, type StageOption, stageOption } from "../deployment.ts";
import { withRegistry } from "../registry.ts";
import { formatTable } from "../table.ts";
import { buildSet } from "./training-set.ts";

/** What this command knows better than its user. */
const OWN = ["service", "plan_hash", "tenant", "git_commit"];

const setting = (text: string, before: Record<string, string> = {}): Record<string, string> => {
  const at = text.indexOf("=");
  const name = text.slice(0, at);
  if (at < 1) throw new InvalidArgumentError("Give a hyperparameter, as num_trees=200.");
  if (OWN.includes(name)) throw new InvalidArgumentError(`${name} is filled in by itself.`);
  return { ...before, [name]: text.slice(at + 1) };
};

interface Options extends StageOption {
  readonly service: string;
  readonly tenant: string;
  readonly trainingSet?: string;
  readonly from?: number;
  readonly to?: number;
  readonly fromLog?: boolean;
  readonly memory: number;
  readonly set?: Record<string, string>;
  readonly name?: string;
  readonly register: boolean;
  readonly json?: boolean;
}

interface Trained extends TrainedModel {
  readonly service: string;
  /** Null when it was not to be registered. */
  readonly version: ModelVersion | null;
}

export function register(program: Command): void {
  program
    .command("train")
    .description("Train a model as SageMaker runs the same program, and register it.")
    .requiredOption("--service <name>", "the feature service that the model will score for")
    .addOption(
      new Option(
        "--training-set <folder>",
        "what freshet training-set has written; without it, one is built",
      ).conflicts(["from", "to", "fromLog"]),
    )
    .option("--from <time>", "of the set that is built: first event time; all when left out", time)
    .option("--to <time>", "of the set that is built: end of event times, exclusive", time)
    .option("--from-log", "of the set that is built: what was scored, at its instant, instead of all labelled events")
    .option("--memory <MB>", "for building the set", whole(256, 1_000_000), 4096)
    .option("--set <name=value>", "a hyperparameter; may be repeated (training/README.md lists them)", setting)
    .option("--name <job>", "name of the job, and of its folder under .freshet/training")
    .option("--tenant <name>", "whose archive and model", "default")
    .option("--no-register", "leave the model in the job's folder")
    .addOption(stageOption())
    .option("--json", "print the result as JSON; progress goes to stderr")
    .addHelpText(
      "after",
      "\nExamples:\n  freshet train --service fraud --from 2026-10-01 --to 2026-11-01" +
        "\n  freshet train --service fraud --from-log --from 2026-11-01" +
        "\n  freshet train --service fraud --training-set ./set --set num_trees=500 --set class_weight=balanced" +
        "\n  freshet models promote 1 --service fraud",
    )
    .action(async (options: Options) => {
      const result = await interruptible((signal) => run(options, signal));
      process.stdout.write(options.json ? `${JSON.stringify(asJson(result))}\n` : render(result));
    });
}

async function run(options: Options, signal: AbortSignal): Promise<Trained> {
  const { service, tenant } = options;
  checkTenant(tenant);
  if (!plan.services.some(({ name }) => name === service)) {
    throw new FreshetError("service_unknown", `there is no feature service ${service}`, {
      field: "service",
      repair: `use one of ${plan.services.map(({ name }) => name).join(", ")}`,
    });
  }
  if (options.trainingSet !== undefined && !existsSync(options.trainingSet)) {
    throw new FreshetError("training_set_missing", `there is no folder ${options.trainingSet}`, {
      field: "training-set",
      repair: "build one with freshet training-set",
    });
  }
  // Said before anything is built or trained.
  if (options.register) await openDeployment(options);
  const jobName = options.name ?? `${service}-${new Date().toISOString().replace(/\D/g, "").slice(0, 17)}`;
  const progress = options.json ? process.stderr : process.stdout;
  const trainingSet = resolve(options.trainingSet ?? (await builtSet(options, jobName, signal)));
  const of = { tenant, target: `models ${service}` };
  const model = await train(freshetHome(), {
    jobName,
    trainingSet,
    champion: options.register
      ? await withRegistry(options, { ...of, kind: "read", action: "models.champion" }, (registry) =>
          championFiles(registry, options),
        )
      : null,
    hyperparameters: { service, plan_hash: plan.hash, tenant, git_commit: gitCommit(), ...options.set },
    // A refusal comes back as the error.
    onLine: (line) => void (line.startsWith("refused: ") || progress.write(`  ${line}\n`)),
    signal,
  });
  if (!options.register) return { ...model, service, version: null };
  const known = { tenant, service, plan, nowMs: Date.now(), by: operator() };
  const version = await withRegistry(options, { ...of, kind: "change", action: "models.register" }, (registry) =>
    registerModel(registry, model.folder, known),
  );
  return { ...model, service, version };
}

/** What the program needs of the model that stands, to score it on the same rows. */
async function championFiles(registry: ModelRegistry, { service, tenant }: Options): Promise<ArtefactFiles | null> {
  const id = { service, tenant };
  const { champion } = await registry.aliases(id);
  if (champion === null) return null;
  const version = await registry.get(id, champion);
  try {
    const files = await registry.files(version);
    return { "manifest.json": files["manifest.json"]!, "trees.json": files["trees.json"]! };
  } catch (error) {
    // What is broken about the champion keeps no other model from being trained.
    if (!(error instanceof FreshetError) || error instanceof InfrastructureError) throw error;
    process.stderr.write(`${modelName(version)} is not measured on the test slice: ${error.message}\n`);
    return null;
  }
}

async function builtSet(options: Options, jobName: string, signal: AbortSignal): Promise<string> {
  const out = join(homeFolder(freshetHome(), "training-sets"), jobName);
  await buildSet({ ...options, asOf: "event_time", out }, signal);
  return out;
}

const asJson = ({ jobName, folder, archive, report, metrics, version }: Trained) => ({
  job: jobName,
  folder,
  archive,
  report,
  metrics,
  version: version === null ? null : version.version,
});

function render({ service, jobName, folder, report, metrics, version }: Trained): string {
  const rows = Object.entries(metrics).map(([name, value]) => [name, value === null ? "-" : Number(value.toFixed(6))]);
  const registered =
    version === null
      ? "not registered"
      : `${modelName(version)}; freshet models promote ${version.version} --service ${service} makes it champion`;
  return `\n${formatTable([["measure", "test slice"], ...rows])}\n\n${formatTable(
    [
      ["job", jobName],
      ["folder", folder],
      ["report", report],
      ["model", registered],
    ],
    "",
  )}\n`;
}

/** Lineage. Empty where there is no git. */
function gitCommit(): string {
  try {
    return execFileSync("git", ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"], {
      cwd: ROOT,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  } catch {
    return "";
  }
}
