/**
 * Baseline of the reading rows: node:http, JSON.parse, one pipelined trip of HMGETs for the very fields that the product
 * reads, and a fixed answer of about the product's size. No key check, no validation, no tiles decoded, nothing computed.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Redis } from "iovalkey";
import { FeatureSet } from "../adapters/valkey/feature-set.ts";
import { bucketOf, entityKey } from "../adapters/valkey/layout.ts";
import { LOOPBACK } from "../local/ports.ts";
import { CARD_FEATURES, servingPlan } from "./definitions.ts";

/** How the seal lies behind the clock in the store that benchmarks fill. */
export const SEAL_LAG_MS = 11 * 60_000;
const FILLER = "x".repeat(1_000);

interface Body {
  readonly entities?: Readonly<Record<string, string>> | readonly Readonly<Record<string, string>>[];
  readonly [joinKey: string]: unknown;
}

export async function listenBare(valkeyPort: number): Promise<number> {
  const client = new Redis({ host: LOOPBACK, port: valkeyPort });
  const fieldsOf = fieldsByEntity();
  const joinKeys = servingPlan.entities.map(({ name, joinKey }) => ({ name, joinKey }));
  const keys = new Map<string, string>();
  const keyOf = (entity: string, id: string): string => {
    let key = keys.get(`${entity}/${id}`);
    if (key === undefined) {
      key = entityKey(bucketOf("default", entity, id), "default", entity, "transactions", id);
      keys.set(`${entity}/${id}`, key);
    }
    return key;
  };
  const read = async (body: Body): Promise<number> => {
    const rows = Array.isArray(body.entities) ? body.entities : [body.entities ?? body];
    const pipeline = client.pipeline();
    for (const row of rows) {
      for (const { name, joinKey } of joinKeys) {
        if (typeof row[joinKey] === "string") pipeline.hmgetBuffer(keyOf(name, row[joinKey]), ...fieldsOf(name));
      }
    }
    const answers = await pipeline.exec();
    return answers!.reduce((sum, [, values]) => sum + (values as (Buffer | null)[]).filter(Boolean).length, 0);
  };
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", async () => {
      const found = await read(JSON.parse(Buffer.concat(chunks).toString("utf8")));
      const json = JSON.stringify({ found, filler: FILLER });
      response.writeHead(200, { "content-type": "application/json", "content-length": json.length });
      response.end(json);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, LOOPBACK, resolve));
  return (server.address() as AddressInfo).port;
}

/** The fields of an entity's read, worked out again each minute as the product does. */
function fieldsByEntity(): (entity: string) => readonly Buffer[] {
  const sets = new Map(
    servingPlan.entities.map(({ name }) => {
      const names =
        name === "card" ? CARD_FEATURES : servingPlan.services[0].features.filter((f) => f.startsWith(`${name}_`));
      return [name, FeatureSet.split(servingPlan, name, names)[0]];
    }),
  );
  return (entity) => {
    const nowMs = Date.now();
    return sets.get(entity)!.planFor(nowMs, Math.floor((nowMs - SEAL_LAG_MS) / 60_000) * 60_000, null)!.fields;
  };
}
