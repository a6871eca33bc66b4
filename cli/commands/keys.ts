import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import type { Command } from "commander";
import { FreshetError } from "../../core/errors.ts";
import { createKey, createKeyStore, type KeyStore, SCOPES } from "../../functions/api/keys.ts";
import { ENVIRONMENT } from "../../functions/shared/environment.ts";
import { clientConfig } from "../../local/deploy.ts";
import { freshetHome } from "../../local/home.ts";
import { requireRunning } from "../running.ts";
import { formatTable } from "../table.ts";

const DAY_MS = 86_400_000;

async function withKeys<T>(work: (store: KeyStore) => Promise<T>): Promise<T> {
  const { ports, deployment } = requireRunning(freshetHome());
  const client = new DynamoDBClient(clientConfig(ports.emulator));
  try {
    return await work(createKeyStore(client, deployment.environment[ENVIRONMENT.keysTable]));
  } finally {
    client.destroy();
  }
}

const isoDate = (ms: number | null): string => (ms === null ? "never" : new Date(ms).toISOString());

export function register(program: Command): void {
  const keys = program.command("keys").description("Make, list and delete API keys.");
  keys
    .command("create")
    .description("Make a key. It is shown once; the table holds a salted hash.")
    .requiredOption("--tenant <name>", "the team whose events, features and scores it reaches")
    .option("--scopes <list>", "comma-separated", SCOPES.filter((scope) => scope !== "admin").join(","))
    .option("--name <text>", "what it is for", "")
    .option("--days <number>", "days until it expires; never when left out", Number)
    .option("--json", "print the key and its record as JSON")
    .action(async (options: { tenant: string; scopes: string; name: string; days?: number; json?: boolean }) => {
      if (options.days !== undefined && !(options.days > 0)) {
        throw new FreshetError("days_invalid", `--days takes a number above 0, given ${options.days}`, {
          repair: "use --days 90, or leave it out for a key that does not expire",
        });
      }
      const nowMs = Date.now();
      const { key, record } = await withKeys((store) =>
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
    .option("--json", "print as JSON")
    .action(async (options: { json?: boolean }) => {
      const records = await withKeys((store) => store.list());
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
    .action(async (id: string) => {
      if (await withKeys((store) => store.remove(id))) return;
      throw new FreshetError("key_unknown", `there is no key ${id}`, { repair: "freshet keys list shows the ids" });
    });
}
