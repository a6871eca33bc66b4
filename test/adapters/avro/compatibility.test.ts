import { describe, expect, test } from "vitest";
import {
  COMPATIBILITY_MODES,
  type CompatibilityMode,
  incompatibilities,
} from "../../../adapters/avro/compatibility.ts";
import { parseSchema, type RecordSchema, type SchemaField } from "../../../adapters/avro/fingerprint.ts";

const record = (...fields: SchemaField[]): RecordSchema => ({
  type: "record",
  namespace: "test",
  name: "Event",
  fields,
});
const id = { name: "id", type: "string" };
const amount = { name: "amount", type: "double" };
const note = { name: "note", type: ["null", "string"], default: null };
const time = { name: "time", type: { type: "long", logicalType: "timestamp-millis" } };
const plain = { name: "time", type: "long" };

const shippedAs = (...schemas: RecordSchema[]) => schemas.map((schema, i) => ({ revision: i + 1, schema }));
const codes = (current: RecordSchema, before: RecordSchema, mode: CompatibilityMode) =>
  incompatibilities(current, shippedAs(before), mode).map(({ code, field }) => `${code} ${field ?? ""}`.trim());

describe("one change under each mode", () => {
  // name, before, after, what backward refuses, what forward refuses
  const changes: [string, RecordSchema, RecordSchema, string[], string[]][] = [
    ["nothing", record(id, amount), record(id, amount), [], []],
    ["another order of fields", record(id, amount), record(amount, id), [], []],
    ["a field with a default added", record(id), record(id, note), [], []],
    ["a field without a default added", record(id), record(id, amount), ["field_without_default amount"], []],
    ["a field with a default removed", record(id, note), record(id), [], []],
    ["a field without a default removed", record(id, amount), record(id), [], ["field_removed amount"]],
    [
      "a field renamed",
      record(id, amount),
      record(id, { ...amount, name: "total" }),
      ["field_without_default total"],
      ["field_removed amount"],
    ],
    [
      "a string become a double",
      record({ name: "x", type: "string" }),
      record({ name: "x", type: "double" }),
      ["type_changed x"],
      ["type_changed x"],
    ],
    [
      "a long become a double",
      record({ name: "x", type: "long" }),
      record({ name: "x", type: "double" }),
      [],
      ["type_changed x"],
    ],
    [
      "a double become a long",
      record({ name: "x", type: "double" }),
      record({ name: "x", type: "long" }),
      ["type_changed x"],
      [],
    ],
    [
      "a field become nullable",
      record({ name: "x", type: "string" }),
      record({ name: "x", type: ["null", "string"], default: null }),
      [],
      ["type_changed x"],
    ],
    [
      "a nullable field become required",
      record({ name: "x", type: ["null", "string"], default: null }),
      record({ name: "x", type: "string" }),
      ["type_changed x"],
      [],
    ],
    ["a long become a time", record(plain), record(time), ["type_changed time"], ["type_changed time"]],
    [
      "another map",
      record({ name: "m", type: { type: "map", values: "string" } }),
      record({ name: "m", type: { type: "map", values: "long" } }),
      ["type_changed m"],
      ["type_changed m"],
    ],
    ["another name", record(id), { ...record(id), name: "Fact" }, ["record_renamed"], ["record_renamed"]],
    [
      "another default",
      record(note),
      record({ ...note, type: ["string", "null"], default: "" }),
      ["default_changed note"],
      ["default_changed note"],
    ],
  ];

  test.each(changes)("%s", (_, before, after, backward, forward) => {
    expect(codes(after, before, "none")).toEqual([]);
    expect(codes(after, before, "backward")).toEqual(backward);
    expect(codes(after, before, "forward")).toEqual(forward);
    expect(new Set(codes(after, before, "full"))).toEqual(new Set([...backward, ...forward]));
  });

  // avsc's own resolver is the second opinion on what can be read. It ignores logical types, as the specification lets it,
  // and record names alone decide nothing there; those two rows and defaults are rules of ours.
  const ours = ["a long become a time", "another name", "another default"];
  test.each(changes.filter(([name]) => !ours.includes(name)))(
    "%s: avsc agrees",
    (_, before, after, backward, forward) => {
      const readable = (reader: RecordSchema, writer: RecordSchema) => {
        try {
          parseSchema(reader).createResolver(parseSchema(writer));
          return true;
        } catch {
          return false;
        }
      };
      expect(readable(after, before)).toBe(backward.length === 0);
      expect(readable(before, after)).toBe(forward.length === 0);
    },
  );
});

describe("transitive modes", () => {
  // amount was dropped in revision 2 by mistake; revision 3 brings it back with a default and another type.
  const history = [record(id, { name: "amount", type: "double", default: 0 }), record(id)];
  const returned = record(id, { name: "amount", type: "string", default: "" });

  test.each(["backward", "forward", "full"] as const)("%s sees only the last revision", (mode) => {
    expect(incompatibilities(returned, shippedAs(...history), mode)).toEqual([]);
  });

  test.each(["backward-transitive", "forward-transitive", "full-transitive"] as const)(
    "%s sees the first too",
    (mode) => {
      const found = incompatibilities(returned, shippedAs(...history), mode);
      expect(found.map(({ code, field }) => [code, field])).toContainEqual(["type_changed", "amount"]);
    },
  );

  test("the grid above holds every mode there is", () => {
    expect(COMPATIBILITY_MODES).toHaveLength(7);
  });
});

describe("messages", () => {
  test.each([
    [
      record(id, amount),
      record(id),
      "backward",
      "field amount has no default, so events of revision 1, which lack it, could not be read",
      'give amount a default, as "type": ["null", …], "default": null',
    ],
    [
      record(id),
      record(id, amount),
      "forward",
      "field amount is gone, and readers of revision 1 have no default for it",
      "keep amount; stop filling it only if it has a default",
    ],
    [
      record(time),
      record(plain),
      "backward",
      "field time is long (timestamp-millis), which cannot read the long of revision 1",
      "keep time as it is and add a field of another name, or make a contract of the next major version",
    ],
    [
      record({ name: "x", type: ["null", "string"], default: null }),
      record({ name: "x", type: "string" }),
      "forward",
      "field x is null or string, which readers of revision 1 cannot read as string",
      "keep x as it is and add a field of another name, or make a contract of the next major version",
    ],
    [
      record({ name: "x", type: "string", default: "b" }),
      record({ name: "x", type: "string", default: "a" }),
      "full",
      'the default of x was "a" in revision 1 and is "b", so a replay of older events would give other values',
      'keep the default "a"; producers that mean "b" send it',
    ],
  ] as const)("%#", (current, before, mode, message, repair) => {
    const [first] = incompatibilities(current, shippedAs(before), mode);
    expect([first.message, first.repair]).toEqual([message, repair]);
  });

  test("one mistake is told once, not once a revision", () => {
    const found = incompatibilities(
      record(id, amount),
      shippedAs(record(id), record(id), record(id)),
      "full-transitive",
    );
    expect(found).toHaveLength(1);
  });
});
