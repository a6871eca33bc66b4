import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { type Command, Option } from "commander";
import { FreshetError } from "../../core/errors.ts";
import { checkTenant } from "../../core/event.ts";
import type { Limit } from "../../core/token-bucket.ts";
import { checkLimit, createTenantStore, type Limits, type TenantStore } from "../../functions/api/admission/tenants.ts";
import { createKeyStore } from "../../functions/api/keys/key-store.ts";
import { SCOPES, type Scope } from "../../functions/api/keys/keys.ts";
import { number, whole } from "../arguments.ts";
import { ALL_TENANTS, withRecord } from "../audited.ts";
import { type OperatedDeployment, openDeployment, type StageOption, stageOption } from "../deployment.ts";
import { addExamples } from "../examples.ts";
import { formatTable } from "../table.ts";

interface Shown extends StageOption {
  readonly json?: boolean;
}
interface LimitOptions extends Shown {
  readonly class: Scope;
  readonly perSecond?: number;
  readonly burst?: number;
  readonly perDay?: number | null;
  readonly reset?: boolean;
}

type Work<T> = (store: TenantStore, deployment: OperatedDeployment, client: DynamoDBClient) => Promise<T>;

/** Under an audit record of the action, of whose limits they are, and of what they are for. */
async function withTenants<T>(
  options: StageOption,
  [action, tenant = ALL_TENANTS, target = "limits"]: readonly [action: string, tenant?: string, target?: string],
  work: Work<T>,
): Promise<T> {
  const deployment = await openDeployment(options);
  const client = new DynamoDBClient(deployment.clientConfig);
  try {
    const record = { tenant, action: `tenants.${action}`, target };
    const store = createTenantStore(client, deployment.keysTable);
    return await withRecord(deployment, action === "limits" ? "change" : "read", record, () =>
      work(store, deployment, client),
    );
  } finally {
    client.destroy();
  }
}

const print = (json: unknown, rows: string[][], asJson: boolean | undefined): void => {
  process.stdout.write(`${asJson ? JSON.stringify(json, null, 2) : formatTable(rows)}\n`);
};

/** What counts for a tenant, class by class. */
function effective(own: Limits, stage: Limits) {
  return SCOPES.map((name) => ({
    class: name,
    of: own[name] !== undefined ? "tenant" : stage[name] !== undefined ? "stage" : "nobody",
    limit: own[name] ?? stage[name] ?? null,
  }));
}

function printLimits(tenant: string, own: Limits, stage: Limits, asJson: boolean | undefined): void {
  const rows = effective(own, stage);
  print(
    { tenant, limits: rows.map(({ limit, ...rest }) => ({ ...rest, ...(limit && jsonOf(limit)) })) },
    [
      ["class", "per second", "burst", "per day", "of"],
      ...rows.map(({ class: name, limit, of }) => [
        name,
        `${limit?.perSecond ?? "unlimited"}`,
        `${limit?.burst ?? "unlimited"}`,
        `${limit?.perDay ?? "unlimited"}`,
        of,
      ]),
    ],
    asJson,
  );
}

const jsonOf = ({ perSecond, burst, perDay }: Limit) => ({ per_second: perSecond, burst, per_day: perDay });

/** What is asked for, for the audit record. */
function targetOf({ class: name, perSecond, burst, perDay, reset }: LimitOptions): string {
  const given = [
    ...(perSecond === undefined ? [] : [`${perSecond} per second`]),
    ...(burst === undefined ? [] : [`burst ${burst}`]),
    ...(perDay === undefined ? [] : [`${perDay ?? "no limit"} per day`]),
  ];
  return `limits of ${name}: ${reset ? "the stage's" : given.join(", ")}`;
}

/** @throws FreshetError `limit_invalid` */
function changed(own: Limits, stage: Limits, options: LimitOptions): Limits {
  const { [options.class]: before = stage[options.class], ...rest } = own;
  if (options.reset) return rest;
  const { perSecond, burst, perDay } = options;
  if (perSecond === undefined && burst === undefined && perDay === undefined) {
    throw new FreshetError("limit_invalid", "nothing to change was given", {
      repair: "give --per-second, --burst or --per-day, or --reset for the stage's limits",
    });
  }
  const given = { ...before, ...without({ perSecond, burst, perDay }) };
  return { ...rest, [options.class]: checkLimit(given, options.class) };
}

const without = (values: Record<string, unknown>) =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));

export function register(program: Command): void {
  const tenants = program.command("tenants").description("Tenants, and what each may ask for.");
  tenants
    .command("list")
    .description("Tenants that have a key or limits of their own.")
    .addOption(stageOption())
    .option("--json", "print as JSON")
    .action(async (options: Shown) => {
      const { records, keys } = await withTenants(options, ["list"], async (store, { keysTable }, client) => ({
        records: await store.list(),
        keys: await createKeyStore(client, keysTable).list(),
      }));
      const names = [...new Set([...records.map(({ name }) => name), ...keys.map(({ tenant }) => tenant)])].sort();
      const rows = names.map((tenant) => ({
        tenant,
        keys: keys.filter((key) => key.tenant === tenant).length,
        own_limits: Object.keys(records.find(({ name }) => name === tenant)?.limits ?? {}),
      }));
      print(
        rows,
        [
          ["tenant", "keys", "limits of its own"],
          ...rows.map((row) => [row.tenant, String(row.keys), row.own_limits.join(",") || "none"]),
        ],
        options.json,
      );
    });
  tenants
    .command("show <tenant>")
    .description("The limits that count for a tenant, and whose they are.")
    .addOption(stageOption())
    .option("--json", "print as JSON")
    .action(async (tenant: string, options: Shown) => {
      checkTenant(tenant);
      await withTenants(options, ["show", tenant], async (store, { limits }) =>
        printLimits(tenant, (await store.get(tenant))?.limits ?? {}, limits, options.json),
      );
    });
  tenants
    .command("limits <tenant>")
    .description("Give a tenant limits of its own for a class of calls. They count within 30 seconds.")
    .addOption(new Option("--class <name>", "which calls").choices(SCOPES).makeOptionMandatory())
    .option("--per-second <tokens>", "tokens that come back in a second", number(0.001, 1_000_000))
    .option("--burst <tokens>", "tokens of a full bucket", whole(1, 1_000_000_000))
    .option("--per-day <tokens>", "tokens of a UTC day, or `none`", (text) =>
      text === "none" ? null : whole(1, 1e15)(text),
    )
    .option("--reset", "the stage's limits again")
    .addOption(stageOption())
    .option("--json", "print as JSON")
    .action(async (tenant: string, options: LimitOptions) => {
      checkTenant(tenant);
      await withTenants(options, ["limits", tenant, targetOf(options)], async (store, { limits: stage }) => {
        const limits = changed((await store.get(tenant))?.limits ?? {}, stage, options);
        await store.put({ name: tenant, limits });
        printLimits(tenant, limits, stage, options.json);
      });
    });
  addExamples(tenants, [
    "freshet tenants list",
    "freshet tenants show team-a",
    "freshet tenants limits team-a --class score --per-second 500 --burst 1000 --per-day 2000000",
    "freshet tenants limits team-a --class score --reset",
  ]);
}
