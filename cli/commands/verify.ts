import type { Command } from "commander";
import { FreshetError } from "../../core/errors.ts";
import type { FeatureValue } from "../../core/plan.ts";
import type { Difference } from "../../functions/shared/verification/verification.ts";
import { seedOfDay, type VerifyRunReport } from "../../functions/shared/verification/verify-run.ts";
import type { VerifyEvent } from "../../functions/verify.ts";
import { whole } from "../arguments.ts";
import { openDeployment, type StageOption, stageOption } from "../deployment.ts";
import { EXIT } from "../exit.ts";
import { openFunctions } from "../invoke.ts";
import { formatTable } from "../table.ts";

interface Options extends StageOption {
  readonly sample?: number;
  readonly all?: boolean;
  readonly entity?: string;
  readonly id?: string;
  readonly tenant?: string;
  readonly seed?: string;
  readonly pushed: boolean;
  readonly json?: boolean;
}

/** Of one call: after it the progress is told. */
const BUDGET_MS = 15_000;

export function register(program: Command): void {
  program
    .command("verify")
    .description("Compute entities again from the archive, and hold what the online store serves against it.")
    .option(
      "--sample <n>",
      "of each type of entity, chosen by hash and day (100 when nothing is said)",
      whole(1, 1_000_000),
    )
    .option("--all", "every entity that the store or the archive knows, a part for each call")
    .option("--entity <name>", "this type alone")
    .option("--id <id>", "this one alone; with --entity")
    .option("--tenant <name>", "this tenant's alone; all tenants' when left out, `default` with --id")
    .option("--seed <word>", "another word is another sample")
    .option("--no-pushed", "leaves out what batch views and callers have pushed, and the reading of its archive")
    .addOption(stageOption())
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
Features are compared bit by bit, as of one instant of the store's clock. What differs is looked at again
for half a minute, since the archive is written after the store; an entity that an event reaches at each of these moments is
\`racing\`. Ends with 1 when something differs. \`freshet rebuild\` mends an entity's windows.

Examples:
  freshet verify
  freshet verify --sample 1000 --entity card
  freshet verify --entity card --id card_001403_1
  AWS_PROFILE=prod AWS_REGION=eu-west-1 freshet verify --all --stage prod --json`,
    )
    .action(run);
}

async function run({
  json,
  id,
  tenant = id === undefined ? undefined : "default",
  ...options
}: Options): Promise<void> {
  if (id !== undefined && options.entity === undefined) {
    throw new FreshetError("option_missing", `of which type of entity ${id} is one is not said`, {
      repair: "give --entity with --id",
    });
  }
  const deployment = await openDeployment(options);
  const functions = openFunctions(deployment);
  const { sample, all, entity, pushed } = options;
  // One sample for all calls, also beyond midnight: the day's own, as long as nothing is said.
  const { seed = all ? undefined : seedOfDay(Date.now()) } = options;
  let total: VerifyRunReport | null = null;
  try {
    for (let after: string | undefined; ; ) {
      const event: VerifyEvent = {
        kind: "verify",
        sample,
        all,
        entity,
        id,
        tenant,
        seed,
        pushed,
        after,
        budgetMs: BUDGET_MS,
      };
      const report: VerifyRunReport = await functions.invoke<VerifyRunReport>(deployment.verifyFunction, event);
      total = total === null ? report : together(total, report);
      if (report.next === null) break;
      after = report.next;
      if (!json)
        process.stderr.write(
          `  ${total.checked} entities compared, ${total.differing} differ${all ? placeIn(after) : ""}\n`,
        );
    }
  } finally {
    functions.close();
  }
  process.stdout.write(json ? `${JSON.stringify(total, null, 2)}\n` : render(total));
  // A name that is misspelt proves nothing.
  const provesNothing = total.checked === 0 && (tenant ?? entity) !== undefined;
  if (provesNothing) {
    const of = [entity, tenant === undefined ? undefined : `of tenant ${tenant}`].filter((part) => part !== undefined);
    process.stderr.write(`freshet: neither store nor archive knows an entity ${of.join(" ")}\n`);
  }
  if (total.differing > 0 || provesNothing) process.exitCode = EXIT.failed;
}

/** Entities are gone through in the order of their hashes, which are spread evenly. */
function placeIn(next: string): string {
  const [tenant, entity, order = ""] = next.split("/");
  const share = order === "" ? 0 : Number.parseInt(order.slice(0, 8), 16) / 2 ** 32;
  return `; ${Math.floor(share * 100)} % of ${entity} of ${tenant}`;
}

function together(a: VerifyRunReport, b: VerifyRunReport): VerifyRunReport {
  const names = new Set([...Object.keys(a.entities), ...Object.keys(b.entities)]);
  return {
    ...b,
    checked: a.checked + b.checked,
    racing: a.racing + b.racing,
    differing: a.differing + b.differing,
    notReady: a.notReady + b.notReady,
    seconds: a.seconds + b.seconds,
    objects: Math.max(a.objects, b.objects),
    bytes: Math.max(a.bytes, b.bytes),
    differences: [...a.differences, ...b.differences],
    entities: Object.fromEntries([...names].map((name) => [name, (a.entities[name] ?? 0) + (b.entities[name] ?? 0)])),
  };
}

export function render(report: VerifyRunReport): string {
  const { checked, racing, differing, notReady, seconds, objects, bytes, entities, differences } = report;
  const verdict = checked === 0 ? "there is none" : differing === 0 ? "nothing differs" : `${differing} differ`;
  const types = Object.entries(entities).map(([name, of]) => `${of} of ${name}`);
  const lines = [
    `${checked} entities compared${types.length === 0 ? "" : ` (${types.join(", ")})`} in ${seconds.toFixed(0)} s: ${verdict}`,
    `${racing} racing; ${notReady} values left out, not ready or older than the archive; ${objects} objects of the archive, ${(bytes / 1e6).toFixed(1)} MB`,
  ];
  if (differences.length > 0) lines.push("", formatTable([HEAD, ...differences.map(row)]));
  return `${lines.join("\n")}\n`;
}

const HEAD = ["entity", "id", "feature", "online", "archive", "as of", "newest event visible"];
const row = ({ entity, id, feature, online, offline, asOfMs, newestVisibleMs }: Difference): string[] => [
  ...[entity, id, feature, shown(online, offline), online === null ? "-" : shown(offline, online)],
  ...[time(asOfMs), newestVisibleMs === null ? "-" : time(newestVisibleMs)],
];
const time = (ms: number): string => new Date(ms).toISOString();
/** The value, and whatever else differs. */
function shown(value: FeatureValue | null, other: FeatureValue | null): string {
  if (value === null || other === null) return "cannot be read";
  const parts = [JSON.stringify(value.value)];
  if (value.status !== other.status) parts.push(value.status);
  if (value.eventTimeMs !== other.eventTimeMs)
    parts.push(value.eventTimeMs === null ? "no event" : `event of ${time(value.eventTimeMs)}`);
  return parts.join(" ");
}
