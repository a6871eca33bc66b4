/** A store on a real Valkey, a snapshot table on a real emulator, and all that writes and reads the two. */

import { createSnapshotReader } from "../../adapters/snapshot/snapshot-reader.ts";
import { SnapshotTable } from "../../adapters/snapshot/snapshot-table.ts";
import { createReader } from "../../adapters/valkey/reader.ts";
import type { FeatureValue, Plan } from "../../core/plan.ts";
import { snapshotRound } from "../../functions/shared/snapshot/snapshot-round.ts";
import { createTable, type TestEmulator, testClients } from "../harness/emulator.ts";
import { openStore } from "./store.ts";
import type { TestValkey } from "./valkey.ts";

let tables = 0;

/** With an empty store and an empty table. */
export async function openSnapshotWorld(plan: Plan, valkey: TestValkey, emulator: TestEmulator, sealMs: number) {
  const name = `snapshots-${tables++}`;
  await createTable(emulator.url, name);
  const { dynamodb } = testClients(emulator.url);
  const table = new SnapshotTable({ table: name, dynamodb });
  const store = await openStore(plan, valkey, sealMs);
  const ports = { plan, connection: store.connection, controls: store.controls, table, clock: Date.now };
  const live = createReader(plan, { host: valkey.host, port: valkey.port, timeoutMs: 10_000 });
  const featuresOf = (entity: string) =>
    [...plan.views, ...plan.batchViews]
      .filter((view) => view.entity === entity)
      .flatMap(({ features }) => features.map((f) => f.name));
  const request = (tenant: string, entity: string, id: string) => ({
    tenant,
    entity,
    id,
    features: featuresOf(entity),
  });
  return {
    ...{ name, table, store, dynamodb, ports, request },
    round: (deadlineMs = Number.POSITIVE_INFINITY) => snapshotRound(ports, deadlineMs),
    async live(tenant: string, entity: string, id: string, asOfMs: number): Promise<readonly FeatureValue[]> {
      const [{ values }] = await live.read([request(tenant, entity, id)], asOfMs);
      return values;
    },
    /** By a reader that knows nothing yet, of this plan or another one. */
    async fallback(tenant: string, entity: string, id: string, asOfMs: number, of: Plan = plan) {
      const reader = createSnapshotReader(of, table, Date.now);
      const [answer] = await reader.read([request(tenant, entity, id)], asOfMs, 20_000);
      return answer;
    },
    async close() {
      await live.close();
      await store.connection.close();
      dynamodb.destroy();
    },
  };
}

export type SnapshotWorld = Awaited<ReturnType<typeof openSnapshotWorld>>;
