import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import type { Command } from "commander";
import { FreshetError } from "../../core/errors.ts";
import { createKey, createKeyStore, type KeyStore, SCOPES } from "../../functions/api/keys.ts";
import { number } from "../arguments.ts";
import { openDeployment, type StageOption, stageOption } from "../deployment.ts";
import { formatTable } from "../table.ts";

const DAY_MS = 86_400_000;

interface CreateOptions extends StageOption {
  readonly tenant: string;
  readonly scopes: string;
  readonly name: string;
  readonly days?: number;
  readonly json?: boolean;
}

async function withKeys<T>(options: StageOption, work: (store: KeyStore) => Promise<T>): Promise<T> {
  const { clientConfig, keysTable } = await openDeployment(options);
  const client = new DynamoDBClient(clientConfig);
  try {
    return await work(createKeyStore(client, keysTable));
  } finally {
    client.destroy();
  }
}

const isoDate = (ms: number | null): string => (ms === null ? "never" : new Date(ms).toISOString());

export function register(program: Command): void {
  const keys = program.command("keys").description("Make, list and delete API keys.");
  keys.addHelpText(
    "after",
    "\nExamples:\n  freshet keys create --tenant team-a --scopes read,score --days 90" +
      "\n  AWS_PROFILE=prod AWS_REGION=eu-west-1 freshet keys list --stage prod",
  );
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
      const { key, record } = await withKeys(options, (store) =>
        createKey(store, {
          tenant: options.tenant,
          scopes: options.scopes.split(",").map((scope) => scope.trim()),
          name: options.name,
          expiresAtMs: options.days === undefined ? null : nowMs + Math.round(options.days * DAY_MS),
          nowMs,
        }),
      );
      const { id, tenant, scopes, expiresAtMs } = record;
      process.stdout.write(
        options.json ? `${JSON.stringify({ key, id, tenant, scopes, expires_at_ms: expiresAtMs })}\n` : `${key}\n`,
      );
    });
  keys
    .command("list")
    .description("List the keys, never their secrets.")
    .addOption(stageOption())
    .option("--json", "print as JSON")
    .action(async (options: StageOption & { json?: boolean }) => {
      const records = await withKeys(options, (store) => store.list());
      const rows = records.map(({ id, tenant, name, scopes, createdAtMs, expiresAtMs }) => ({
        id,
        tenant,
        name,
        scopes,
        created_at_ms: createdAtMs,
        expires_at_ms: expiresAtMs,
      }));
      process.stdout.write(
        options.json
          ? `${JSON.stringify(rows, null, 2)}\n`
          : `${formatTable([
              ["id", "tenant", "name", "scopes", "created", "expires"],
              ...rows.map((row) => [
                row.id,
                row.tenant,
                row.name,
                [...row.scopes].sort().join(","),
                isoDate(row.created_at_ms),
                isoDate(row.expires_at_ms),
              ]),
            ])}\n`,
      );
    });
  keys
    .command("delete <id>")
    .description("Delete a key by its id. Servers forget it within 30 seconds.")
    .addOption(stageOption())
    .action(async (id: string, options: StageOption) => {
      if (await withKeys(options, (store) => store.remove(id))) return;
      throw new FreshetError("key_unknown", `there is no key ${id}`, { repair: "freshet keys list shows the ids" });
    });
}
