import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { type Command, InvalidArgumentError } from "commander";
import { FreshetError } from "../../core/errors.ts";
import {
  DEFAULT_OVERLAP_MS,
  isLive,
  MAX_OVERLAP_MS,
  makeKey,
  revokeKey,
  rotateKey,
  scopesText,
} from "../../functions/api/keys/key-changes.ts";
import { createKeyStore } from "../../functions/api/keys/key-store.ts";
import { type KeyDescription, type KeyStore, type MadeKey, SCOPES } from "../../functions/api/keys/keys.ts";
import type { AuditKind } from "../../functions/shared/audited.ts";
import { holdsKey } from "../../functions/shared/hidden-keys.ts";
import { duration, number } from "../arguments.ts";
import { ALL_TENANTS, withRecord } from "../audited.ts";
import { openDeployment, type StageOption, stageOption } from "../deployment.ts";
import { addExamples } from "../examples.ts";
import { formatTable } from "../table.ts";

const DAY_MS = 86_400_000;

interface KeyOptions extends StageOption {
  readonly json?: boolean;
}
interface CreateOptions extends KeyOptions {
  readonly tenant: string;
  readonly scopes: string;
  readonly name: string;
  readonly days?: number;
}

/** @param tenantOf whose key it is, which for an id only the table knows */
async function withKeys<T>(
  options: StageOption,
  record: { kind: AuditKind; action: string; target: string; tenantOf: (store: KeyStore) => Promise<string> },
  work: (store: KeyStore) => Promise<T>,
  targetOf?: (result: T) => string,
): Promise<T> {
  const deployment = await openDeployment(options);
  const client = new DynamoDBClient(deployment.clientConfig);
  try {
    const store = createKeyStore(client, deployment.keysTable);
    const { kind, tenantOf, ...entry } = record;
    const tenant = await tenantOf(store);
    return await withRecord(deployment, kind, { ...entry, tenant }, () => work(store), targetOf);
  } finally {
    client.destroy();
  }
}

/** @throws FreshetError `key_given` for a whole key, which is not repeated */
function checkId(id: string): void {
  if (!holdsKey(id)) return;
  throw new FreshetError("key_given", "give the id of the key alone, the part between the underscores", {
    repair: "rotate this key: it is in the history of your shell now",
  });
}

const ownerOf = (id: string) => async (store: KeyStore) => (await store.get(id))?.tenant ?? ALL_TENANTS;
const isoDate = (ms: number | null): string => (ms === null ? "never" : new Date(ms).toISOString());
const print = (text: string): void => void process.stdout.write(`${text}\n`);
const keyJson = (key: KeyDescription) => ({
  id: key.id,
  tenant: key.tenant,
  name: key.name,
  scopes: [...key.scopes].sort(),
  created_at_ms: key.createdAtMs,
  expires_at_ms: key.expiresAtMs,
  rotated_from: key.rotatedFrom,
  rotated_to: key.rotatedTo,
});
const madeJson = ({ key, record }: MadeKey) => ({ key, ...keyJson(record) });

function stateOf(key: KeyDescription, nowMs: number): string {
  if (!isLive(key, nowMs)) return "expired";
  return key.rotatedTo === null ? "live" : `until ${isoDate(key.expiresAtMs)}, then ${key.rotatedTo}`;
}

export function register(program: Command): void {
  const keys = program.command("keys").description("Make, list, rotate and revoke API keys.");
  keys
    .command("create")
    .description("Make a key. It is shown once; the table holds a salted hash.")
    .requiredOption("--tenant <name>", "the team whose events, features and scores it reaches")
    .option("--scopes <list>", "comma-separated", SCOPES.filter((scope) => scope !== "admin").join(","))
    .option("--name <text>", "what it is for", "")
    .option("--days <number>", "days until it expires; never when left out", number(0.001, 36_500))
    .addOption(stageOption())
    .option("--json", "print the key and its record as JSON")
    .action(async (options: CreateOptions) => {
      const nowMs = Date.now();
      const { tenant, name } = options;
      const made = await withKeys(
        options,
        { kind: "change", action: "keys.create", target: "a new key", tenantOf: async () => tenant },
        (store) =>
          makeKey(store, {
            by: null,
            tenant,
            scopes: options.scopes.split(",").map((scope) => scope.trim()),
            name,
            expiresAtMs: options.days === undefined ? null : nowMs + Math.round(options.days * DAY_MS),
            nowMs,
          }),
        ({ record }) => `key ${record.id} with ${scopesText(record)}`,
      );
      print(options.json ? JSON.stringify(madeJson(made)) : made.key);
    });
  keys
    .command("list")
    .description("List the keys, never their secrets.")
    .option("--tenant <name>", "one team's; all when left out")
    .addOption(stageOption())
    .option("--json", "print as JSON")
    .action(async (options: KeyOptions & { tenant?: string }) => {
      const { tenant } = options;
      const found = await withKeys(
        options,
        { kind: "read", action: "keys.list", target: "keys", tenantOf: async () => tenant ?? ALL_TENANTS },
        (store) => (tenant === undefined ? store.list() : store.listOf(tenant)),
      );
      if (options.json) return print(JSON.stringify(found.map(keyJson), null, 2));
      const nowMs = Date.now();
      const rows = found.map((key) => [
        key.id,
        key.tenant,
        key.name,
        [...key.scopes].sort().join(","),
        isoDate(key.createdAtMs),
        isoDate(key.expiresAtMs),
        stateOf(key, nowMs),
      ]);
      return print(formatTable([["id", "tenant", "name", "scopes", "created", "expires", "state"], ...rows]));
    });
  keys
    .command("rotate <id>")
    .description("Make a key that takes over from another: same tenant, name and scopes, and as long a life.")
    .option(
      "--overlap <time>",
      "how long the old key stays good, as 12h, at most 30d; 0 ends it at once",
      overlap,
      DEFAULT_OVERLAP_MS,
    )
    .addOption(stageOption())
    .option("--json", "print the new key and both records as JSON")
    .action(async (id: string, options: KeyOptions & { overlap: number }) => {
      checkId(id);
      const made = await withKeys(
        options,
        { kind: "change", action: "keys.rotate", target: `key ${id}`, tenantOf: ownerOf(id) },
        (store) => rotateKey(store, id, { by: null, nowMs: Date.now(), overlapMs: options.overlap }),
        ({ record }) => `key ${id} to key ${record.id}`,
      );
      if (options.json) return print(JSON.stringify({ ...madeJson(made), replaces: keyJson(made.old) }));
      print(made.key);
      return void process.stderr.write(`key ${id} ends ${isoDate(made.old.expiresAtMs)}\n`);
    });
  keys
    .command("revoke <id>")
    .description("End a key at once. Servers that know it refuse it within 30 seconds.")
    .addOption(stageOption())
    .option("--json", "print as JSON")
    .action(async (id: string, options: KeyOptions) => {
      checkId(id);
      await withKeys(
        options,
        { kind: "urgent", action: "keys.revoke", target: `key ${id}`, tenantOf: ownerOf(id) },
        (store) => revokeKey(store, id, { by: null, nowMs: Date.now() }),
      );
      print(
        options.json ? JSON.stringify({ id, revoked: true }) : `key ${id} is revoked; servers refuse it within 30 s`,
      );
    });
  addExamples(keys, [
    "freshet keys create --tenant team-a --scopes read,score --days 90 --name checkout",
    "freshet keys list --tenant team-a",
    "freshet keys rotate 3f9x0k2m7q1z --overlap 12h",
    "freshet keys revoke 3f9x0k2m7q1z",
    "AWS_PROFILE=prod AWS_REGION=eu-west-1 freshet keys list --stage prod",
  ]);
}

function overlap(text: string): number {
  const ms = text === "0" ? 0 : duration(text);
  if (ms <= MAX_OVERLAP_MS) return ms;
  throw new InvalidArgumentError("Give at most 30d: a longer overlap is no rotation.");
}
