import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { type Command, Option } from "commander";
import { EventCodec } from "../../adapters/avro/event-codec.ts";
import {
  QUARANTINE_STATUSES,
  type QuarantineFilter,
  QuarantineIndex,
  type QuarantineItem,
  quarantineJson,
  WAITING,
} from "../../adapters/quarantine/quarantine-index.ts";
import { s3Client } from "../../adapters/s3/client.ts";
import { FreshetError } from "../../core/errors.ts";
import { plan } from "../../features/plan.ts";
import type { ReplayEvent } from "../../functions/replay.ts";
import type { QuarantineChangeReport } from "../../functions/shared/replay/quarantine-change.ts";
import { groupJson, quarantineGroups } from "../../functions/shared/replay/quarantine-groups.ts";
import { interruptible } from "../../local/interrupt.ts";
import { time, whole } from "../arguments.ts";
import { ALL_TENANTS, withRecord } from "../audited.ts";
import { type OperatedDeployment, openDeployment, type StageOption, stageOption } from "../deployment.ts";
import { addExamples } from "../examples.ts";
import { EXIT } from "../exit.ts";
import { openFunctions } from "../invoke.ts";
import { progressBar } from "../progress.ts";
import { formatTable } from "../table.ts";

interface Selection extends StageOption {
  readonly tenant?: string;
  readonly unattributed?: boolean;
  readonly stream?: string;
  readonly reason?: string;
  readonly field?: string;
  readonly since?: number;
  readonly json?: boolean;
}
interface ListOptions extends Selection {
  readonly status?: (typeof QUARANTINE_STATUSES)[number] | "all";
  readonly records?: boolean;
  readonly limit: number;
}
interface ChangeOptions extends Selection {
  readonly id?: string[];
  readonly all?: boolean;
}

/** Of one call: long enough to be worth it, short enough to be told of. */
const BUDGET_MS = 20_000;

const print = (text: string): void => void process.stdout.write(`${text}\n`);
const recordJson = (item: QuarantineItem) => ({ tenant: item.tenant, ...quarantineJson(item) });
const iso = (ms: number): string => new Date(ms).toISOString();

const selecting = (command: Command): Command =>
  command
    .option("--tenant <name>", "one team's records; all when left out")
    .addOption(new Option("--unattributed", "records that no tenant answers for").conflicts("tenant"))
    .option("--stream <name>", "of one stream")
    .option("--reason <code>", "of one reason, as schema_unknown")
    .option("--field <name>", "of one first bad field")
    .option("--since <time>", "that arrived since, as 2026-11-21T10:00:00Z or 6h", time)
    .addOption(stageOption())
    .option("--json", "print as JSON");

export function register(program: Command): void {
  const quarantine = program
    .command("quarantine")
    .description("Look at refused records; deliver them again or give them up.");
  selecting(quarantine.command("list").description("Count what was refused, by reason and first bad field."))
    .addOption(new Option("--status <name>", "those that wait when left out").choices([...QUARANTINE_STATUSES, "all"]))
    .option("--records", "list the records instead, without their payloads")
    .option("--limit <number>", "records at most", whole(1, 10_000), 100)
    .action(list);
  quarantine
    .command("show <id>")
    .description("Show one record with its payload.")
    .option("--tenant <name>", "whose it is, which finds it sooner")
    .addOption(stageOption())
    .option("--json", "print as JSON")
    .action(show);
  for (const [kind, description] of [
    ["replay", "Deliver records again, by today's contracts, with the arrivals that they had."],
    ["drop", "Give records up: they wait no more. Their bytes stay in the bucket."],
  ] as const) {
    selecting(quarantine.command(kind).description(description))
      .option("--id <id...>", "single records")
      .option("--all", "everything that waits")
      .addHelpText("after", "\nSafe to run twice, and to end anywhere: run it again, and it goes on.")
      .action((options: ChangeOptions) => change(kind, options));
  }
  addExamples(quarantine, [
    "freshet quarantine list",
    "freshet quarantine list --records --reason schema_unknown --since 6h",
    "freshet quarantine show 3f9c…",
    "freshet quarantine replay --stream transactions --reason schema_unknown",
    "AWS_PROFILE=prod AWS_REGION=eu-west-1 freshet quarantine drop --id 3f9c… --stage prod",
  ]);
}

/** @throws FreshetError `stream_unknown` */
function filterOf({
  tenant,
  unattributed,
  stream,
  reason,
  field,
  since,
}: Selection): Omit<QuarantineFilter, "statuses"> {
  const streams = plan.streams.map(({ name }) => name);
  if (stream !== undefined && !streams.includes(stream)) {
    throw new FreshetError("stream_unknown", `the plan has no stream ${stream}`, {
      field: "stream",
      repair: `use ${streams.join(", ")}`,
    });
  }
  return {
    tenant: unattributed ? null : tenant,
    streams: stream === undefined ? streams : [stream],
    reason,
    field,
    sinceMs: since,
  };
}

async function withIndex<T>(deployment: OperatedDeployment, work: (index: QuarantineIndex) => Promise<T>): Promise<T> {
  const { clientConfig, quarantineBucket: bucket, quarantineTable: table } = deployment;
  const dynamodb = new DynamoDBClient(clientConfig);
  const s3 = s3Client(clientConfig);
  try {
    return await work(new QuarantineIndex({ bucket, table, s3, dynamodb }));
  } finally {
    dynamodb.destroy();
    s3.destroy();
  }
}

async function list(options: ListOptions): Promise<void> {
  const { status, records, limit, json } = options;
  const statuses = status === undefined ? WAITING : status === "all" ? QUARANTINE_STATUSES : [status];
  const filter = { ...filterOf(options), statuses };
  const deployment = await openDeployment(options);
  const record = { tenant: options.tenant ?? ALL_TENANTS, action: "quarantine.list", target: "quarantine" };
  await withRecord(deployment, "read", record, () =>
    withIndex(deployment, async (index) => {
      if (records) return printRecords(await someOf(index, filter, limit), json);
      const { groups, complete } = await quarantineGroups(index, filter);
      if (json) return print(JSON.stringify({ groups: groups.map(groupJson), complete }, null, 2));
      if (groups.length === 0) return print(nothingIn(options));
      const rows = groups.map((group) => [
        ...[group.stream, group.reason, group.field ?? "", group.status, group.count],
        ...[iso(group.firstMs), iso(group.lastMs), group.sampleId],
      ]);
      print(formatTable([["stream", "reason", "field", "status", "records", "first", "last", "sample"], ...rows]));
      if (!complete) print("there are more: counts are of those that were looked at");
    }),
  );
}

/** "Nothing" may be a selector that is misspelt: what was asked for is said. */
function nothingIn({ status, tenant, unattributed, stream, reason, field, since }: ListOptions): string {
  const selectors = { tenant, stream, reason, field, since: since === undefined ? undefined : iso(since) };
  const of = Object.entries(selectors).flatMap(([name, value]) => (value === undefined ? [] : [`${name} ${value}`]));
  const said = [...of, ...(unattributed ? ["no tenant"] : [])].join(", ");
  const what = status === undefined ? "nothing waits in the quarantine" : `the quarantine has nothing (${status})`;
  return said === "" ? what : `${what} of ${said}`;
}

async function someOf(index: QuarantineIndex, filter: QuarantineFilter, limit: number): Promise<QuarantineItem[]> {
  const found: QuarantineItem[] = [];
  let after: string | null = null;
  do {
    const page: Awaited<ReturnType<QuarantineIndex["page"]>> = await index.page(filter, after);
    found.push(...page.items);
    after = page.next;
  } while (after !== null && found.length < limit);
  return found.slice(0, limit);
}

function printRecords(found: readonly QuarantineItem[], json: boolean | undefined): void {
  if (json) {
    print(JSON.stringify(found.map(recordJson), null, 2));
    return;
  }
  const rows = found.map(({ id, tenant, stream, status, reason, field, arrivalMs, size }) => [
    ...[id, tenant ?? "(none)", stream, status, reason, field ?? "", iso(arrivalMs), size],
  ]);
  print(formatTable([["id", "tenant", "stream", "status", "reason", "field", "arrived", "bytes"], ...rows]));
}

async function show(id: string, options: StageOption & { tenant?: string; json?: boolean }): Promise<void> {
  const deployment = await openDeployment(options);
  const record = {
    tenant: options.tenant ?? ALL_TENANTS,
    action: "quarantine.show",
    target: `record ${id.slice(0, 40)}`,
  };
  await withRecord(deployment, "read", record, () =>
    withIndex(deployment, async (index) => {
      const item = await find(index, id, options.tenant);
      const bytes = (await index.bytes([item])).get(id) ?? null;
      const stream = plan.streams.find(({ name }) => name === item.stream);
      const event = bytes === null || stream === undefined ? null : decoded(stream.contract, bytes);
      if (options.json)
        return print(
          JSON.stringify({ ...recordJson(item), payload: bytes?.toString("base64") ?? null, event }, null, 2),
        );
      const { objectKey, objectLine, arrivalMs, changedMs, ...rest } = item;
      const told = { ...rest, arrived: iso(arrivalMs), changed: changedMs === null ? null : iso(changedMs) };
      print(formatTable(Object.entries(told).map(([name, value]) => [name, value === null ? "" : String(value)])));
      print(`  in ${objectKey}, line ${objectLine + 1}`);
      if (bytes === null) print("  its bytes are gone");
      else if (event === null) print(`  cannot be read by today's contract; base64:\n${bytes.toString("base64")}`);
      else print(JSON.stringify(event, null, 2));
    }),
  );
}

function decoded(contract: string, bytes: Buffer): object | null {
  try {
    return EventCodec.for(contract).decode(bytes).fields;
  } catch {
    return null;
  }
}

/** @throws FreshetError `record_unknown` */
async function find(index: QuarantineIndex, id: string, tenant: string | undefined): Promise<QuarantineItem> {
  const streams = plan.streams.map(({ name }) => name);
  const known = /^[0-9a-f]{32}$/.test(id) ? await index.get(tenant ?? null, streams, id) : null;
  if (known !== null) return known;
  let after: string | null = null;
  do {
    if (tenant !== undefined) break;
    const page: Awaited<ReturnType<QuarantineIndex["page"]>> = await index.page(
      { streams, statuses: QUARANTINE_STATUSES },
      after,
    );
    const item = page.items.find((one) => one.id === id);
    if (item !== undefined) return item;
    after = page.next;
  } while (after !== null);
  throw new FreshetError("record_unknown", `no record of the quarantine has the id ${id}`, {
    repair: "`freshet quarantine list --records --status all` lists them",
  });
}

async function change(kind: "replay" | "drop", options: ChangeOptions): Promise<void> {
  const { id: ids, all, json } = options;
  const filter = filterOf(options);
  const said = [
    options.tenant,
    options.unattributed,
    options.stream,
    options.reason,
    options.field,
    options.since,
    ids,
    all,
  ];
  if (said.every((one) => one === undefined)) {
    throw new FreshetError("option_missing", "which records are meant is not said", {
      repair: "give one or more of --stream, --reason, --field, --since, --tenant and --id; or --all",
    });
  }
  const deployment = await openDeployment(options);
  const waiting = await withIndex(deployment, async (index) => {
    const { groups } = await quarantineGroups(index, { ...filter, statuses: WAITING });
    return groups.reduce((sum, { count }) => sum + count, 0);
  });
  const total = ids === undefined ? waiting : Math.min(ids.length, waiting);
  const functions = openFunctions(deployment);
  const bar = json ? null : progressBar();
  const change = { kind, filter, ids, beganMs: Date.now() };
  const event = { kind: "quarantine", change, budgetMs: BUDGET_MS } satisfies ReplayEvent;
  const sum = { replayed: 0, stillRefused: 0, dropped: 0, unreadable: 0, applied: 0, duplicates: 0, late: 0 };
  const record = { tenant: options.tenant ?? ALL_TENANTS, action: `quarantine.${kind}`, target: "quarantine" };
  try {
    await withRecord(deployment, "change", record, () =>
      interruptible(async (signal) => {
        for (let state = "more"; state === "more"; ) {
          signal.throwIfAborted();
          const report = await functions.invoke<QuarantineChangeReport>(deployment.replayFunction, event);
          state = report.state;
          for (const name of Object.keys(sum) as (keyof typeof sum)[]) sum[name] += report[name];
          const done = sum.replayed + sum.stillRefused + sum.dropped;
          bar?.show(total === 0 ? 1 : Math.min(1, done / total), `${done} of about ${total} records`);
        }
      }),
    );
  } finally {
    bar?.end();
    functions.close();
  }
  if (json) {
    const { stillRefused, ...counts } = sum;
    print(JSON.stringify({ ...counts, still_refused: stillRefused }));
  } else if (kind === "drop") print(`${sum.dropped} records dropped`);
  else {
    print(
      `${sum.replayed} records replayed: ${sum.applied} events counted, ${sum.duplicates} had been, ${sum.late} wait for repair`,
    );
    if (sum.stillRefused > 0)
      print(`${sum.stillRefused} are refused still: freshet quarantine list --status still_refused`);
  }
  const met = sum.replayed + sum.stillRefused + sum.dropped + sum.unreadable;
  if (ids !== undefined && met < ids.length && !json)
    print(`${ids.length - met} of the ids given wait no more, or are no record's: freshet quarantine show <id>`);
  if (sum.unreadable > 0) {
    process.stderr.write(
      `freshet: the bytes of ${sum.unreadable} records are gone or altered; they stay as they are\n`,
    );
    process.exitCode = EXIT.failed;
  }
}
