/** Events that the broker brings again after one of their entities was erased: they count for the others, and the archive names the erased nowhere. */
import { afterAll, beforeAll, expect, it } from "vitest";
import type { ArchiveRow } from "../../../../adapters/archive/archive.ts";
import type { LateItem } from "../../../../adapters/late-queue/late-queue.ts";
import { eraseCall } from "../../../../adapters/valkey/erase.ts";
import { RecordPacker } from "../../../../adapters/valkey/record.ts";
import { Watermark } from "../../../../adapters/valkey/watermark.ts";
import { type AggregationPorts, aggregateBatch } from "../../../../functions/shared/aggregation/aggregation.ts";
import { plan } from "../../../support/fixture-plan.ts";
import { openStore, type TestStore } from "../../../support/store.ts";
import { startValkey, type TestValkey } from "../../../support/valkey.ts";

const MINUTE = 60_000;
const NOW = Math.floor(Date.now() / MINUTE) * MINUTE;
let valkey: TestValkey;
let store: TestStore;
let rows: ArchiveRow[] = [];
let late: LateItem[] = [];

beforeAll(async () => {
  valkey = await startValkey();
  store = await openStore(plan, valkey, NOW - 30 * MINUTE);
});
afterAll(async () => {
  await store?.connection.close();
  await valkey?.stop();
});

async function deliver(...events: readonly { id: string; atMs: number; shop: string | null }[]) {
  rows = [];
  late = [];
  const ports: AggregationPorts = {
    plan,
    stream: plan.streams[0],
    // The fixture's contract is none of the app's own.
    codec: {
      decode: (bytes: Buffer) => ({ fields: JSON.parse(bytes.toString()) }),
    } as unknown as AggregationPorts["codec"],
    packer: new RecordPacker(plan, "payments"),
    applier: store.applier,
    watermark: new Watermark(store.connection),
    archive: {
      write: async (given) => {
        rows.push(...given);
        return [];
      },
    },
    quarantine: { write: async () => undefined as never },
    late: {
      put: async (items) => {
        late.push(...items);
      },
    },
  };
  const records = events.map(({ id, atMs, shop }, i) => ({
    sequence: String(i).padStart(4, "0"),
    arrivalMs: NOW,
    bytes: Buffer.from(
      JSON.stringify({
        ...{ tenant: "t", id, at: atMs, card: "secret-card", shop, amount: 3, country: "SE", online: true },
      }),
    ),
  }));
  return aggregateBatch(ports, "a", records);
}

it("is nobody's event where there is no other entity, and the others' where there are", async () => {
  const events = [
    { id: "pay-1", atMs: NOW - 5 * MINUTE, shop: "s1" },
    { id: "pay-2", atMs: NOW - 4 * MINUTE, shop: null },
  ];
  expect(await deliver(...events)).toMatchObject({ applied: 2, erased: 0 });
  await store.applier.erase([
    eraseCall(
      plan,
      { tenant: "t", entity: "card", id: "secret-card" },
      { beforeMs: NOW, keepUntilMs: NOW + 86_400_000, clean: false },
    ),
  ]);
  const sealed = { id: "pay-3", atMs: NOW - 60 * MINUTE, shop: "s1" };
  const later = { id: "pay-4", atMs: NOW, shop: null };
  expect(await deliver(...events, sealed, later)).toMatchObject({ events: 4, applied: 1, erased: 3, late: 0 });
  const [first, third, fourth] = rows;
  expect(rows).toHaveLength(3);
  expect(first).toMatchObject({
    eventId: `erased:${first.identity}`,
    eventTimeMs: NOW - 5 * MINUTE,
    fields: { tenant: "t", id: first.identity, card: null, shop: "s1", amount: 3, country: null, online: null },
    fates: [{ entity: "shop", id: "s1", fate: "duplicate" }],
  });
  expect(third).toMatchObject({ fates: [{ entity: "shop", id: "s1", fate: "late", visibleMs: null }] });
  expect(late).toMatchObject([{ entity: "shop", id: "s1", eventId: third.eventId, identity: third.identity }]);
  expect(fourth).toMatchObject({ eventId: "pay-4", fates: [{ entity: "card", id: "secret-card", fate: "applied" }] });
  expect(JSON.stringify([first, third, late])).not.toMatch(/secret-card|pay-[123]/);
});
