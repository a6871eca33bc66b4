import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { type Command, Option } from "commander";
import { DURABLE_CLIENT } from "../../adapters/aws/durable-call.ts";
import { type Erasure, Erasures, proofOf } from "../../adapters/erasure/erasures.ts";
import { FreshetError } from "../../core/errors.ts";
import { checkTenant, KEY_LIMIT } from "../../core/event.ts";
import { plan } from "../../features/plan.ts";
import type { EraseEvent } from "../../functions/erase.ts";
import { erasureJson, MAX_SUBJECTS, newErasure } from "../../functions/shared/erasure/erasure-request.ts";
import { interruptible } from "../../local/interrupt.ts";
import { whole } from "../arguments.ts";
import { operator, withRecord } from "../audited.ts";
import { type OperatedDeployment, openDeployment, type StageOption, stageOption } from "../deployment.ts";
import { openFunctions } from "../invoke.ts";
import { formatTable } from "../table.ts";

interface Options extends StageOption {
  readonly entity?: string;
  readonly id?: readonly string[];
  readonly tenant: string;
  readonly block?: boolean;
  readonly wait?: boolean;
  readonly status?: string;
  readonly list?: boolean;
  readonly limit: number;
  readonly json?: boolean;
}

/** Of one call of the function: its answer has to reach us over one connection. */
const BUDGET_MS = 4 * 60_000;
const LOOK_MS = 2_000;

export function register(program: Command): void {
  program
    .command("erase")
    .description("Remove a person, or any other entity, from everything that Freshet holds.")
    .addOption(new Option("--entity <type>", "whose ids they are, as card"))
    .addOption(new Option("--id <id...>", "who is erased; several are done in one look through the archive"))
    .option("--tenant <name>", "whose entities", "default")
    .option("--block", "refuse what happens later too, for ever")
    .option("--wait", "until a second look has found nothing: about twenty minutes")
    .addOption(
      new Option("--status <erasure>", "tell of an erasure instead; with --entity and --id, whether it was of these"),
    )
    .addOption(new Option("--list", "list the tenant's erasures instead, newest first").conflicts("status"))
    .option("--limit <number>", "how many to list", whole(1, 1_000), 100)
    .addOption(stageOption())
    .option("--json", "print as JSON")
    .addHelpText(
      "after",
      `
The online store forgets within seconds; snapshots, the archive, pushed values, logs and the quarantine are looked through
and rewritten by a function, which goes on by itself. What other entities were given by the same events stays theirs.
What happened before cannot come back; what happens later counts. See docs/erasure.md.

Examples:
  freshet erase --entity card --id c1 --wait
  freshet erase --entity user --id u1 u2 --tenant team-a --stage prod
  freshet erase --status mh3x0k2m-5f3a… --entity card --id c1`,
    )
    .action(run);
}

async function run(options: Options): Promise<void> {
  checkTenant(options.tenant);
  const subjects = subjectsOf(options);
  const deployment = await openDeployment(options);
  const dynamodb = new DynamoDBClient({ ...DURABLE_CLIENT, ...deployment.clientConfig });
  const erasures = new Erasures({ table: deployment.erasuresTable, dynamodb });
  try {
    if (options.list) await list(options, deployment, erasures);
    else if (options.status !== undefined) await status(options, deployment, erasures, subjects);
    else await erase(options, deployment, erasures, subjects);
  } finally {
    dynamodb.destroy();
  }
}

/** @throws FreshetError `option_missing`, `entity_unknown`, `key_invalid`, `too_many_rows` */
function subjectsOf({ entity, id = [], status, list }: Options): { entity: string; id: string }[] {
  if (entity === undefined || id.length === 0) {
    if ((status !== undefined || list) && entity === undefined && id.length === 0) return [];
    throw new FreshetError("option_missing", "who is meant is not said", { repair: "give --entity and --id" });
  }
  const names = plan.entities.map(({ name }) => name);
  if (!names.includes(entity)) {
    const repair = `use ${names.join(", ")}`;
    throw new FreshetError("entity_unknown", `the plan has no entity ${entity}`, { field: "entity", repair });
  }
  const odd = id.find((one) => one === "" || one.length > KEY_LIMIT);
  if (odd !== undefined) {
    throw new FreshetError("key_invalid", `an id has 1 to ${KEY_LIMIT} characters, given ${odd.length}`, {
      field: "id",
      repair: "give ids as events have them",
    });
  }
  if (id.length > MAX_SUBJECTS) {
    throw new FreshetError("too_many_rows", `at most ${MAX_SUBJECTS} ids are erased at once, given ${id.length}`, {
      repair: "run it several times",
    });
  }
  return [...new Set(id)].map((one) => ({ entity, id: one }));
}

async function erase(
  options: Options,
  deployment: OperatedDeployment,
  erasures: Erasures,
  subjects: readonly { readonly entity: string; readonly id: string }[],
): Promise<void> {
  const { tenant, block = false, wait, json } = options;
  const request = { tenant, subjects, block, by: operator() };
  const erasure = newErasure(plan, request, Date.now(), randomBytes(6).toString("hex"));
  const target = `erasure ${erasure.id} of ${subjects.length}`;
  await withRecord(deployment, "change", { tenant, action: "erasures.create", target }, () => erasures.create(erasure));
  const functions = openFunctions(deployment);
  try {
    const again: EraseEvent = { kind: "due", budgetMs: BUDGET_MS };
    if (!json) process.stderr.write(`  erasure ${erasure.id}\n`);
    let failure = "";
    // The table wakes the function, too: this call tells when it has got somewhere, and one that fails undoes nothing.
    const getOn = () =>
      functions.invoke(deployment.eraseFunction, again).catch(({ message }: Error) => {
        if (message !== failure && !json)
          process.stderr.write(`  ${message}\n  it is taken up again within five minutes; nothing is to be repeated\n`);
        failure = message;
      });
    await getOn();
    const current = async () => (await erasures.get(tenant, erasure.id)) ?? erasure;
    if (wait) {
      await interruptible(async (signal) => {
        for (let told = ""; ; await sleep(LOOK_MS, undefined, { signal })) {
          const record = await current();
          if (record.confirmedMs !== null) return;
          const words = wordsOf(record);
          if (words !== told && !json) process.stderr.write(`  ${words}\n`);
          told = words;
          if ((record.waitUntilMs ?? 0) <= Date.now()) await getOn();
        }
      });
    }
    show(options, await current());
  } finally {
    functions.close();
  }
}

async function status(
  options: Options,
  deployment: OperatedDeployment,
  erasures: Erasures,
  subjects: readonly { readonly entity: string; readonly id: string }[],
): Promise<void> {
  const { tenant, status: id = "" } = options;
  const record = { tenant, action: "erasures.show", target: `erasure ${id}` };
  const found = await withRecord(deployment, "read", record, () => erasures.get(tenant, id));
  if (found === null) {
    throw new FreshetError("erasure_unknown", `the tenant ${tenant} has no erasure ${id}`, {
      repair: "`freshet erase --list` has them",
    });
  }
  const others = subjects.filter((subject) => !found.hashes.includes(proofOf(found.salt, tenant, subject)));
  if (others.length > 0) {
    throw new FreshetError("erasure_of_others", `erasure ${id} is not of ${others.length} of the ids given`, {
      repair: "give the ids that were erased, as events have them",
    });
  }
  show(options, found);
}

async function list(options: Options, deployment: OperatedDeployment, erasures: Erasures): Promise<void> {
  const { tenant, limit, json } = options;
  const record = { tenant, action: "erasures.list", target: "erasures" };
  const found = await withRecord(deployment, "read", record, () => erasures.list(tenant, limit));
  if (json) {
    process.stdout.write(`${JSON.stringify(found.map(erasureJson), null, 2)}\n`);
    return;
  }
  const rows = found.map((one) => [
    one.id,
    new Date(one.requestedMs).toISOString(),
    one.requestedBy,
    String(one.hashes.length),
    wordsOf(one),
  ]);
  process.stdout.write(`${formatTable([["id", "requested", "by", "entities", "state"], ...rows])}\n`);
}

function wordsOf({ state, step, round, waitUntilMs, block, error }: Erasure): string {
  const failed = error === null ? "" : `; ${error.code}, it is tried again`;
  const until = waitUntilMs === null ? "" : new Date(waitUntilMs).toISOString();
  switch (state) {
    case "running":
      return `${round === 1 ? "looking" : "looking again"}: ${step ?? "about to begin"}${failed}`;
    case "confirming":
      return `taken out; looks again after ${until}${failed}`;
    case "guarding":
      return block ? "found nowhere; blocked for ever" : `found nowhere; refused until ${until}`;
    default:
      return "done";
  }
}

function show({ json }: Options, erasure: Erasure): void {
  if (json) {
    process.stdout.write(`${JSON.stringify(erasureJson(erasure), null, 2)}\n`);
    return;
  }
  const looks = erasure.looks.map(({ step, round, looked, rewritten, rows, unreadable }) =>
    [round, step, looked, rewritten, rows, unreadable.length].map(String),
  );
  const lines = [
    `erasure ${erasure.id} of ${erasure.hashes.length}: ${wordsOf(erasure)}`,
    ...(looks.length === 0
      ? []
      : [formatTable([["round", "step", "looked", "held it", "rows", "unreadable"], ...looks])]),
    ...erasure.affected.map((feature) => `counts one fewer in what is built again: ${feature}`),
    ...erasure.holding.map((file) => `holds it, and is yours: ${file}`),
    ...erasure.looks.flatMap(({ unreadable }) => unreadable.map((key) => `could not be read: ${key}`)),
  ];
  process.stdout.write(`${lines.join("\n")}\n`);
}
