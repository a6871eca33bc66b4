import { describe, expect, test } from "vitest";
import { count, entity, eq, featureView, stream, sum } from "../../core/definition.ts";
import { contracts } from "../../schemas/contracts.ts";

const card = entity("card", { joinKey: "card_id" });
const transactions = stream("transactions", {
  schema: "transactions.v1",
  eventId: "transaction_id",
  eventTime: "event_time",
  partitionKey: "card_id",
});

describe("a definition over a field that the contract lacks", () => {
  const view = { entity: card, source: transactions, ttl: "2d", owner: "test", description: "test" } as const;

  // Each directive is itself a check: `tsc` refuses one that is above a line which compiles.
  test("does not compile", () => {
    // @ts-expect-error amuont is no field
    featureView("a", { ...view, features: { x: sum("amuont", { scale: 2 }).over("1h") } });
    // @ts-expect-error amuont is no field
    featureView("c", { ...view, features: { x: count({ where: eq("amuont", 1) }).over("1h") } });
    featureView("d", { ...view, features: { x: sum("amount", { scale: 2 }).over("1h") } });
    stream("e", {
      schema: "transactions.v1",
      eventId: "transaction_id",
      eventTime: "event_time",
      // @ts-expect-error card is no field of the contract
      partitionKey: "card",
    });
    expect(Object.keys(contracts)).toEqual(["clicks.v1", "feature_events.v1", "labels.v1", "transactions.v1"]);
  });
});
