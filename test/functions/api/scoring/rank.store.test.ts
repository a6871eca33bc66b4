/** What a ranking of as many candidates as it may have asks of the store, and of the model. */
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { bucketOf } from "../../../../adapters/valkey/layout.ts";
import { createReader, readingConnection } from "../../../../adapters/valkey/reader.ts";
import { type ApiDependencies, createApp } from "../../../../functions/api/app.ts";
import { createKey } from "../../../../functions/api/keys/keys.ts";
import { MAX_CANDIDATES } from "../../../../functions/api/limits.ts";
import { openStore, type TestStore } from "../../../support/store.ts";
import { startValkey, type TestValkey } from "../../../support/valkey.ts";
import { plan, testDependencies } from "../doubles.ts";

let valkey: TestValkey;
let store: TestStore;

beforeAll(async () => {
  valkey = await startValkey();
  store = await openStore(plan, valkey);
});
afterAll(async () => {
  await store?.connection.close();
  await valkey?.stop();
});

const service = plan.services.find(({ name }) => name === "recommendation")!;
/** Hashes of one entity behind the service: one for each stream, and one for what was pushed. */
function hashesOf(entity: string): number {
  const asked = ({ entity: of, features }: { entity: string; features: readonly { name: string }[] }) =>
    of === entity && features.some(({ name }) => service.features.includes(name));
  const streams = new Set(plan.views.filter(asked).map(({ stream }) => stream));
  return streams.size + Number(plan.batchViews.some(asked));
}

it("is one round trip, in which each entity and each bucket is asked for once, and one call of the model", async () => {
  const connection = readingConnection({ host: valkey.host, port: valkey.port, timeoutMs: 30_000 });
  const trips = vi.spyOn(connection, "run");
  const runs: number[] = [];
  const champion = {
    name: "m@1",
    encode: (values: readonly unknown[]) => new Float64Array(values.length),
    model: {
      score: async (vectors: readonly Float64Array[]) => {
        runs.push(vectors.length);
        return vectors.map(() => ({ probability: 0.5, raw: 0 }));
      },
    },
  };
  const served = { champion, challenger: null, shadow: null, share: null, fault: null };
  const scoring: any = { serving: { served: () => served, state: () => null }, logger: { record: () => {} } };
  const { dependencies, keys } = testDependencies();
  const { key } = await createKey(keys, { tenant: "team-a", scopes: ["score"], nowMs: 0 });
  const reader = createReader(plan, connection);
  try {
    const app = createApp({ ...dependencies, scoring, reader } as ApiDependencies);
    const candidates = Array.from({ length: MAX_CANDIDATES }, (_, i) => `item-${i}`);
    const answer = await app.request("/v1/rank/recommendation", {
      method: "POST",
      headers: { "x-api-key": key, "content-type": "application/json" },
      body: JSON.stringify({ user_id: "u1", category: null, candidates: [...candidates.slice(1), "item-0"] }),
    });
    expect([answer.status, ((await answer.json()) as any).candidates]).toEqual([200, MAX_CANDIDATES]);
    expect(runs).toEqual([MAX_CANDIDATES]);

    expect(trips).toHaveBeenCalledTimes(1);
    const asked = trips.mock.calls[0][0].map(({ key }) => key);
    const buckets = [["user", "u1"], ...candidates.map((id) => ["item", id])].map(([entity, id]) =>
      bucketOf("team-a", entity, id),
    );
    expect(new Set(asked).size).toBe(asked.length);
    expect(asked).toHaveLength(new Set(buckets).size + hashesOf("user") + MAX_CANDIDATES * hashesOf("item"));
  } finally {
    await reader.close();
  }
});
