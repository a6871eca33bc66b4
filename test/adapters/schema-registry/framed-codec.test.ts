/** What producers of other systems write, read as the contract's events: any schema that resolves, and none that does not. */
import avro from "avsc";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { EventCodec, type EventFields } from "../../../adapters/avro/event-codec.ts";
import { framingOf, reframe } from "../../../adapters/avro/framing.ts";
import { FramedCodec } from "../../../adapters/schema-registry/framed-codec.ts";
import type { FoundSchema } from "../../../adapters/schema-registry/schema-registry.ts";
import { InfrastructureError, RecordError } from "../../../core/errors.ts";
import { shipped } from "../../../schemas/shipped.ts";
import { runs } from "../../support/runs.ts";

const codec = EventCodec.for("transactions.v1");
const ID = "confluent-7";
const event: EventFields = {
  ...{ tenant: "default", transaction_id: "t-1", event_time: 1_769_860_800_000, card_id: "c-1", user_id: null },
  ...{ merchant_id: "m-1", amount: 12.5, currency: "EUR", country: "DE", merchant_category: "grocery" },
  ...{ status: "approved", device_id: "d-1", channel: "online" },
};
type Field = { name: string; type: unknown; default?: unknown };
const own: readonly Field[] = shipped["transactions.v1"].at(-1)!.schema.fields;
const record = (fields: readonly Field[]) => ({ type: "record", namespace: "freshet.v1", name: "Transaction", fields });

function reader(schemas: Readonly<Record<string, string | null | undefined>>): FramedCodec {
  return new FramedCodec(codec, {
    learn: async () => {},
    get: (id): FoundSchema | null => (schemas[id] === undefined ? null : { text: schemas[id] }),
  });
}
/** Written with one schema, as the registry has it under `ID`, and read. */
function readAs(schema: object, value: object): EventFields {
  const type = avro.Type.forSchema(schema as avro.Schema, { wrapUnions: false } as object);
  const bytes = reframe(Buffer.concat([Buffer.alloc(10), type.toBuffer(value)]), ID);
  return { ...reader({ [ID]: JSON.stringify(schema) }).decode(bytes).fields };
}
function refusal(run: () => unknown): RecordError {
  try {
    run();
  } catch (error) {
    if (error instanceof RecordError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}
/** By a schema that the registry gives as text. */
const refused = (text: string | null | undefined, bytes: Buffer = reframe(codec.encode(event), ID)) =>
  refusal(() => reader({ [ID]: text }).decode(bytes));

describe("a schema that resolves", () => {
  test("gives the contract's fields in any framing", () => {
    const text = JSON.stringify(codec.schema);
    const ids = [
      "confluent-1",
      "confluent-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0",
      "glue-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0",
    ];
    const framed = reader(Object.fromEntries(ids.map((id) => [id, text])));
    for (const id of ids) {
      for (const compress of [false, true]) {
        const { fields, fingerprint } = framed.decode(reframe(codec.encode(event), id, compress));
        expect({ ...fields }).toEqual(event);
        expect(fingerprint).toBe(codec.fingerprint);
      }
    }
    expect({ ...framed.decode(codec.encode(event)).fields }).toEqual(event);
  });

  test("may be any that was ever shipped, with or without its newer fields", () => {
    const text = fc.string({ unit: "grapheme", maxLength: 20 });
    const long = fc.integer({ min: 0, max: 2 ** 52 });
    const values = fc.record({ text, time: long, amount: fc.double({ noNaN: true, noDefaultInfinity: true }) });
    const cases = Object.entries(shipped).flatMap(([contract, versions]) => versions.map((v) => ({ contract, ...v })));
    fc.assert(
      fc.property(fc.constantFrom(...cases), values, fc.boolean(), ({ contract, schema }, v, compress) => {
        const type = avro.Type.forSchema(schema as unknown as avro.Schema, { wrapUnions: false } as object);
        const sampleOf = (type: unknown): unknown => {
          const bare = Array.isArray(type) ? type.find((branch) => branch !== "null") : type;
          const base = typeof bare === "object" ? bare.type : bare;
          if (base === "map") return { [v.text]: v.text };
          if (base === "string") return v.text;
          return base === "boolean" ? compress : base === "double" ? v.amount : v.time;
        };
        const value = Object.fromEntries(schema.fields.map((field) => [field.name, sampleOf(field.type)]));
        const singleObject = Buffer.concat([Buffer.alloc(10), type.toBuffer(value)]);
        const of = EventCodec.for(contract);
        const framed = new FramedCodec(of, { learn: async () => {}, get: () => ({ text: JSON.stringify(schema) }) });
        const id = "glue-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
        const { fields } = framed.decode(reframe(singleObject, id, compress));
        const defaults = of.schema.fields.map((field) => [field.name, field.default]);
        expect({ ...fields }).toEqual({ ...Object.fromEntries(defaults), ...value });
      }),
    );
  });

  test("may have its fields in another order, more of them, and numbers that widen", () => {
    const more: Field[] = [
      {
        name: "lines",
        type: { type: "array", items: { type: "record", name: "Line", fields: [{ name: "sku", type: "string" }] } },
      },
      { name: "tags", type: { type: "map", values: ["null", "double"] } },
      { name: "kind", type: { type: "enum", name: "Kind", symbols: ["a", "b"] } },
      { name: "mac", type: { type: "fixed", name: "Mac", size: 6 } },
      { name: "flag", type: "boolean" },
      { name: "ratio", type: "float" },
      { name: "nested", type: ["null", { type: "record", name: "Inner", fields: [{ name: "raw", type: "bytes" }] }] },
    ];
    const narrowed = own.map((field) => (field.name === "amount" ? { ...field, type: "int" } : field));
    const schema = record([...more, ...narrowed.toReversed()]);
    const extra = {
      ...{ lines: [{ sku: "1" }, { sku: "2" }], tags: { x: 1.5, y: null }, kind: "b", mac: Buffer.alloc(6, 9) },
      ...{ flag: true, ratio: 0.5, nested: { raw: Buffer.from("raw") } },
    };
    expect(readAs(schema, { ...event, ...extra, amount: 12 })).toEqual({ ...event, amount: 12 });
  });

  test("may have a plain long for a time, and its record's name in one part", () => {
    const plain = own.map((field) => (field.name === "event_time" ? { ...field, type: "long" } : field));
    const { namespace: _, ...schema } = { ...record(plain), name: "freshet.v1.Transaction" };
    expect(readAs(schema, event)).toEqual(event);
  });
});

describe("a schema that does not", () => {
  const changed = (name: string, type: unknown) => own.map((field) => (field.name === name ? { name, type } : field));

  test("because the registry has none is refused, and may be there later", () => {
    const error = refused(undefined);
    expect(error.code).toBe("schema_id_unknown");
    expect(error.message).toBe("the schema registry has no schema confluent-7, or not all that it refers to");
    const schemas: Record<string, string | undefined> = {};
    const framed = reader(schemas);
    const bytes = reframe(codec.encode(event), ID);
    expect(refusal(() => framed.decode(bytes)).code).toBe("schema_id_unknown");
    schemas[ID] = JSON.stringify(codec.schema);
    expect({ ...framed.decode(bytes).fields }).toEqual(event);
  });

  test("because it is of another stream's record says which", () => {
    const error = refused(JSON.stringify(EventCodec.for("clicks.v1").schema));
    expect(error.code).toBe("schema_wrong_record");
    expect(error.message).toBe(
      "schema confluent-7 is of freshet.v1.Click, and this stream's is freshet.v1.Transaction",
    );
    for (const none of [
      '"string"',
      '["null","string"]',
      "null",
      "7",
      '{"type":"enum","name":"Transaction","symbols":["a"]}',
    ]) {
      expect(refused(none).message).toContain("is of no record");
    }
  });

  test.each([
    [
      "lacks a field",
      own.filter(({ name }) => name !== "card_id"),
      "card_id",
      "schema confluent-7 lacks field card_id, for which the contract has no default",
    ],
    [
      "has another type",
      changed("amount", "string"),
      "amount",
      "schema confluent-7 writes field amount as string, which cannot be read as double",
    ],
    [
      "may be null",
      changed("card_id", ["null", "string"]),
      "card_id",
      "schema confluent-7 writes field card_id as null or string, which cannot be read as string",
    ],
    [
      "counts microseconds",
      changed("event_time", { type: "long", logicalType: "timestamp-micros" }),
      "event_time",
      "schema confluent-7 writes field event_time as long (timestamp-micros), which cannot be read as long (timestamp-millis)",
    ],
  ])("because it %s names the field", (_, fields, field, message) => {
    const error = refused(JSON.stringify(record(fields)));
    expect([error.code, error.field, error.message]).toEqual(["schema_incompatible", field, message]);
  });

  test("because it is no schema at all is unreadable, however it is broken", () => {
    const deep = `${'{"type":'.repeat(50_000)}"string"${"}".repeat(50_000)}`;
    const broken: [string | null, string][] = [
      [null, "schema confluent-7 is not Avro, or of schemas that do not fit together"],
      ["<html>", "schema confluent-7 is no JSON"],
      [JSON.stringify(record([...own, { name: "x", type: "freshet.v1.Elsewhere" }])), "is no Avro schema"],
      [JSON.stringify(record([...own, { name: "x); process.exit(1); (", type: "string" }])), "is no Avro schema"],
      [JSON.stringify(record([...own, own[0]])), "is no Avro schema"],
      [
        JSON.stringify(record(own)).replace('"fields":[', `"fields":[{"name":"deep","type":${deep}},`),
        "is no Avro schema",
      ],
      [JSON.stringify({ ...record(own), doc: "x".repeat(600_000) }), "is larger than 524288 bytes"],
    ];
    for (const [text, message] of broken) {
      const error = refused(text);
      expect(error.code).toBe("schema_unreadable");
      expect(error.message).toContain(message);
    }
  });

  test("because it lets nine bytes claim work without end is unreadable", () => {
    const nothing = { type: "record", name: "Nothing", fields: [{ name: "n", type: "null" }] };
    for (const items of ["null", nothing, { type: "fixed", name: "F", size: 0 }]) {
      const fields = [{ name: "bomb", type: { type: "array", items } }, ...own];
      expect(refused(JSON.stringify(record(fields))).message).toContain("has an array whose items take no byte");
    }
  });
});

describe("bytes of a schema that resolves", () => {
  const fields = [
    { name: "list", type: { type: "array", items: "string" } },
    { name: "map", type: { type: "map", values: "string" } },
    ...own,
  ];
  const text = JSON.stringify(record(fields));
  const bytes = (hex: string) => reframe(Buffer.concat([Buffer.alloc(10), Buffer.from(hex, "hex")]), ID);

  test("end where a block would go back to its own beginning", () => {
    // A block of one item that takes -3 bytes: count -1 (01), size -3 (05).
    for (const hex of ["0105", "00".concat("0105")]) {
      const error = refused(text, bytes(`${hex}${"00".repeat(40)}`));
      expect([error.code, error.message]).toEqual(["avro_invalid", "a block has a negative length"]);
    }
  });

  test("end where a block claims more than there is", () => {
    for (const hex of ["01ffffff07", "feffffffffffffffff01", "fe0f"]) {
      expect(refused(text, bytes(hex)).code).toMatch(/^avro_(truncated|invalid)$/);
    }
  });

  test("may be anything, and either decode or are refused", () => {
    const framed = reader({ [ID]: text });
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (body) => {
        try {
          framed.decode(bytes(Buffer.from(body).toString("hex")));
        } catch (error) {
          expect(error).toBeInstanceOf(RecordError);
        }
      }),
      { numRuns: runs(2_000) },
    );
  });

  test("that are cut or followed by others are told apart", () => {
    const whole = reframe(codec.encode(event), ID);
    const framed = reader({ [ID]: JSON.stringify(codec.schema) });
    for (let length = framingOf(whole)!.bodyStart; length < whole.length; length++) {
      expect(refusal(() => framed.decode(whole.subarray(0, length))).code).toBe("avro_truncated");
    }
    expect(refusal(() => framed.decode(Buffer.concat([whole, Buffer.alloc(2)]))).message).toBe(
      "2 bytes follow the end of the record",
    );
  });
});

test("a registry that was not asked is no registry that has nothing", () => {
  const framed = new FramedCodec(codec, {
    learn: async () => {},
    get: () => {
      throw new InfrastructureError("schema_registry_unavailable", "not asked");
    },
  });
  expect(() => framed.decode(reframe(codec.encode(event), ID))).toThrow(InfrastructureError);
});

test("only ids whose schema is not known yet are learnt, once each", async () => {
  const asked: string[][] = [];
  const framed = new FramedCodec(codec, {
    learn: async (ids) => void asked.push([...ids]),
    get: () => ({ text: JSON.stringify(codec.schema) }),
  });
  const bytes = codec.encode(event);
  const batch = [bytes, reframe(bytes, ID), reframe(bytes, ID), reframe(bytes, "confluent-8")];
  await framed.learn(batch);
  for (const one of batch) framed.decode(one);
  await framed.learn(batch);
  await framed.learn([bytes]);
  expect(asked).toEqual([[ID, "confluent-8"]]);
});
