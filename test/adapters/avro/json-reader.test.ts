import { describe, expect, test } from "vitest";
import { EventCodec } from "../../../adapters/avro/event-codec.ts";
import { RecordError } from "../../../core/errors.ts";

const transactions = EventCodec.for("transactions.v1");
const event = {
  tenant: "default",
  transaction_id: "tx-1",
  event_time: 1_767_225_600_000,
  card_id: "card_1",
  merchant_id: "m_1",
  amount: 10,
  currency: "EUR",
  country: "DE",
  merchant_category: "grocery",
  status: "approved",
};

function errorOf(json: unknown, contract = "transactions.v1"): RecordError {
  try {
    EventCodec.for(contract).fromJson(json);
  } catch (error) {
    if (error instanceof RecordError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

test("defaults are filled in, in the contract's order", () => {
  const fields = transactions.fromJson(event);
  expect(fields).toEqual({ ...event, user_id: null, device_id: null, channel: "unknown" });
  expect(Object.keys(fields)).toEqual(Object.keys(transactions.contract.fields));
});

describe("refused", () => {
  const cases: [string, unknown, string, string | undefined, string][] = [
    [
      "an array",
      [event],
      "not_an_object",
      undefined,
      "an event of transactions.v1 must be a JSON object, got an array",
    ],
    ["null", null, "not_an_object", undefined, "an event of transactions.v1 must be a JSON object, got null"],
    [
      "a string for a number",
      { ...event, amount: "12.50" },
      "wrong_type",
      "amount",
      "field amount must be a number, got string",
    ],
    [
      "a number for a string",
      { ...event, card_id: 4111 },
      "wrong_type",
      "card_id",
      "field card_id must be a string, got number",
    ],
    [
      "null where it must be given",
      { ...event, card_id: null },
      "field_missing",
      "card_id",
      "field card_id of transactions.v1 must be given",
    ],
    [
      "a missing field",
      { ...event, card_id: undefined },
      "field_missing",
      "card_id",
      "field card_id of transactions.v1 must be given",
    ],
    ["an unknown field", { ...event, amuont: 1 }, "field_unknown", "amuont", 'transactions.v1 has no field "amuont"'],
    [
      "a field of every object",
      JSON.parse('{"__proto__":1}'),
      "field_unknown",
      "__proto__",
      'transactions.v1 has no field "__proto__"',
    ],
    [
      "a number that JSON.parse makes infinite",
      JSON.parse(JSON.stringify(event).replace('"amount":10', '"amount":1e999')),
      "number_not_finite",
      "amount",
      "field amount is NaN or infinite, or too large for a double",
    ],
    [
      "half a surrogate pair",
      { ...event, merchant_id: "m\ud800" },
      "text_invalid",
      "merchant_id",
      "merchant_id is not valid Unicode text: it holds half a surrogate pair",
    ],
  ];
  test.each(cases)("%s", (_, json, code, field, message) => {
    const error = errorOf(json);
    expect([error.code, error.field, error.message]).toEqual([code, field, message]);
    expect(error.repair).toMatch(/\w/);
  });

  test("an integer that JSON.parse has rounded", () => {
    const click = { tenant: "default", click_id: "c", event_time: 1, user_id: "u", item_id: "i", action: "view" };
    const error = errorOf({ ...click, dwell_ms: JSON.parse("9007199254740993") }, "clicks.v1");
    expect([error.code, error.field]).toEqual(["number_too_large", "dwell_ms"]);
    expect(errorOf({ ...click, dwell_ms: 1.5 }, "clicks.v1").message).toBe(
      "field dwell_ms must be an integer, or null, got fractional number",
    );
  });

  test("a map with a value that is no string", () => {
    const push = { tenant: "default", event_id: "e", entity_id: "x", event_type: "t", timestamp: 1 };
    const error = errorOf({ ...push, metadata: { a: "b", c: 1 } }, "feature_events.v1");
    expect(error.message).toBe(
      "field metadata must be an object whose values are strings, got object; the value of one key is number",
    );
    expect(EventCodec.for("feature_events.v1").fromJson(push).metadata).toEqual({});
  });

  test("never with the value in the message", () => {
    const secrets = {
      amount: "4111111111111111",
      card_id: { pan: "4111111111111111" },
      event_time: "4111111111111111",
    };
    for (const [name, value] of Object.entries(secrets)) {
      const error = errorOf({ ...event, [name]: value });
      expect(`${error.message} ${error.repair} ${error.cause}`).not.toContain("4111");
    }
  });
});

describe("times", () => {
  test.each([
    [1_767_225_600_123, 1_767_225_600_123],
    ["2026-01-01T00:00:00.123Z", 1_767_225_600_123],
    ["2026-01-01T01:30:00.123+01:30", 1_767_225_600_123],
    ["2026-01-01T00:00Z", 1_767_225_600_000],
    ["2026-01-01T00:00:00.123456789Z", 1_767_225_600_123],
  ])("%s is read", (given, expected) => {
    expect(transactions.fromJson({ ...event, event_time: given }).event_time).toBe(expected);
  });

  test.each([
    ["without a zone", "2026-01-01T00:00:00"],
    ["on a day that does not exist", "2026-02-30T00:00:00Z"],
    ["at 25 o'clock", "2026-01-01T25:00:00Z"],
    ["as a bare date", "2026-01-01"],
    ["before 1970", -1],
    ["in microseconds", 1_767_225_600_123_000],
    ["with half a millisecond", 1_767_225_600_123.5],
    ["of a number in a string", "1767225600123"],
  ])("%s is refused", (_, given) => {
    const error = errorOf({ ...event, event_time: given });
    expect([error.code, error.field]).toEqual(["event_time_invalid", "event_time"]);
    expect(error.repair).toBe("send integer epoch milliseconds, or ISO 8601 with a zone, as 2026-01-31T12:00:00.000Z");
  });
});
