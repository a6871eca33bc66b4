/** Valkey is killed for real while the API serves: scores go on, reads say why they cannot, and it heals by itself. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { createReader } from "../../../adapters/valkey/reader.ts";
import { createKey } from "../../../functions/api/keys/keys.ts";
import { listen, type RunningServer } from "../../../functions/api/server.ts";
import { openStore } from "../../support/store.ts";
import { startValkey, type TestValkey } from "../../support/valkey.ts";
import { callerOf, scorable } from "./contract/contract-calls.ts";
import { plan, testDependencies } from "./doubles.ts";

let valkey: TestValkey;
let server: RunningServer;
let key: string;
const call = callerOf(
  plan,
  () => server,
  () => key,
);
const online = { entities: { card_id: "c1" }, features: ["card_activity:tx_count_1h"] };

beforeAll(async () => {
  valkey = await startValkey({ appendonly: true });
  const store = await openStore(plan, valkey, Math.floor(Date.now() / 60_000) * 60_000 - 15 * 60_000);
  await store.connection.close();
  const { dependencies, keys } = testDependencies();
  key = (await createKey(keys, { tenant: "team-a", scopes: ["read", "score"], nowMs: 0 })).key;
  server = await listen({ port: 0, dependencies: { ...dependencies, reader: createReader(plan, valkey) } });
});
afterAll(async () => {
  await server?.close();
  await valkey?.stop();
});

it("degrades while the store is gone, in every answer, and recovers without a restart", async () => {
  const scores = async () => {
    const { status, body } = await call("/v1/score/fraud", { body: scorable });
    return [status, body.degraded, body.degraded_reason];
  };
  expect(await scores()).toEqual([200, false, null]);
  expect((await call("/ready")).status).toBe(200);

  await valkey.kill("SIGKILL");
  expect(await scores()).toEqual([200, true, "store_unavailable"]);
  const read = await call("/v1/features/online", { body: online });
  expect([read.status, read.body.code]).toEqual([503, "store_unavailable"]);
  const ready = await call("/ready");
  expect([ready.status, ready.body.checks.online_store.reachable]).toEqual([503, false]);
  expect((await call("/health")).status).toBe(200);

  await valkey.restart();
  // The reader reconnects in the background; another primary's run id is told as a failover until it is acknowledged.
  await expect
    .poll(async () => (await call("/v1/features/online", { body: online })).status, { timeout: 30_000 })
    .toBe(200);
  expect((await scores())[0]).toBe(200);
  expect((await call("/ready")).body.checks.online_store).toMatchObject({ reachable: true, control: "failover" });
});

it("says that control data is lost when the store comes back empty", async () => {
  await valkey.restart({ empty: true });
  await expect
    .poll(async () => (await call("/ready")).body.checks.online_store, { timeout: 30_000 })
    .toMatchObject({ reachable: true, control: "lost" });
  const { status, body } = await call("/ready");
  expect([status, body.code]).toEqual([503, "not_ready"]);
  const score = await call("/v1/score/fraud", { body: scorable });
  expect([score.body.degraded, score.body.degraded_reason]).toEqual([true, "lost"]);
});
