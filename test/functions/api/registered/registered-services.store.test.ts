/**
 * A service's registered features from registration to training set: registered and pushed over HTTP, scored from a real store, and joined
 * from the archive as of instants before and after the values became visible.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { DuckSession } from "../../../../adapters/offline/duckdb.ts";
import { ArchiveMirror } from "../../../../adapters/offline/mirror.ts";
import { valuesMount } from "../../../../adapters/offline/pushed-in-time.ts";
import { buildTrainingSet } from "../../../../adapters/offline/training-set.ts";
import { FeatureRegistry } from "../../../../adapters/pushed/feature-registry.ts";
import { ValuesArchive } from "../../../../adapters/pushed/values-archive.ts";
import { isEpochChange } from "../../../../adapters/valkey/applier.ts";
import { createReader } from "../../../../adapters/valkey/reader.ts";
import { inputsOf } from "../../../../core/registered-feature.ts";
import { createKey } from "../../../../functions/api/keys/keys.ts";
import { createPushStore } from "../../../../functions/api/registered/pusher.ts";
import { listen, type RunningServer } from "../../../../functions/api/server.ts";
import { createBucket, createTable, startEmulator, type TestEmulator, testClients } from "../../../harness/emulator.ts";
import { definitions, registeredPlan as plan, trust } from "../../../support/registered-plan.ts";
import { openStore, type TestStore } from "../../../support/store.ts";
import { startValkey, type TestValkey } from "../../../support/valkey.ts";
import { caller } from "../contract/contract-calls.ts";
import { testDependencies } from "../doubles.ts";

const folder = mkdtempSync(join(tmpdir(), "freshet-registered-"));
const service = plan.services.find(({ name }) => name === "trust")!;
const keys = { first: "", second: "", readOnly: "", expired: "" };
let emulator: TestEmulator;
let valkey: TestValkey;
let store: TestStore;
let server: RunningServer;
let registry: FeatureRegistry;
const call = caller({ baseUrl: () => server.url, keys: () => keys, plan, exactBytes: true });

beforeAll(async () => {
  [emulator, valkey] = await Promise.all([startEmulator(), startValkey()]);
  await Promise.all([createBucket(emulator.url, "values"), createTable(emulator.url, "registered")]);
  const { dynamodb, s3 } = testClients(emulator.url);
  store = await openStore(plan, valkey, Date.now() - 3_600_000);
  registry = new FeatureRegistry({ table: "registered", dynamodb });
  const { dependencies, keys: table } = testDependencies();
  const make = async (tenant: string) =>
    (await createKey(table, { tenant, scopes: ["read", "score", "write", "admin"], nowMs: 0 })).key;
  keys.first = await make("team-a");
  keys.second = await make("team-b");
  const pushed = {
    registry,
    store: createPushStore(async () => store.applier, isEpochChange),
    archive: new ValuesArchive({ s3, bucket: "values" }),
    close: async () => {},
  };
  const reader = createReader(plan, { host: valkey.host, port: valkey.port, timeoutMs: 5_000 });
  server = await listen({
    port: 0,
    dependencies: { ...dependencies, ingest: null, plan, services: definitions.services, reader, pushed },
  });
});
afterAll(async () => {
  await server?.close();
  await store?.connection.close();
  await valkey?.stop();
  await emulator?.stop();
  rmSync(folder, { recursive: true });
});

async function ask(path: string, body: unknown, key?: string): Promise<any> {
  const reply = await call(path, { body, key });
  expect([path, reply.body.detail, reply.status]).toEqual([path, undefined, expect.any(Number)]);
  return reply.body;
}

it("what a tenant registers and pushes is scored, and joined as it was visible; another tenant has none of it", async () => {
  await ask("/v1/features/register", { name: "profile:score", dtype: "double", entity: "shop", ttl: "30d" });
  await ask("/v1/features/register", { name: "identity:years", dtype: "int64", entity: "owner", ttl: "30d" });
  const eventMs = Date.now() - 60_000;
  const push = async (feature: string, id: string, value: number, ageMs: number): Promise<number> => {
    const rows = [{ id, event_time_ms: eventMs - ageMs, values: [value] }];
    return (await ask("/v1/features/push", { features: [feature], rows })).visible_ms;
  };
  const firstMs = await push("profile:score", "s1", 2.5, 5_000);
  const yearsMs = await push("identity:years", "o1", 12, 0);
  // So that there is an instant between the two, by the one clock that store and test have.
  while (Date.now() <= yearsMs) await sleep(1);
  const secondMs = await push("profile:score", "s1", 6, 0);

  const body = { shop: "s1", owner_id: "o1", explain: true };
  const score = await ask("/v1/score/trust", body);
  expect(score).toMatchObject({
    ...{ score: 0.55, degraded: false, features_missing: ["risk:n", "profile:city"] },
    explanation: { features: { "profile:score": 6, twice: 12, "identity:years": 12 } },
  });
  expect(await ask("/v1/score/trust", body, keys.second)).toMatchObject({
    features_missing: ["risk:n", "profile:score", "profile:city", "identity:years", "twice"],
  });

  const { s3 } = testClients(emulator.url);
  const build = async (tenant: string) => {
    const out = join(folder, tenant);
    const session = await DuckSession.open({ folder: join(folder, `duck-${tenant}`) });
    const mirror = new ArchiveMirror({ s3, bucket: "values", folder: join(folder, "mirror") });
    const known = await registry.load(tenant, null);
    try {
      const instants = [firstMs - 1, firstMs, secondMs - 1, score.as_of_ms].map((ms) => `(${ms}, 's1', 'o1')`);
      const manifest = await buildTrainingSet(session, {
        ...{ plan, service, definition: trust, tenant, out, fromMs: null, toMs: null, labelDelayMs: null },
        spine: {
          kind: "query",
          query: `SELECT CAST(t AS BIGINT) AS as_of_ms, shop, owner_id FROM (VALUES ${instants.join(", ")}) AS v(t, shop, owner_id)`,
        },
        inputs: inputsOf(service, known?.features ?? []),
        mount: () => Promise.reject(new Error("no stream is behind this service")),
        mountValues: valuesMount(session, mirror, tenant),
      });
      const rows = await session.rows(
        `SELECT * FROM read_parquet('${join(out, "part-00000.parquet")}') ORDER BY as_of_ms`,
      );
      return { manifest, rows };
    } finally {
      session.close();
    }
  };
  const { manifest, rows } = await build("team-a");
  expect(manifest.features).toEqual([
    { name: "risk:n", dtype: "int64" },
    { name: "profile:score", dtype: "double" },
    { name: "profile:city", dtype: "string" },
    { name: "identity:years", dtype: "int64" },
    { name: "twice", dtype: "double" },
  ]);
  const seen = rows.map((row) => [row["profile:score"], row["twice"], row["profile:city"], row["identity:years"]]);
  // The default of years stands in until a value is visible, as it does in a score.
  expect([seen[0], seen[3]]).toEqual([
    [null, null, null, 1n],
    [6, 12, null, 12n],
  ]);
  expect([seen[1][0], seen[2]]).toEqual([2.5, [2.5, 5, null, 12n]]);
  const other = await build("team-b");
  expect(other.rows.map((row) => [row["profile:score"], row["identity:years"]])).toEqual(new Array(4).fill([null, 1n]));
});
