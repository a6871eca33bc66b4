import { afterAll, beforeAll } from "vitest";
import { ValkeyConnection } from "../../adapters/valkey/connection.ts";
import { OneEntity } from "./one-entity.ts";
import { startValkey, type TestValkey } from "./valkey.ts";

/** A Valkey of the test file that calls this, from its first test to its last. */
export function fileStore() {
  let valkey: TestValkey;
  let connection: ValkeyConnection;
  beforeAll(async () => {
    valkey = await startValkey();
    connection = new ValkeyConnection(valkey);
  });
  afterAll(async () => {
    await connection?.close();
    await valkey?.stop();
  });
  return {
    get valkey() {
      return valkey;
    },
    get connection() {
      return connection;
    },
    entity: (tenant: string) => new OneEntity(connection, valkey, tenant),
  };
}
