/**
 * The deployed app that all system tests share. Tests keep apart by tenant (`createTenant`) and by fresh ids; one that
 * kills a part starts it again before it ends.
 */
import { randomBytes } from "node:crypto";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { inject } from "vitest";
import { createKeyStore } from "../../functions/api/keys/key-store.ts";
import { createKey, SCOPES, type Scope } from "../../functions/api/keys/keys.ts";
import { ENVIRONMENT } from "../../functions/shared/environment.ts";
import { clientConfig } from "../../local/deploy.ts";
import { type PartName, startPart, stopPart } from "../../local/parts.ts";
import { readRecord } from "../../local/processes.ts";
import { type LaptopPorts, readState } from "../../local/state.ts";

/** As `freshet status --json`. */
export interface DeployedStatus {
  readonly home: string;
  /** Behind the emulator's API Gateway; the key is of tenant `default` with every scope. */
  readonly api: { readonly url: string; readonly key: string };
  /** The same router as a plain server. */
  readonly serve: { readonly url: string };
  readonly emulator: { readonly url: string };
  readonly valkey: { readonly url: string };
  /** Stream name in the plan to name of the Kinesis stream. */
  readonly streams: Readonly<Record<string, string>>;
  /** Variables of the API functions: names of tables, buckets and so on. */
  readonly environment: Readonly<Record<string, string>>;
}

export function deployed(): DeployedStatus {
  return inject("deployed");
}

/** Settings for an AWS SDK client of the emulator. */
export function deployedClientConfig(): ReturnType<typeof clientConfig> {
  return clientConfig(ports().emulator);
}

/** A tenant that no other test has, with a key. */
export async function createTenant(scopes: readonly Scope[] = SCOPES): Promise<{ tenant: string; key: string }> {
  const tenant = `t${randomBytes(5).toString("hex")}`;
  return { tenant, key: await createTenantKey(tenant, scopes) };
}

export async function createTenantKey(tenant: string, scopes: readonly Scope[] = SCOPES): Promise<string> {
  const client = new DynamoDBClient(deployedClientConfig());
  try {
    const store = createKeyStore(client, deployed().environment[ENVIRONMENT.keysTable]);
    return (await createKey(store, { tenant, scopes, nowMs: Date.now() })).key;
  } finally {
    client.destroy();
  }
}

/** Kills a part's own process for real. Workers of a killed emulator are ended by the next `startDeployedPart`. */
export function killDeployedPart(name: PartName): void {
  const record = readRecord(deployed().home, name);
  if (record === null) throw new Error(`${name} is not running`);
  process.kill(record.pid, "SIGKILL");
}

/** Ends a part as `freshet down` does: SIGTERM, with time to save its state. */
export async function stopDeployedPart(name: PartName): Promise<void> {
  await stopPart(deployed().home, name);
}

/** Starts a part again, on its port, with its state. */
export async function startDeployedPart(name: PartName): Promise<void> {
  const { home } = deployed();
  await startPart(home, name, ports(), { deployment: readState(home).deployment });
}

function ports(): LaptopPorts {
  const chosen = readState(deployed().home).ports;
  const { valkey, emulator, serve } = chosen;
  if (valkey === undefined || emulator === undefined || serve === undefined) throw new Error("no ports are chosen");
  return { ...chosen, valkey, emulator, serve };
}
