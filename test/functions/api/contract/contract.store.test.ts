/** The contract suite against the plain server on a real Valkey; the broker is a function that applies what it is given. */
import { afterAll, beforeAll } from "vitest";
import { FeatureRegistry } from "../../../../adapters/pushed/feature-registry.ts";
import { ValuesArchive } from "../../../../adapters/pushed/values-archive.ts";
import { isEpochChange } from "../../../../adapters/valkey/applier.ts";
import { createReader } from "../../../../adapters/valkey/reader.ts";
import { createKey, type Scope } from "../../../../functions/api/keys/keys.ts";
import { createPushStore } from "../../../../functions/api/registered/pusher.ts";
import { listen, type RunningServer } from "../../../../functions/api/server.ts";
import { createBucket, createTable, startEmulator, type TestEmulator, testClients } from "../../../harness/emulator.ts";
import { openStore, type TestStore } from "../../../support/store.ts";
import { startValkey, type TestValkey } from "../../../support/valkey.ts";
import { applyingPublisher } from "../applying-publisher.ts";
import { plan, testDependencies } from "../doubles.ts";
import { describeErrors } from "./contract.ts";
import type { ContractTarget } from "./contract-calls.ts";
import { describeCatalogue } from "./contract-catalogue.ts";
import { describeFeast } from "./contract-feast.ts";
import { describeFlow } from "./contract-flow.ts";
import { describePushed } from "./contract-pushed.ts";
import { describeRank } from "./contract-rank.ts";
import { describeRegistered } from "./contract-registered.ts";

let valkey: TestValkey;
let store: TestStore;
let server: RunningServer;
let emulator: TestEmulator;
const keys = { first: "", second: "", readOnly: "", expired: "", firstAdmin: "", secondAdmin: "" };
const target: ContractTarget = { baseUrl: () => server.url, keys: () => keys, plan, exactBytes: true };

beforeAll(async () => {
  [valkey, emulator] = await Promise.all([startValkey(), startEmulator()]);
  await Promise.all([createBucket(emulator.url, "archive"), createTable(emulator.url, "features")]);
  // As in life, where the seal follows the clock: all that lies above it is read tile by tile.
  store = await openStore(plan, valkey, Math.floor(Date.now() / 60_000) * 60_000 - 15 * 60_000);
  const { dependencies, keys: table } = testDependencies();
  const make = async (tenant: string, scopes: Scope[], expiresAtMs?: number) =>
    (await createKey(table, { tenant, scopes, nowMs: 0, expiresAtMs })).key;
  keys.first = await make("team-a", ["read", "write", "score"]);
  keys.second = await make("team-b", ["read", "write", "score"]);
  keys.readOnly = await make("team-a", ["read"]);
  keys.firstAdmin = await make("team-a", ["admin"]);
  keys.secondAdmin = await make("team-b", ["admin"]);
  keys.expired = await make("team-a", ["read", "write", "score"], 1);
  const { s3, dynamodb } = testClients(emulator.url);
  server = await listen({
    port: 0,
    dependencies: {
      ...dependencies,
      reader: createReader(plan, { ...valkey, timeoutMs: 20_000 }),
      pushed: {
        registry: new FeatureRegistry({ table: "features", dynamodb }),
        store: createPushStore(async () => store.applier, isEpochChange),
        archive: new ValuesArchive({ s3, bucket: "archive" }),
        close: async () => {},
      },
      ingest: { ...dependencies.ingest!, publisher: applyingPublisher(() => store, dependencies.ingest!.codecs) },
    },
  });
});
afterAll(async () => {
  await server?.close();
  await store?.connection.close();
  await valkey?.stop();
  await emulator?.stop();
});

describeErrors(target);
describeFlow(target);
describeRank(target);
describeRegistered(target);
describePushed(target);
describeCatalogue(target);
describeFeast(target);
