import fc from "fast-check";
import { expect, test } from "vitest";
import { findConflicts, type SeenEvent } from "../../../../functions/shared/aggregation/identity-conflicts.ts";

const event = (eventId: string, eventTimeMs: number, amount: number, tenant = "a"): SeenEvent => ({
  tenant,
  eventId,
  eventTimeMs,
  fields: { transaction_id: eventId, event_time: eventTimeMs, amount, tags: { channel: "web" } },
});
const NONE = { times: 0, payloads: 0, eventIds: [] };

test("an event that is sent again as it was is no conflict", () => {
  expect(findConflicts([event("t1", 1, 10), event("t1", 1, 10), event("t2", 1, 10)])).toEqual(NONE);
});

test("one id with another time makes two events of one", () => {
  expect(findConflicts([event("t1", 1, 10), event("t1", 2, 10)])).toEqual({ times: 1, payloads: 0, eventIds: ["t1"] });
});

test("one identity with another payload", () => {
  expect(findConflicts([event("t1", 1, 10), event("t1", 1, 11)])).toEqual({ times: 0, payloads: 1, eventIds: ["t1"] });
});

test("what ingest looked up may differ when an event is sent again: its producer is not at fault", () => {
  expect(findConflicts([event("t1", 1, 10), event("t1", 1, 11)], ["amount"])).toEqual(NONE);
  const other = { ...event("t1", 1, 11), fields: { ...event("t1", 1, 11).fields, tags: {} } };
  expect(findConflicts([event("t1", 1, 10), other], ["amount"]).payloads).toBe(1);
});

test("ids of two tenants have nothing to do with each other", () => {
  expect(findConflicts([event("t1", 1, 10, "a"), event("t1", 2, 11, "b")])).toEqual(NONE);
});

test("a producer that does so all the time has some ids told, not all", () => {
  const found = findConflicts(Array.from({ length: 100 }, (_, i) => event(`t${i % 50}`, i, 10)));
  expect([found.times, found.eventIds.length]).toEqual([50, 5]);
});

test("is what comparing every event with the first of its id finds", () => {
  const anyEvent = fc
    .record({
      id: fc.constantFrom("x", "y", "z"),
      time: fc.nat(1),
      amount: fc.nat(1),
      tenant: fc.constantFrom("a", "b"),
    })
    .map(({ id, time, amount, tenant }) => event(id, time, amount, tenant));
  fc.assert(
    fc.property(fc.array(anyEvent), (events) => {
      const firstOf = (one: SeenEvent) =>
        events.find(({ tenant, eventId }) => tenant === one.tenant && eventId === one.eventId)!;
      const times = events.filter((one) => firstOf(one).eventTimeMs !== one.eventTimeMs).length;
      const payloads = events.filter(
        (one) => firstOf(one).eventTimeMs === one.eventTimeMs && firstOf(one).fields["amount"] !== one.fields["amount"],
      ).length;
      const found = findConflicts(events);
      expect([found.times, found.payloads]).toEqual([times, payloads]);
    }),
    { seed: 20_260_105 },
  );
});
