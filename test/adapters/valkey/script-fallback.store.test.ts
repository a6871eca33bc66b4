/** A server that refuses functions to the store's user: the same code runs as a script. */
import { Redis } from "iovalkey";
import { afterAll, beforeAll, expect, it } from "vitest";
import { StoreApplier } from "../../../adapters/valkey/applier.ts";
import { ValkeyConnection } from "../../../adapters/valkey/connection.ts";
import { createReader } from "../../../adapters/valkey/reader.ts";
import { RecordPacker } from "../../../adapters/valkey/record.ts";
import { plan } from "../../support/fixture-plan.ts";
import { openStore, type TestStore } from "../../support/store.ts";
import { startValkey, type TestValkey } from "../../support/valkey.ts";

let valkey: TestValkey;
let store: TestStore;
let restricted: ValkeyConnection;

beforeAll(async () => {
  valkey = await startValkey();
  store = await openStore(plan, valkey, Date.now() - 3_600_000);
  const admin = new Redis({ host: valkey.host, port: valkey.port });
  await admin.call("ACL", "SETUSER", "plain", "on", ">secret", "~*", "+@all", "-function", "-fcall");
  admin.disconnect();
  const password = async () => "secret";
  restricted = new ValkeyConnection({ host: valkey.host, port: valkey.port, user: "plain", password });
});
afterAll(async () => {
  await restricted?.close();
  await store?.connection.close();
  await valkey?.stop();
});

it("applies once, and touches, without a single function call", async () => {
  const now = Date.now();
  const event = { id: "e1", at: now, card: "c1", shop: "s1", amount: 12.5, country: "NO", online: true };
  const prepared = [new RecordPacker(plan, "payments").prepare("default", "e1", now, event)];
  const applier = new StoreApplier(restricted, plan, 1);
  const fates = async () => (await applier.apply(prepared)).fates.flat().map(({ fate }) => fate);
  expect(await fates()).toEqual(["applied", "applied"]);
  expect(await fates()).toEqual(["duplicate", "duplicate"]);
  const [{ bucket, key, groupId }] = prepared[0].updates;
  await applier.touch(bucket, [{ key, groupId }]);
  const reader = createReader(plan, { host: valkey.host, port: valkey.port, timeoutMs: 5_000 });
  const features = ["everything:n_1h", "everything:total_1h", "everything:last_country"];
  const [answer] = await reader.read([{ tenant: "default", entity: "card", id: "c1", features }], now);
  expect(answer.values.map(({ value }) => value)).toEqual([1, 12.5, "NO"]);
  await reader.close();
  const [primary] = await store.connection.primaries();
  expect(await primary.call("FUNCTION", "LIST")).toEqual([]);
});
