/** Reads of entities that have fallen far behind the seal, or whose seal has not moved for weeks. */
import { afterAll, beforeAll, expect, it } from "vitest";
import type { OnlineReader } from "../../../adapters/online-store.ts";
import { createReader } from "../../../adapters/valkey/reader.ts";
import { RecordPacker } from "../../../adapters/valkey/record.ts";
import { plan } from "../../support/fixture-plan.ts";
import { openStore, type TestStore } from "../../support/store.ts";
import { startValkey, type TestValkey } from "../../support/valkey.ts";

const DAY_MS = 86_400_000;
const T = Date.UTC(2026, 5, 1, 12);
let valkey: TestValkey;
let store: TestStore;
let reader: OnlineReader;

beforeAll(async () => {
  valkey = await startValkey();
  store = await openStore(plan, valkey, T - 20 * DAY_MS);
  reader = createReader(plan, { host: valkey.host, port: valkey.port, timeoutMs: 5_000 });
});
afterAll(async () => {
  await reader?.close();
  await store?.connection.close();
  await valkey?.stop();
});

it("a seal that has stood for twenty days: the hash is read whole, and every window is right", async () => {
  const packer = new RecordPacker(plan, "payments");
  const times = [T - 19 * DAY_MS, T - 6 * DAY_MS, T - 20 * 3_600_000, T - 50 * 60_000, T - 2 * 60_000];
  const events = times.map((at, i) =>
    packer.prepare("default", `e${i}`, at, {
      id: `e${i}`,
      at,
      card: "c1",
      shop: `s${i}`,
      amount: i + 0.5,
      country: "NO",
    }),
  );
  await store.applier.apply(events);
  const features = ["n_5m", "n_1h", "n_24h", "n_7d", "n_lifetime", "total_lifetime", "shops_24h", "last_country"];
  const names = features.map((name) => `everything:${name}`);
  const [answer] = await reader.read([{ tenant: "default", entity: "card", id: "c1", features: names }], T);
  expect(answer.values.map(({ value }) => value)).toEqual([1, 2, 3, 4, 5, 12.5, 3, "NO"]);
  const [unknown] = await reader.read([{ tenant: "default", entity: "card", id: "c2", features: names }], T);
  expect(new Set(unknown.values.map(({ status }) => status))).toEqual(new Set(["NOT_FOUND"]));
});
