import { expect, it } from "vitest";
import type { ArchiveRow } from "../../../../adapters/archive/archive.ts";
import { EventCodec } from "../../../../adapters/avro/event-codec.ts";
import type { LateItem } from "../../../../adapters/late-queue/late-queue.ts";
import type { PreparedEvent } from "../../../../adapters/valkey/record.ts";
import { RecordPacker } from "../../../../adapters/valkey/record.ts";
import type { Fate } from "../../../../adapters/valkey/replies.ts";
import { plan } from "../../../../features/plan.ts";
import { type AggregationPorts, replayBatch } from "../../../../functions/shared/aggregation/aggregation.ts";

const stream = plan.streams.find(({ name }) => name === "transactions")!;
const ARRIVAL = Date.UTC(2026, 0, 5, 12);

/** By event's id, and where it isn't the same for all, by entity. */
type Answers = Record<string, (entity: string) => readonly [Fate, number | null]>;

/** @returns how many were missing, the archive's rows, and what waits for repair */
async function replay(answers: Answers) {
  const codec = EventCodec.for(stream.contract);
  const records = Object.keys(answers).map((id, i) => ({
    sequence: String(100 + i),
    arrivalMs: ARRIVAL,
    bytes: codec.encode({
      ...{
        tenant: "team",
        transaction_id: id,
        event_time: ARRIVAL - 10,
        card_id: "secret-card",
        user_id: null,
        merchant_id: "m",
      },
      ...{ amount: 1, currency: "EUR", country: "DE", merchant_category: "fuel", status: "approved" },
      ...{ device_id: null, channel: "pos" },
    }),
  }));
  const written: ArchiveRow[] = [];
  const late: LateItem[] = [];
  const apply = async (events: readonly PreparedEvent[]) => ({
    nowMs: ARRIVAL + 900,
    failover: false,
    fates: events.map(({ updates }, i) => {
      return updates.map(({ entity, id }) => {
        const [fate, visibleMs] = Object.values(answers)[i](entity);
        return { entity, id, fate, visibleMs };
      });
    }),
  });
  // The others are not asked for anything: a replay registers nothing.
  const ports = {
    ...{ plan, stream, codec, applier: { apply } },
    packer: new RecordPacker(plan, "transactions"),
    archive: { write: async (rows: readonly ArchiveRow[]) => void written.push(...rows) },
    late: { put: async (items: readonly LateItem[]) => void late.push(...items) },
  };
  const unreadable = { sequence: "999", arrivalMs: ARRIVAL, bytes: Buffer.from("of another contract") };
  const delivered = [...records, unreadable];
  const { applied, unread } = await replayBatch(
    ports as unknown as AggregationPorts,
    "shardId-000000000000",
    delivered,
  );
  expect(unread).toBe(1);
  return { missing: applied, written, late };
}

it("a replay archives what the store counts by it, as visible, and nothing of what is sealed", async () => {
  const { missing, written } = await replay({
    missing: () => ["applied", ARRIVAL + 900],
    counted: () => ["duplicate", ARRIVAL + 5],
    sealed: () => ["sealed", null],
  });
  expect(missing).toBe(1);
  expect(written.map(({ eventId, sequence, fates: own }) => [eventId, sequence, own[0]])).toEqual([
    ["missing", "100", { entity: "card", id: "secret-card", fate: "applied", visibleMs: ARRIVAL + 900 }],
    ["counted", "101", { entity: "card", id: "secret-card", fate: "duplicate", visibleMs: ARRIVAL + 5 }],
  ]);
});

it("of an event that counts again, entities that are sealed further wait for repair: one of a later plan was in no queue", async () => {
  const { missing, written, late } = await replay({
    partly: (entity) => (entity === "card" ? ["applied", ARRIVAL + 900] : ["sealed", null]),
    sealed: () => ["sealed", null],
  });
  expect(missing).toBe(1);
  expect(written.map(({ eventId }) => eventId)).toEqual(["partly"]);
  expect(written[0].fates).toContainEqual({ entity: "merchant", id: "m", fate: "late", visibleMs: null });
  expect(late.map(({ eventId, entity, id }) => [eventId, entity, id])).toEqual([["partly", "merchant", "m"]]);
});

it("a replay, which has the records of whoever was erased, writes no row that names them", async () => {
  const erasedCard =
    (others: readonly [Fate, number | null]) =>
    (entity: string): readonly [Fate, number | null] =>
      entity === "card" ? ["erased", null] : others;
  const { missing, written } = await replay({
    again: erasedCard(["applied", ARRIVAL + 900]),
    counted: erasedCard(["duplicate", ARRIVAL + 5]),
    sealed: erasedCard(["sealed", null]),
    nobodys: () => ["erased", null],
  });
  expect(missing).toBe(1);
  expect(written.map(({ eventId, fields, fates }) => [eventId, fields?.["card_id"], fates[0]])).toEqual(
    written.map(({ identity }, i) => [
      `erased:${identity}`,
      null,
      [
        { entity: "merchant", id: "m", fate: "applied", visibleMs: ARRIVAL + 900 },
        { entity: "merchant", id: "m", fate: "duplicate", visibleMs: ARRIVAL + 5 },
      ][i],
    ]),
  );
  expect(written).toHaveLength(2);
  expect(JSON.stringify(written)).not.toMatch(/secret-card|again|counted/);
});
