import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { hash64 } from "../../adapters/hash.ts";
import { describeSchedule } from "../../core/compile/batch-diff.ts";
import { canonicalJson, compile, EMPTY_LOCK, type Lock } from "../../core/compile/compile.ts";
import { describeOperator, describeWindow, diffPlans, viewsToBackfill } from "../../core/compile/plan-diff.ts";
import { FreshetError } from "../../core/errors.ts";
import type { Plan } from "../../core/plan.ts";
import { requireRetention } from "../../core/retention.ts";
import { checkServices } from "../../core/scoring/scoring.ts";
import { definitions } from "../../features/index.ts";
import { allStages } from "../../lib/stage.ts";
import { contracts } from "../../schemas/contracts.ts";
import { compareWithDeployed } from "../deployed-lock.ts";
import { openDeployment, type StageOption, stageOption } from "../deployment.ts";
import { EXIT } from "../exit.ts";
import { formatTable } from "../table.ts";
import { featureFiles, unlisted } from "../unlisted.ts";

const FOLDER = join(import.meta.dirname, "..", "..", "features");
const LOCK_FILE = join(FOLDER, "plan.lock.json");
const SNAPSHOT_FILE = join(FOLDER, "plan.snapshot.json");
const MARKS = { add: "+", remove: "-", change: "~", store: "•" } as const;

const read = <T>(file: string): T | null => (existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as T) : null);
const write = (file: string, value: unknown): void => writeFileSync(file, `${JSON.stringify(value, null, 2)}\n`);

export function register(program: Command): void {
  program
    .command("plan")
    .description("Check the definitions in features/ and show what a change does to stored state.")
    .option("--write", "record the plan and its stored ids, to be reviewed and committed")
    .option("--check", "exit 1 when the recorded plan is not the definitions' (for CI)")
    .addOption(stageOption("compare the ids with what a deployment on AWS has stored, as control will"))
    .option("--json", "print the compiled plan as JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  freshet plan\n  freshet plan --write && git diff features/\n  freshet plan --check\n  freshet plan --stage prod",
    )
    .action(async (options: StageOption & { write?: boolean; check?: boolean; json?: boolean }) => {
      const lock = read<Lock>(LOCK_FILE) ?? EMPTY_LOCK;
      const before = read<Plan>(SNAPSHOT_FILE);
      const { plan, lock: nextLock } = compile(definitions, contracts, lock, hash64);
      checkServices(plan, definitions.services);
      for (const { name, archive } of allStages) requireRetention(plan, archive.retentionDays, name);
      const moved = plan.groups.find(
        (group) => (before?.groups.find(({ name }) => name === group.name)?.baseMs ?? group.baseMs) !== group.baseMs,
      );
      if (moved) {
        throw new FreshetError(
          "base_changed",
          `the base of ${moved.name} is part of the stored layout and never changes`,
          {
            repair: "declare a new stream with the new base",
          },
        );
      }
      const stored =
        options.stage === undefined ? null : await compareWithDeployed(await openDeployment(options), nextLock);
      const stale = canonicalJson(before) !== canonicalJson(plan) || canonicalJson(lock) !== canonicalJson(nextLock);
      if (options.write) {
        write(LOCK_FILE, nextLock);
        write(SNAPSHOT_FILE, plan);
      }
      process.stdout.write(
        options.json ? `${JSON.stringify(plan, null, 2)}\n` : render(before, plan, stale, options.write),
      );
      for (const told of unlisted(await featureFiles(), definitions)) process.stderr.write(`\n! ${told}\n`);
      if (stored !== null) process.stderr.write(`\n${stored}\n`);
      if (options.check && stale) process.exitCode = EXIT.failed;
    });
}

function render(before: Plan | null, plan: Plan, stale: boolean, written = false): string {
  const changes = diffPlans(before, plan);
  const features = plan.views.flatMap((view) =>
    view.features.map((feature) => [
      feature.name,
      describeOperator(feature),
      describeWindow(feature),
      feature.dtype,
      view.owner,
    ]),
  );
  const batch = plan.batchViews.flatMap((view) =>
    view.features.map(({ name, dtype }) => [name, "batch", describeSchedule(view), dtype, view.owner]),
  );
  const lines = [
    formatTable([["feature", "operator", "window", "type", "owner"], ...features, ...batch]),
    "",
    `${features.length + batch.length} features in ${plan.views.length + plan.batchViews.length} views, ${plan.services.length} services, plan ${plan.hash}`,
    "",
  ];
  if (changes.length === 0)
    lines.push(stale ? "Nothing changes in what is stored; the recorded plan differs in words." : "No changes.");
  else lines.push("Changes:", ...changes.map(({ kind, what, effect }) => `  ${MARKS[kind]} ${what}: ${effect}`));
  const unbuilt = viewsToBackfill(before, plan);
  if (unbuilt.length > 0) {
    lines.push("", "After the deployment, for features that start with their history:");
    lines.push(...unbuilt.map((view) => `  freshet backfill --view ${view}`));
  }
  if (written) lines.push("", "Written: features/plan.lock.json, features/plan.snapshot.json. Review and commit them.");
  else if (stale) lines.push("", "Run `freshet plan --write` to record it.");
  return `${lines.join("\n")}\n`;
}
