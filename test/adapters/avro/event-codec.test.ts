import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { EventCodec, type EventFields, encodeHeartbeat, isHeartbeat } from "../../../adapters/avro/event-codec.ts";
import { fingerprintOf, type RecordSchema } from "../../../adapters/avro/fingerprint.ts";
import { RecordError } from "../../../core/errors.ts";
import { shipped } from "../../../schemas/shipped.ts";
import { runs } from "../../support/runs.ts";

interface Golden {
  readonly contract: string;
  readonly revision: number;
  readonly fingerprint: string;
  readonly hex: string;
  readonly written: EventFields;
}
const golden: Golden[] = JSON.parse(
  readFileSync(new URL("../../fixtures/golden/events.json", import.meta.url), "utf8"),
);
const goldenOf = (contract: string, revision: number) => {
  const found = golden.find((g) => g.contract === contract && g.revision === revision);
  if (found === undefined) throw new Error(`no golden bytes for ${contract} revision ${revision}`);
  return found;
};
const transactions = EventCodec.for("transactions.v1");
const newest = goldenOf("transactions.v1", 2);

function errorOf(run: () => unknown): RecordError {
  try {
    run();
  } catch (error) {
    if (error instanceof RecordError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

describe("golden bytes", () => {
  test("hold every schema ever shipped", () => {
    const all = Object.entries(shipped).flatMap(([contract, versions]) =>
      versions.map((v) => `${contract} ${v.revision} ${v.fingerprint}`),
    );
    expect(golden.map((g) => `${g.contract} ${g.revision} ${g.fingerprint}`).sort()).toEqual(all.sort());
  });

  test.each(golden)("$contract revision $revision decodes, resolved to the newest schema", (g) => {
    const { fields, fingerprint } = EventCodec.for(g.contract).decode(Buffer.from(g.hex, "hex"));
    const added: Record<string, EventFields> = {
      "transactions.v1 1": { device_id: null, channel: "unknown" },
      "clicks.v1 1": { dwell_ms: null, position: null, impression_id: null, category: null },
      "clicks.v1 2": { impression_id: null, category: null },
    };
    expect({ ...fields }).toEqual({ ...g.written, ...added[`${g.contract} ${g.revision}`] });
    expect(fingerprint).toBe(g.fingerprint);
  });

  test.each(golden.filter((g) => shipped[g.contract].at(-1)?.revision === g.revision))(
    "$contract is encoded to the same bytes",
    (g) => expect(EventCodec.for(g.contract).encode(g.written).toString("hex")).toBe(g.hex),
  );
});

test("the fingerprint is CRC-64-AVRO, by the specification's own vectors", () => {
  // Avro's lang/java test data: fingerprints of the primitive schemas.
  expect(fingerprintOf("int" as unknown as RecordSchema)).toBe("7275d51a3f395c8f");
  expect(fingerprintOf("null" as unknown as RecordSchema)).toBe("63dd24e7cc258f8a");
});

describe("bytes that are no event", () => {
  const bytes = Buffer.from(newest.hex, "hex");

  test("every proper prefix is truncated, or too short for a header", () => {
    for (let length = 0; length < bytes.length; length++) {
      const { code } = errorOf(() => transactions.decode(bytes.subarray(0, length)));
      expect(code, `prefix of ${length} bytes`).toBe(length < 10 ? "not_single_object" : "avro_truncated");
    }
  });

  test("trailing bytes are counted", () => {
    const error = errorOf(() => transactions.decode(Buffer.concat([bytes, Buffer.from([0, 0])])));
    expect(error.code).toBe("avro_trailing");
    expect(error.message).toBe("2 bytes follow the end of the record");
  });

  test("an unknown fingerprint is named", () => {
    const other = Buffer.from(bytes);
    other.writeBigUInt64LE(0x0123456789abcdefn, 2);
    const error = errorOf(() => transactions.decode(other));
    expect(error.code).toBe("schema_unknown");
    expect(error.message).toBe("no shipped schema of transactions.v1 has fingerprint 0123456789abcdef");
  });

  test("another contract's event is an unknown schema, not a misread one", () => {
    const click = Buffer.from(goldenOf("clicks.v1", 2).hex, "hex");
    expect(errorOf(() => transactions.decode(click)).code).toBe("schema_unknown");
  });

  test("JSON is refused by its first bytes", () => {
    const error = errorOf(() => transactions.decode(Buffer.from('{"transaction_id":"secret-17"}')));
    expect(error.code).toBe("not_single_object");
    expect(error.message).toContain("starts with 7b22");
    expect(error.message).not.toContain("secret");
  });

  test("an integer beyond 2^53 loses precision", () => {
    const click = Buffer.from(goldenOf("clicks.v1", 2).hex, "hex");
    // position is the last field: union index 1 and the long 0; put 2^62 in its place.
    const wide = Buffer.concat([click.subarray(0, -1), Buffer.from("80808080808080808001", "hex")]);
    expect(errorOf(() => EventCodec.for("clicks.v1").decode(wide)).code).toBe("precision_loss");
  });

  test("a union index that the schema lacks is invalid", () => {
    const click = Buffer.from(goldenOf("clicks.v1", 2).hex, "hex");
    click[click.length - 2] = 6;
    expect(errorOf(() => EventCodec.for("clicks.v1").decode(click)).code).toBe("avro_invalid");
  });

  test("text that is no UTF-8 is refused, and a real replacement character is not", () => {
    const bytes = transactions.encode({ ...newest.written, merchant_id: "m\ufffd" });
    expect(transactions.decode(bytes).fields.merchant_id).toBe("m\ufffd");
    bytes[bytes.indexOf(Buffer.from("ef bf bd".replaceAll(" ", ""), "hex"))] = 0xff;
    expect(errorOf(() => transactions.decode(bytes)).message).toBe("a string is no valid UTF-8");
  });

  test("a map that claims 2^50 entries ends at the bytes' end", () => {
    const codec = EventCodec.for("feature_events.v1");
    const bytes = codec.encode({ ...goldenOf("feature_events.v1", 1).written, metadata: {} });
    const forged = Buffer.concat([bytes.subarray(0, -1), Buffer.from("80808080808080 04".replace(" ", ""), "hex")]);
    expect(errorOf(() => codec.decode(forged)).code).toBe("avro_truncated");
  });

  test("any bytes either decode or give a RecordError", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), fc.constantFrom(...golden), (body, g) => {
        const bytes = Buffer.concat([Buffer.from(g.hex.slice(0, 20), "hex"), body]);
        try {
          EventCodec.for(g.contract).decode(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(RecordError);
        }
      }),
      { seed: 20261121, numRuns: runs(3000) },
    );
  });

  test("one flipped byte never gives anything but a decoded event or a RecordError", () => {
    for (const g of golden) {
      for (let at = 0; at < g.hex.length / 2; at++) {
        const bytes = Buffer.from(g.hex, "hex");
        bytes[at] ^= 0xff;
        try {
          EventCodec.for(g.contract).decode(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(RecordError);
        }
      }
    }
  });
});

test("what is encoded is what is decoded", () => {
  const text = fc.string({ unit: "grapheme", maxLength: 40 });
  const event = fc.record({
    tenant: text,
    transaction_id: text,
    event_time: fc.integer({ min: 0, max: 253_402_300_799_999 }),
    card_id: text,
    user_id: fc.option(text),
    merchant_id: text,
    amount: fc.double({ noNaN: true, noDefaultInfinity: true }),
    currency: text,
    country: text,
    merchant_category: text,
    status: text,
    device_id: fc.option(text),
    channel: text,
  });
  fc.assert(
    fc.property(event, (fields) => {
      expect({ ...transactions.decode(transactions.encode(fields)).fields }).toEqual(fields);
      expect(transactions.fromJson(JSON.parse(JSON.stringify(fields)))).toEqual({
        ...fields,
        amount: fields.amount === 0 ? 0 : fields.amount,
      });
    }),
    { seed: 20261121 },
  );
});

test("an event larger than the scratch buffer is encoded whole", () => {
  const fields = { ...newest.written, merchant_category: "x".repeat(300_000) };
  expect({ ...transactions.decode(transactions.encode(fields)).fields }).toEqual(fields);
});

describe("encode", () => {
  const cases: [string, EventFields, string, string][] = [
    ["a missing field", { ...newest.written, card_id: undefined as never }, "field_missing", "card_id"],
    ["a wrong type", { ...newest.written, amount: "12" }, "wrong_type", "amount"],
    ["half a millisecond", { ...newest.written, event_time: 1.5 }, "event_time_invalid", "event_time"],
  ];
  test.each(cases)("refuses %s", (_, fields, code, field) => {
    const error = errorOf(() => transactions.encode(fields));
    expect([error.code, error.field]).toEqual([code, field]);
  });
});

test("a contract that does not exist is refused with those that do", () => {
  expect(() => EventCodec.for("orders.v1")).toThrow(
    "no contract is named orders.v1; there are clicks.v1, feature_events.v1, labels.v1, transactions.v1",
  );
});

describe("heartbeats", () => {
  test("are told from events", () => {
    const beat = encodeHeartbeat(1_767_225_600_000);
    expect(beat.toString("hex")).toBe("c301465253484245415400a8da769b010000");
    expect(isHeartbeat(beat)).toBe(true);
    expect(golden.filter((g) => isHeartbeat(Buffer.from(g.hex, "hex")))).toEqual([]);
    expect(isHeartbeat(beat.subarray(0, 17))).toBe(false);
  });

  test("use a fingerprint that no shipped schema has", () => {
    const reserved = Buffer.from(encodeHeartbeat(0).subarray(2, 10)).reverse().toString("hex");
    const all = Object.values(shipped).flatMap((versions) => versions.map((v) => v.fingerprint));
    expect(all).not.toContain(reserved);
  });
});
