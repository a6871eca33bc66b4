import { type Command, Option } from "commander";
import { floorTo } from "../../core/tiles/window.ts";
import { plan } from "../../features/plan.ts";
import type { MaterializeEvent } from "../../functions/materialize.ts";
import { type RunReport, stepsOf, viewOf } from "../../functions/shared/materialization/materialization.ts";
import { interruptible } from "../../local/interrupt.ts";
import { time } from "../arguments.ts";
import { ALL_TENANTS, withRecord } from "../audited.ts";
import { openDeployment, type StageOption, stageOption } from "../deployment.ts";
import { openFunctions } from "../invoke.ts";
import { progressBar } from "../progress.ts";

interface Options extends StageOption {
  view: string;
  from?: number;
  to?: number;
  tenant?: string;
  json?: boolean;
}

export function register(program: Command): void {
  program
    .command("materialize")
    .description("Run a batch feature view for a range of time, as its schedule does.")
    .requiredOption("--view <name>", "a batch feature view")
    .addOption(
      new Option("--from <time>", "beginning of the first run; one period before the end when left out").argParser(
        time,
      ),
    )
    .addOption(new Option("--to <time>", "end, exclusive; the last whole period's when left out").argParser(time))
    .option("--tenant <name>", "this tenant's entities alone; the schedule does not count it as done then")
    .addOption(stageOption())
    .option("--json", "print one JSON object when it has ended")
    .addHelpText(
      "after",
      `
The range is run one period after another, each seeing what was visible before its end. Running it again gives the same
values, and never replaces a newer value by an older one. Values become visible now: training sets for earlier
instants do not see them.

Examples:
  freshet materialize --view merchant_risk
  freshet materialize --view merchant_risk --from 2026-11-01 --to 2026-11-15
  AWS_PROFILE=prod AWS_REGION=eu-west-1 freshet materialize --view merchant_risk --stage prod`,
    )
    .action(run);
}

async function run(options: Options): Promise<void> {
  const view = viewOf(plan, options.view);
  const toMs = options.to ?? floorTo(Date.now(), view.everyMs);
  const steps = stepsOf(view, options.from ?? toMs - view.everyMs, toMs);
  const deployment = await openDeployment(options);
  const functions = openFunctions(deployment);
  const bar = options.json ? null : progressBar();
  const done: RunReport[] = [];
  try {
    const record = { tenant: options.tenant ?? ALL_TENANTS, action: "materialize", target: `view ${view.name}` };
    const runAll = async (signal: AbortSignal) => {
      for (const step of steps) {
        signal.throwIfAborted();
        bar?.show(done.length / steps.length, `${view.name} up to ${new Date(step.toMs).toISOString()}`);
        const event: MaterializeEvent = { kind: "run", view: view.name, tenant: options.tenant, ...step };
        done.push(await functions.invoke<RunReport>(deployment.materializeFunction, event));
      }
    };
    await withRecord(deployment, "change", record, () => interruptible(runAll));
  } finally {
    bar?.end();
    functions.close();
  }
  const sum = (of: (report: RunReport) => number) => done.reduce((total, report) => total + of(report), 0);
  const [rows, withoutKey] = [sum((report) => report.rows), sum((report) => report.withoutKey)];
  const left = withoutKey === 0 ? "" : `, ${withoutKey} without a key left out`;
  process.stdout.write(
    options.json
      ? `${JSON.stringify({ view: view.name, fromMs: steps[0].fromMs, toMs, runs: done.length, rows, withoutKey })}\n`
      : `${view.name}: ${done.length} runs, ${rows} rows${left}\n`,
  );
}
