import { expect, it } from "vitest";
import type { ArchiveRow } from "../../../adapters/archive.ts";
import { EventCodec } from "../../../adapters/avro/event-codec.ts";
import type { PreparedEvent } from "../../../adapters/valkey/record.ts";
import { RecordPacker } from "../../../adapters/valkey/record.ts";
import type { Fate } from "../../../adapters/valkey/replies.ts";
import { plan } from "../../../features/plan.ts";
import { type AggregationPorts, replayBatch } from "../../../functions/shared/aggregation.ts";

const stream = plan.streams.find(({ name }) => name === "transactions")!;
const ARRIVAL = Date.UTC(2026, 0, 5, 12);

it("a replay archives what the store counts by it, as visible, and nothing of what is sealed", async () => {
  const fates: Record<string, readonly [Fate, number | null]> = {
    missing: ["applied", ARRIVAL + 900],
    counted: ["duplicate", ARRIVAL + 5],
    sealed: ["sealed", null],
  };
  const codec = EventCodec.for(stream.contract);
  const records = Object.keys(fates).map((id, i) => ({
    sequence: String(100 + i),
    arrivalMs: ARRIVAL,
    bytes: codec.encode({
      ...{
        tenant: "team",
        transaction_id: id,
        event_time: ARRIVAL - 10,
        card_id: "c",
        user_id: null,
        merchant_id: "m",
      },
      ...{ amount: 1, currency: "EUR", country: "DE", merchant_category: "fuel", status: "approved" },
      ...{ device_id: null, channel: "pos" },
    }),
  }));
  const written: ArchiveRow[] = [];
  const apply = async (events: readonly PreparedEvent[]) => ({
    nowMs: ARRIVAL + 900,
    failover: false,
    fates: events.map(({ updates }, i) => {
      const [fate, visibleMs] = Object.values(fates)[i];
      return updates.map(({ entity, id }) => ({ entity, id, fate, visibleMs }));
    }),
  });
  const ports = {
    stream,
    codec,
    packer: new RecordPacker(plan, "transactions"),
    applier: { apply },
    archive: { write: async (rows: readonly ArchiveRow[]) => void written.push(...rows) },
  };
  // The others are not asked for anything: a replay registers nothing, and its late events wait already.
  expect(await replayBatch(ports as unknown as AggregationPorts, "shardId-000000000000", records)).toBe(1);
  expect(written.map(({ eventId, sequence, fates: own }) => [eventId, sequence, own[0]])).toEqual([
    ["missing", "100", { entity: "card", id: "c", fate: "applied", visibleMs: ARRIVAL + 900 }],
    ["counted", "101", { entity: "card", id: "c", fate: "duplicate", visibleMs: ARRIVAL + 5 }],
  ]);
});
