/** The rows behind the golden objects of a compacted archive: every fate, refused records, two payloads, every type of a field. */
import type { ArchiveRow, Fate } from "../../../adapters/archive/archive-format.ts";
import type { Stream } from "../../../core/plan.ts";

const START_MS = Date.UTC(2026, 10, 21, 9);

export const goldenStream: Stream = {
  name: "payments",
  contract: "payments.v1",
  fields: {
    tenant: { type: "string", nullable: false },
    id: { type: "string", nullable: false },
    at: { type: "long", nullable: false },
    amount: { type: "double", nullable: true },
    online: { type: "boolean", nullable: true },
    labels: { type: "map", nullable: true },
  },
  eventId: "id",
  eventTime: "at",
  partitionKey: "id",
  allowedLatenessMs: 600_000,
  baseMs: 60_000,
};

const row = (
  n: number,
  fates: readonly [string, string, Fate, number | null][],
  more: Partial<ArchiveRow> = {},
): ArchiveRow => ({
  tenant: "default",
  stream: "payments",
  eventId: `e${n}`,
  eventTimeMs: START_MS + n,
  identity: String(n).padStart(16, "0"),
  arrivalMs: START_MS + n + 100,
  shard: "shardId-000000000001",
  sequence: `4959033827149025660855969253836157109592157598913658889${n}`,
  subSequence: n,
  fields: {
    tenant: "default",
    id: `e${n}`,
    at: START_MS + n,
    amount: 0.1 + n,
    online: n % 2 === 0,
    labels: { ü: "😀" },
  },
  fates: fates.map(([entity, id, fate, visibleMs]) => ({ entity, id, fate, visibleMs })),
  ...more,
});

export const goldenRows: readonly ArchiveRow[] = [
  row(1, [
    ["card", 'c "1"', "applied", START_MS + 500],
    ["shop", "s1", "duplicate", START_MS + 400],
  ]),
  row(2, [["card", "c2", "late", null]]),
  row(3, [["card", "c3", "late", null]]),
  row(3, [["card", "c3", "repaired", START_MS + 9_000]]),
  row(4, [["card", "c4", "applied", START_MS + 600]]),
  // Another payload of the same event.
  row(4, [["card", "c4", "duplicate", START_MS + 600]], {
    arrivalMs: START_MS + 700,
    sequence: "5",
    fields: { tenant: "default", id: "e4", at: START_MS + 4, amount: null, online: null, labels: null },
  }),
  row(5, []),
  row(6, [], { identity: null, reason: "event_time_future" }),
  row(7, [], { identity: null, reason: "avro_truncated", eventId: null, eventTimeMs: null, fields: null }),
];
