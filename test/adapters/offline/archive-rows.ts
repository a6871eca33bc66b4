/** Arbitrary archives of the fixture plan's stream, as deliveries, zombies, repairs and producers' mistakes could leave them. */
import fc from "fast-check";
import type { ArchiveRow, EntityFate } from "../../../adapters/archive/archive-format.ts";
import { hash64 } from "../../../adapters/hash.ts";
import { identityText } from "../../../core/event.ts";
import { plan } from "../../support/fixture-plan.ts";

/** The fixture plan once it has another entity, which no row names yet. */
export const withRegion = {
  ...plan,
  entities: [...plan.entities, { name: "region", joinKey: "country", description: "" }],
};
export const HOUR_MS = 3_600_000;
export const START_MS = Date.UTC(2026, 10, 20, 22);

const text = fc.oneof(
  fc.constantFrom("", "NO", "ü€😀", 'a"b\\c', "null", "x\u0000y", "\n"),
  fc.string({ unit: "grapheme", maxLength: 6 }),
);
const amount = fc.oneof(
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.constantFrom(0, -0, 0.1, 1e21, 5e-324, 1.7976931348623157e308, 12.35),
);
const payload = fc.record({
  card: fc.constantFrom("c1", "c2", 'c"3'),
  shop: fc.constantFrom(null, "s1", "s2"),
  amount: fc.option(amount),
  country: fc.option(text),
  online: fc.option(fc.boolean()),
});

const event = fc.record({
  id: fc.constantFrom("e1", "e2", "ë3", "e4", "e5"),
  minute: fc.integer({ min: 0, max: 180 }),
  payloads: fc.array(payload, { minLength: 1, maxLength: 2 }),
  /** Of each entity: late events have no visible time until they are repaired. */
  sealed: fc.record({ card: fc.boolean(), shop: fc.boolean() }),
  visibleMs: fc.record({ card: fc.integer({ min: 1, max: 9 }), shop: fc.integer({ min: 1, max: 9 }) }),
  repairs: fc.array(fc.constantFrom("card", "shop"), { maxLength: 2 }),
  deliveries: fc.array(
    fc.record({
      payload: fc.nat({ max: 1 }),
      delayMs: fc.oneof(fc.integer({ min: -60_000, max: 5_000 }), fc.integer({ min: 0, max: 5 * HOUR_MS })),
      shard: fc.constantFrom("shardId-000000000000", "shardId-000000000001"),
      sequence: fc.integer({ min: 1, max: 120 }),
      subSequence: fc.nat({ max: 2 }),
      /** The plan of the code that took it: before the shop had a view, with both, or before either. */
      plan: fc.constantFrom("both", "both", "card", "none"),
      /** It came after the seal: late for all. */
      sealed: fc.constantFrom(false, false, false, true),
    }),
    { minLength: 1, maxLength: 5 },
  ),
  quarantined: fc.boolean(),
});

type Drawn = typeof event extends fc.Arbitrary<infer T> ? T : never;

function rowsOf(drawn: Drawn): ArchiveRow[] {
  const eventTimeMs = START_MS + drawn.minute * 60_000;
  const identity = hash64(identityText("default", "payments", eventTimeMs, drawn.id));
  const applied = new Set<string>();
  const rows = drawn.deliveries.map((delivery): ArchiveRow => {
    const chosen = drawn.payloads[delivery.payload % drawn.payloads.length]!;
    const fates: EntityFate[] = [];
    for (const entity of ["card", "shop"] as const) {
      const id = chosen[entity];
      if (id === null || delivery.plan === "none" || (delivery.plan === "card" && entity === "shop")) continue;
      const key = `${entity}/${id}`;
      if (drawn.sealed[entity] || delivery.sealed) fates.push({ entity, id, fate: "late", visibleMs: null });
      else {
        const visibleMs = eventTimeMs + drawn.visibleMs[entity] + (id.endsWith("2") ? 3 : 0);
        fates.push({ entity, id, fate: applied.has(key) ? "duplicate" : "applied", visibleMs });
        applied.add(key);
      }
    }
    return {
      tenant: "default",
      stream: "payments",
      eventId: drawn.id,
      eventTimeMs,
      identity,
      arrivalMs: eventTimeMs + delivery.delayMs,
      shard: delivery.shard,
      sequence: `4959033827149025660855969${delivery.sequence}`,
      subSequence: delivery.subSequence,
      fields: { tenant: "default", id: drawn.id, at: eventTimeMs, ...chosen },
      fates,
    };
  });
  // A repair's row names what the delivery's row names, with the fate that it changed.
  const repaired = drawn.repairs.flatMap((entity, round) =>
    rows
      .filter((row) => row.fates.some((fate) => fate.entity === entity && fate.fate === "late"))
      .map((row) => ({
        ...row,
        fates: row.fates.map((fate): EntityFate => {
          if (fate.entity !== entity) return fate;
          return { ...fate, fate: "repaired", visibleMs: eventTimeMs + HOUR_MS + round };
        }),
      })),
  );
  const refused = drawn.quarantined
    ? rows.slice(0, 1).map((row) => ({ ...row, identity: null, fates: [], reason: "number_too_large", sequence: "77" }))
    : [];
  return [...rows, ...repaired, ...refused];
}

/** Each delivery of an identity has one payload: the same sequence is the same record. */
const consistent = (rows: readonly ArchiveRow[]): boolean => {
  const seen = new Map<string, string>();
  return rows.every((row) => {
    const key = [row.arrivalMs, row.shard, row.sequence, row.subSequence, row.identity].join();
    const content = JSON.stringify(row.fields);
    const before = seen.get(key) ?? content;
    seen.set(key, content);
    return before === content;
  });
};

/** Rows in no order, some of them twice: an invocation that was retried writes its rows again. */
export const archiveRows: fc.Arbitrary<ArchiveRow[]> = fc
  .uniqueArray(event, { minLength: 1, maxLength: 8, selector: ({ id, minute }) => `${id}/${minute}` })
  .map((events) => events.flatMap(rowsOf))
  .filter(consistent)
  .chain((rows) => fc.tuple(fc.constant(rows), fc.subarray(rows), fc.nat({ max: 1 << 20 })))
  .map(([rows, again, seed]) => {
    const all = [...rows, ...again];
    return all
      .map((row, i) => ({ row, at: hash64(`${seed}/${i}`) }))
      .sort((a, b) => (a.at < b.at ? -1 : 1))
      .map(({ row }) => row);
  });
