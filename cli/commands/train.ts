import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { type Command, InvalidArgumentError } from "commander";
import { FreshetError } from "../../core/errors.ts";
import { plan } from "../../features/plan.ts";
import { freshetHome, ROOT } from "../../local/home.ts";
import { interruptible } from "../../local/interrupt.ts";
import { type TrainedModel, train } from "../../local/sagemaker/train.ts";
import { formatTable } from "../table.ts";

/** What this command knows better than its user. */
const OWN = ["service", "plan_hash", "git_commit"];

const setting = (text: string, before: Record<string, string> = {}): Record<string, string> => {
  const at = text.indexOf("=");
  const name = text.slice(0, at);
  if (at < 1) throw new InvalidArgumentError("Give a hyperparameter, as num_trees=200.");
  if (OWN.includes(name)) throw new InvalidArgumentError(`${name} is filled in by itself.`);
  return { ...before, [name]: text.slice(at + 1) };
};

interface Options {
  readonly service: string;
  readonly trainingSet: string;
  readonly set?: Record<string, string>;
  readonly name?: string;
  readonly json?: boolean;
}

export function register(program: Command): void {
  program
    .command("train")
    .description("Train a model from a training set, as SageMaker runs the same program.")
    .requiredOption("--service <name>", "the feature service that the model will score for")
    .requiredOption("--training-set <folder>", "what freshet training-set has written")
    .option("--set <name=value>", "a hyperparameter; may be repeated (training/README.md lists them)", setting)
    .option("--name <job>", "name of the job, and of its folder under .freshet/training")
    .option("--json", "print the result as JSON; progress goes to stderr")
    .addHelpText(
      "after",
      "\nExamples:\n  freshet train --service fraud --training-set ./set" +
        "\n  freshet train --service fraud --training-set ./set --set num_trees=500 --set class_weight=balanced",
    )
    .action(async (options: Options) => {
      const result = await interruptible((signal) => run(options, signal));
      process.stdout.write(options.json ? `${JSON.stringify(asJson(result))}\n` : render(result));
    });
}

function run(options: Options, signal: AbortSignal): Promise<TrainedModel> {
  if (!plan.services.some(({ name }) => name === options.service)) {
    throw new FreshetError("service_unknown", `there is no feature service ${options.service}`, {
      field: "service",
      repair: `use one of ${plan.services.map(({ name }) => name).join(", ")}`,
    });
  }
  if (!existsSync(options.trainingSet)) {
    throw new FreshetError("training_set_missing", `there is no folder ${options.trainingSet}`, {
      field: "training-set",
      repair: "build one with freshet training-set",
    });
  }
  const progress = options.json ? process.stderr : process.stdout;
  return train(freshetHome(), {
    jobName: options.name ?? `${options.service}-${new Date().toISOString().replace(/\D/g, "").slice(0, 17)}`,
    trainingSet: resolve(options.trainingSet),
    hyperparameters: {
      service: options.service,
      plan_hash: plan.hash,
      git_commit: gitCommit(),
      ...options.set,
    },
    // A refusal comes back as the error.
    onLine: (line) => void (line.startsWith("refused: ") || progress.write(`  ${line}\n`)),
    signal,
  });
}

const asJson = ({ jobName, folder, archive, report, metrics }: TrainedModel) => ({
  job: jobName,
  folder,
  archive,
  report,
  metrics,
});

function render({ jobName, folder, report, metrics }: TrainedModel): string {
  const rows = Object.entries(metrics).map(([name, value]) => [name, value === null ? "-" : Number(value.toFixed(6))]);
  return `\n${formatTable([["measure", "test slice"], ...rows])}\n\njob     ${jobName}\nmodel   ${folder}\nreport  ${report}\n`;
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
