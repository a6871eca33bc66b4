/**
 * The server that is measured, in a process of its own: the product's API exactly as `freshet serve` runs it (its router, its
 * reader, its key check) over the benchmark's plan, or the bare baseline. Tells its own CPU over its channel.
 */
import { createReader } from "../adapters/valkey/reader.ts";
import type { ApiDependencies } from "../functions/api/app.ts";
import { createKey, type KeyRecord, type KeyStore } from "../functions/api/keys.ts";
import { listen } from "../functions/api/server.ts";
import { LOOPBACK } from "../local/ports.ts";
import { listenBare } from "./bare-server.ts";
import { fraud, servingPlan } from "./definitions.ts";
import { ownCpuUs } from "./meters.ts";

export type ServeOrder =
  | { readonly listen: "freshet" | "bare"; readonly valkeyPort: number }
  | { readonly usage: true };
export interface Serving {
  readonly port: number;
  readonly key: string;
}

process.on("disconnect", () => process.exit());
process.on("message", (order: ServeOrder) => {
  answer(order).then(
    (result) => process.send!({ result }),
    (error: unknown) => process.send!({ failed: String(error) }),
  );
});

async function answer(order: ServeOrder): Promise<Serving | number> {
  if ("usage" in order) return ownCpuUs();
  if (order.listen === "bare") return { port: await listenBare(order.valkeyPort), key: "" };
  const keys = keysInMemory();
  const { key } = await createKey(keys, { tenant: "default", scopes: ["read", "score"], nowMs: Date.now() });
  const { url } = await listen({ port: 0, dependencies: dependencies(order.valkeyPort, keys) });
  return { port: Number(new URL(url).port), key };
}

const dependencies = (valkeyPort: number, keys: KeyStore): ApiDependencies => ({
  plan: servingPlan,
  services: [fraud],
  keys,
  scoring: null,
  ingest: null,
  reader: createReader(servingPlan, { host: LOOPBACK, port: valkeyPort }),
  clock: Date.now,
  log: (message, details, error) => process.stderr.write(`${message} ${JSON.stringify(details)} ${String(error)}\n`),
  version: "bench",
});

/** Stands in for the table of keys, which a request reads every 30 s at most. */
function keysInMemory(): KeyStore {
  const records = new Map<string, KeyRecord>();
  return {
    put: async (record) => void records.set(record.id, record),
    get: async (id) => records.get(id) ?? null,
    list: async () => [...records.values()],
    remove: async (id) => records.delete(id),
  };
}
