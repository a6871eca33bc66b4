import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { createKeyStore } from "../functions/api/keys/key-store.ts";
import { createKey, SCOPES } from "../functions/api/keys/keys.ts";
import { ENVIRONMENT } from "../functions/shared/environment.ts";
import { clientConfig } from "./deploy.ts";

/**
 * The key of tenant `default` with every scope: the recorded one if the table still knows it, else a new one.
 * @param environment variables of the deployed API
 */
export async function ensureDevelopmentKey(
  emulatorPort: number,
  environment: Readonly<Record<string, string>>,
  recorded: string | undefined,
): Promise<string> {
  const client = new DynamoDBClient(clientConfig(emulatorPort));
  try {
    const store = createKeyStore(client, environment[ENVIRONMENT.keysTable]);
    const id = recorded?.split("_")[1];
    if (recorded !== undefined && id !== undefined && (await store.get(id)) !== null) return recorded;
    const { key } = await createKey(store, {
      tenant: "default",
      scopes: SCOPES,
      name: "development",
      nowMs: Date.now(),
    });
    return key;
  } finally {
    client.destroy();
  }
}
