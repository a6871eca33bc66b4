/** What stays of an event: everything that others are computed from, and nothing of whom it is about. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { hash64 } from "../../adapters/hash.ts";
import { type ErasableRow, erasedBeforeMs, rowEraser } from "../../core/erasure.ts";
import { compileGroups } from "../../core/event.ts";
import { plan as appPlan } from "../../features/plan.ts";
import { plan } from "../support/fixture-plan.ts";
import { runs } from "../support/runs.ts";

const [payments] = plan.streams;
const text = (prefix: string) => fc.nat(3).map((n) => `${prefix}-${n}`);
const row = fc.record({
  fields: fc.record({
    tenant: fc.constant("t"),
    id: fc.nat(99).map((n) => `payment-${n}`),
    at: fc.nat(1_000_000),
    card: text("card"),
    shop: fc.option(text("shop")),
    amount: fc.option(fc.integer({ min: -1e6, max: 1e6 }).map((n) => n / 100)),
    country: fc.constantFrom("NO", "SE", null),
    online: fc.option(fc.boolean()),
  }),
});

function rowOf(fields: Readonly<Record<string, unknown>>, reason?: string): ErasableRow {
  const eventId = fields["id"] as string;
  const fates = ["card", "shop"].flatMap((entity) =>
    typeof fields[entity] === "string" ? [{ entity, id: fields[entity] as string }] : [],
  );
  return {
    eventId,
    eventTimeMs: fields["at"] as number,
    identity: hash64(`t/payments/${fields["at"]}/${eventId}`),
    fields,
    fates,
    ...(reason === undefined ? {} : { reason }),
  };
}

describe("a row of the archive", () => {
  it("gives other entities what it gave them, but for the key of the erased one, and names neither it nor the event", () => {
    const readers = compileGroups(plan, "payments", hash64).filter(({ group }) => group.entity === "shop");
    fc.assert(
      fc.property(row, text("card"), fc.integer({ min: 0, max: 1_100_000 }), ({ fields }, id, beforeMs) => {
        const before = rowOf(fields);
        const after = rowEraser(plan, payments, { subjects: [{ entity: "card", id }], beforeMs })(before);
        if (fields.card !== id || fields.at >= beforeMs) {
          expect(after).toBe(before);
          return;
        }
        if (fields.shop === null) {
          expect(after).toBeNull();
          return;
        }
        expect(after).toMatchObject({ identity: before.identity, eventTimeMs: fields.at });
        expect(after!.fates).toEqual(before.fates.filter(({ entity }) => entity !== "card"));
        for (const { group, channels, joinKey } of readers) {
          expect(after!.fields![joinKey]).toBe(fields.shop);
          channels.forEach((read, c) => {
            const expected = group.channels[c].input.field === "card" ? null : read(fields);
            expect(read(after!.fields!)).toEqual(expected);
          });
        }
        const left = JSON.stringify(after);
        expect(left).not.toContain(`"${id}"`);
        expect(left).not.toContain(before.eventId!);
        // No feature of a shop is computed from these two.
        expect(after!.fields).toMatchObject({ country: null, online: null, id: before.identity });
      }),
      { seed: 20_261, numRuns: runs(500) },
    );
  });

  it("is gone where every entity in it is erased, and where it was refused", () => {
    const erase = rowEraser(plan, payments, {
      subjects: [
        { entity: "card", id: "card-1" },
        { entity: "shop", id: "shop-1" },
      ],
      beforeMs: 10,
    });
    const fields = { tenant: "t", id: "p", at: 1, card: "card-1", shop: "shop-1", amount: 1 };
    expect(erase(rowOf(fields))).toBeNull();
    expect(erase(rowOf({ ...fields, shop: "shop-2" }, "number_too_large"))).toBeNull();
    // A time that cannot be told is no reason to keep it.
    expect(erase({ ...rowOf(fields, "event_time_invalid"), eventTimeMs: null })).toBeNull();
    expect(erase(rowOf({ ...fields, shop: "shop-2" }))).toMatchObject({ fields: { shop: "shop-2", amount: 1 } });
  });

  it("erased again is the same", () => {
    const erase = rowEraser(plan, payments, { subjects: [{ entity: "card", id: "card-1" }], beforeMs: 10 });
    const once = erase(rowOf({ tenant: "t", id: "p", at: 1, card: "card-1", shop: "shop-2", amount: 1 }))!;
    expect(erase(once)).toBe(once);
  });
});

describe("an outcome that names an erased event", () => {
  const labels = appPlan.streams.find(({ name }) => name === "labels")!;
  const fields = {
    ...{ tenant: "t", label_id: "l1", transaction_id: "tx1", event_time: 5, is_fraud: true },
    ...{ source: "chargeback", reason: "10.4" },
  };
  const label = { eventId: "l1", eventTimeMs: 5, identity: "0123456789abcdef", fields, fates: [] };
  const terms = {
    subjects: [{ entity: "card", id: "c1" }],
    beforeMs: 1,
    events: new Map([["transaction_id", new Map([["tx1", "feedfeedfeedfeed"]])]]),
  };

  it("names it as the event itself is named now, for queries about others, and by nothing that training joins on", () => {
    const erase = rowEraser(appPlan, labels, terms);
    expect(erase(label)).toEqual({
      ...label,
      eventId: "erased:0123456789abcdef",
      fields: {
        ...{ tenant: "t", label_id: "0123456789abcdef", transaction_id: "feedfeedfeedfeed", event_time: 5 },
        ...{ is_fraud: true, source: "chargeback", reason: null },
      },
    });
    const other = { ...label, fields: { ...fields, transaction_id: "tx2" } };
    expect(erase(other)).toBe(other);
  });
});

it("the cut-off begins a tile of every stream, after all that may have happened", () => {
  expect(erasedBeforeMs(plan, 90_000, 60_000)).toBe(180_000);
  expect(erasedBeforeMs(plan, 60_000, 60_000)).toBe(180_000);
});
