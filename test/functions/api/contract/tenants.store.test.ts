/** The walk over every route with another tenant's key, on the plain server with every part real but the broker. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll } from "vitest";
import { createAuditLog } from "../../../../adapters/audit-log.ts";
import { createArtefactStore } from "../../../../adapters/model/artefact-store.ts";
import { ModelRegistry } from "../../../../adapters/model/model-registry.ts";
import { registerModel } from "../../../../adapters/model/register.ts";
import { FeatureRegistry } from "../../../../adapters/pushed/feature-registry.ts";
import { ValuesArchive } from "../../../../adapters/pushed/values-archive.ts";
import { isEpochChange } from "../../../../adapters/valkey/applier.ts";
import { createReader } from "../../../../adapters/valkey/reader.ts";
import { makeModel } from "../../../../bench/make-model.ts";
import { createHistoricalPorts } from "../../../../functions/api/historical/historical-ports.ts";
import { createJobQueue } from "../../../../functions/api/historical/historical-queue.ts";
import { createKeyStore } from "../../../../functions/api/keys/key-store.ts";
import { createKey, type KeyStore, SCOPES } from "../../../../functions/api/keys/keys.ts";
import { createPushStore } from "../../../../functions/api/registered/pusher.ts";
import { createScoringPorts } from "../../../../functions/api/scoring/scoring-ports.ts";
import { listen, type RunningServer } from "../../../../functions/api/server.ts";
import { ENVIRONMENT } from "../../../../functions/shared/environment.ts";
import {
  createBucket,
  createKeysTable,
  createTable,
  startEmulator,
  type TestEmulator,
  testClients,
} from "../../../harness/emulator.ts";
import { openStore, type TestStore } from "../../../support/store.ts";
import { startValkey, type TestValkey } from "../../../support/valkey.ts";
import { applyingPublisher } from "../applying-publisher.ts";
import { plan, testDependencies } from "../doubles.ts";
import { describeTenants } from "./contract-tenants.ts";

const before = { ...process.env };
const folder = mkdtempSync(join(tmpdir(), "freshet-tenants-"));
const { dependencies } = testDependencies();
let keys: KeyStore;
let valkey: TestValkey;
let store: TestStore;
let emulator: TestEmulator;
let server: RunningServer;
let tenants = 0;

beforeAll(async () => {
  [emulator, valkey] = await Promise.all([startEmulator(), startValkey()]);
  store = await openStore(plan, valkey, Math.floor(Date.now() / 60_000) * 60_000 - 15 * 60_000);
  for (const bucket of ["archive", "models"]) await createBucket(emulator.url, bucket);
  for (const table of ["jobs", "models", "audit", "features"]) await createTable(emulator.url, table);
  Object.assign(process.env, {
    AWS_ENDPOINT_URL: emulator.url,
    AWS_REGION: "us-east-1",
    AWS_ACCESS_KEY_ID: "test",
    AWS_SECRET_ACCESS_KEY: "test",
    [ENVIRONMENT.archiveBucket]: "archive",
    [ENVIRONMENT.jobsTable]: "jobs",
    [ENVIRONMENT.modelsBucket]: "models",
    [ENVIRONMENT.modelsTable]: "models",
  });
  await createKeysTable(emulator.url, "keys");
  const log = () => {};
  const { dynamodb, s3 } = testClients(emulator.url);
  keys = createKeyStore(dynamodb, "keys");
  server = await listen({
    port: 0,
    dependencies: {
      ...dependencies,
      keys,
      reader: createReader(plan, { ...valkey, timeoutMs: 20_000 }),
      ingest: { ...dependencies.ingest!, publisher: applyingPublisher(() => store, dependencies.ingest!.codecs) },
      scoring: createScoringPorts({ plan, timers: true, log }),
      historical: createHistoricalPorts({ queueOf: createJobQueue, log }),
      audit: createAuditLog({ table: "audit", dynamodb, retentionDays: 1 }),
      pushed: {
        registry: new FeatureRegistry({ table: "features", dynamodb }),
        store: createPushStore(async () => store.applier, isEpochChange),
        archive: new ValuesArchive({ s3, bucket: "archive" }),
        close: async () => {},
      },
    },
  });
});
afterAll(async () => {
  await server?.close();
  await store?.connection.close();
  await Promise.all([valkey?.stop(), emulator?.stop()]);
  process.env = before;
  rmSync(folder, { recursive: true });
});

describeTenants({
  baseUrl: () => server.url,
  plan,
  async newTenant() {
    const tenant = `walk-${process.pid}-${tenants++}`;
    return { tenant, key: (await createKey(keys, { tenant, scopes: SCOPES, nowMs: 0 })).key };
  },
  async equip(tenant) {
    const { dynamodb, s3 } = testClients(emulator.url);
    const artefacts = createArtefactStore({ bucket: "models", s3 });
    const registry = new ModelRegistry({ table: "models", dynamodb, artefacts });
    const model = makeModel(plan, plan.services.find(({ name }) => name === "fraud")!, folder, 5);
    await registerModel(registry, model, { tenant, service: "fraud", plan, nowMs: Date.now(), by: "test" });
  },
});
