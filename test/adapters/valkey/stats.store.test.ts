/** Totals for people who watch, on a real Valkey. */

import { Redis } from "iovalkey";
import { afterAll, beforeAll, expect, it } from "vitest";
import { ValkeyConnection } from "../../../adapters/valkey/connection.ts";
import { addToStats, statsKey } from "../../../adapters/valkey/stats.ts";
import { startValkey, type TestValkey } from "../../support/valkey.ts";

const ARRIVAL = 1_767_700_000_000;
let valkey: TestValkey;
let connection: ValkeyConnection;
let admin: Redis;
beforeAll(async () => {
  valkey = await startValkey();
  connection = new ValkeyConnection(valkey);
  admin = new Redis({ host: valkey.host, port: valkey.port });
});
afterAll(async () => {
  admin?.disconnect();
  await connection?.close();
  await valkey?.stop();
});

const batch = (arrivalMs: number, visibleMs: number | null, events = 2) => ({
  ...{ events, applied: events, duplicates: 0, late: 0, quarantined: 0 },
  ...{ arrivalMs, visibleMs },
});

it("batches of several shards are counted whatever the order they end in, and the newest arrival stays the newest", async () => {
  await addToStats(connection, "payments", batch(ARRIVAL + 7, ARRIVAL + 9));
  await addToStats(connection, "payments", batch(ARRIVAL, ARRIVAL + 30));
  expect(await admin.hgetall(statsKey("payments"))).toEqual({
    ...{ in: "4", applied: "4" },
    ...{ lastArrivalMs: String(ARRIVAL + 7), lastAppliedMs: String(ARRIVAL + 9) },
  });
});

it("a batch of which nothing went to the store moves the arrival alone", async () => {
  await addToStats(connection, "clicks", batch(ARRIVAL, ARRIVAL + 5));
  await addToStats(connection, "clicks", batch(ARRIVAL + 8, null, 0));
  expect(await admin.hgetall(statsKey("clicks"))).toEqual({
    ...{ in: "2", applied: "2" },
    ...{ lastArrivalMs: String(ARRIVAL + 8), lastAppliedMs: String(ARRIVAL + 5) },
  });
});
