/** A schema out of several writes and reads the bytes that the several would. */
import avro from "avsc";
import { describe, expect, test } from "vitest";
import { selfContained } from "../../../adapters/avro/self-contained.ts";

const record = (name: string, fields: Record<string, unknown>, namespace?: string) => ({
  ...{ type: "record", name },
  ...(namespace === undefined ? {} : { namespace }),
  fields: Object.entries(fields).map(([field, type]) => ({ name: field, type })),
});
const together = (schema: unknown, ...others: unknown[]): any =>
  JSON.parse(
    selfContained(
      JSON.stringify(schema),
      others.map((other) => JSON.stringify(other)),
    ),
  );
/** What it is by Avro's canonical form, in which every name is told in full. */
const canonical = (schema: any) => avro.Type.forSchema(schema).schema() as any;

const money = record("Money", { minor: "long", currency: "string" }, "shop");
const address = record("Address", { street: "string", paid: ["null", "Money"] }, "shop");

test("one that uses no other is what it was", () => {
  for (const schema of [
    "string",
    { type: "array", items: "long" },
    ["null", "int"],
    { type: "long", logicalType: "x" },
  ]) {
    expect(together(schema)).toEqual(schema);
  }
  const alone = record("Payment", { amount: "double" }, "shop");
  expect(together(alone)).toEqual(alone);
});

test("each type is told in full where it comes first, and by its full name after that", () => {
  const payment = record("Payment", { amount: "Money", to: "shop.Address", fee: "shop.Money" }, "shop");
  const whole = together(payment, money, address);
  expect(whole.fields.map(({ type }: any) => type)).toEqual([
    money,
    record("Address", { street: "string", paid: ["null", "shop.Money"] }, "shop"),
    "shop.Money",
  ]);
  const type = avro.Type.forSchema(whole, { wrapUnions: true } as object);
  const value = {
    amount: { minor: 5, currency: "EUR" },
    to: { street: "s", paid: { "shop.Money": { minor: 7, currency: "SEK" } } },
    fee: { minor: 1, currency: "EUR" },
  };
  expect(JSON.parse(JSON.stringify(type.fromBuffer(type.toBuffer(value))))).toEqual(value);
});

test("a type may be used that lies within another's", () => {
  const order = record("Order", { lines: { type: "array", items: record("Line", { sku: "string" }) } }, "shop");
  expect(together(record("Pick", { line: "shop.Line", order: "shop.Order" }), order).fields).toEqual([
    { name: "line", type: record("Line", { sku: "string" }, "shop") },
    { name: "order", type: { ...record("Order", { lines: { type: "array", items: "shop.Line" } }, "shop") } },
  ]);
});

test("names without a dot are of the namespace around them, else of none", () => {
  const bare = record("Tag", { text: "string" });
  const near = record("Tag", { text: "long" }, "shop");
  const used = record("Item", { first: "Tag", second: { type: "map", values: "Tag" } }, "shop");
  const of = (...others: object[]) => canonical(together(used, ...others)).fields.map(({ type }: any) => type);
  expect(of(bare)).toEqual([canonical(bare), { type: "map", values: "Tag" }]);
  expect(of(bare, near)).toEqual([canonical(near), { type: "map", values: "shop.Tag" }]);
});

test("enums, fixed types, types of themselves, and a root that is but a name or a union", () => {
  const kind = { type: "enum", name: "Kind", namespace: "shop", symbols: ["a", "b"], default: "a" };
  const mac = { type: "fixed", name: "shop.Mac", size: 6 };
  const tree = record("Tree", { kind: "Kind", of: { type: "array", items: "Tree" }, mac: "Mac" }, "shop");
  const whole = together("shop.Tree", kind, mac, tree);
  expect(canonical(whole)).toEqual(
    canonical(record("Tree", { kind, of: { type: "array", items: "Tree" }, mac }, "shop")),
  );
  expect(canonical(together(["null", "shop.Kind"], kind))[1]).toEqual(canonical(kind));
});

describe("it is refused", () => {
  test("when two types have one name", () => {
    const other = record("Money", { minor: "long" }, "shop");
    expect(() => together("shop.Money", money, other)).toThrow("shop.Money is defined twice, and not as the same");
    expect(() => together(record("Money", { of: "shop.Address" }, "shop"), money, address)).toThrow("defined twice");
    expect(canonical(together("shop.Money", money, money))).toEqual(canonical(money));
  });

  test("when a part is no JSON", () => {
    expect(() => selfContained("{", [])).toThrow(SyntaxError);
    expect(() => selfContained('"a.B"', ["{"])).toThrow(SyntaxError);
  });
});

test("many uses of one type make it no longer than its parts", () => {
  const levels = Array.from({ length: 60 }, (_, i) =>
    record(`L${i}`, i === 0 ? { x: "int" } : { a: `L${i - 1}`, b: `L${i - 1}`, c: `L${i - 1}` }, "deep"),
  );
  const text = selfContained(
    '"deep.L59"',
    levels.map((level) => JSON.stringify(level)),
  );
  expect(text.length).toBeLessThan(2 * JSON.stringify(levels).length);
  expect(canonical(JSON.parse(text)).name).toBe("deep.L59");
});
