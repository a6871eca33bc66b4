/** What a schema refers to is followed, each part once, and to an end. */
import { expect, test } from "vitest";
import { type RegisteredSchema, whole } from "../../../adapters/schema-registry/references.ts";

type Parts = Readonly<Record<string, RegisteredSchema | "unreadable">>;
const type = (name: string, uses: readonly string[] = []): string =>
  JSON.stringify({ type: "record", name, fields: uses.map((use, i) => ({ name: `f${i}`, type: use })) });
/** A part is the version 1 of a subject with the name of its type. */
const part = (name: string, ...uses: string[]): RegisteredSchema => ({
  schema: type(name, uses),
  references: uses.map((subject) => ({ subject, version: 1 })),
});

async function follow(root: RegisteredSchema, parts: Parts) {
  const asked: string[] = [];
  const found = await whole(root, async (subject, version) => {
    asked.push(`${subject}/${version}`);
    return parts[subject] ?? null;
  });
  return { found, asked };
}

test("a schema that refers to none is taken as it is, without a question", async () => {
  expect(await follow({ schema: "not even JSON", references: [] }, {})).toEqual({
    found: { text: "not even JSON" },
    asked: [],
  });
});

test("each part is asked for once, and put before what uses it", async () => {
  const parts = { B: part("B", "D"), C: part("C", "D", "B"), D: part("D") };
  const { found, asked } = await follow(part("A", "B", "C"), parts);
  expect(asked).toEqual(["B/1", "D/1", "C/1"]);
  const [b, c] = JSON.parse(found!.text!).fields;
  expect(b.type.fields[0].type).toEqual({ ...JSON.parse(type("D")), namespace: "" });
  expect(c.type.fields.map((field: any) => field.type)).toEqual([".D", ".B"]);
});

test("a part that the registry lacks leaves the schema not there, whatever else is wrong with it", async () => {
  expect((await follow(part("A", "B"), { B: part("B", "gone") })).found).toBe(null);
});

test.each<[string, RegisteredSchema, Parts]>([
  ["refers to itself", part("A", "A"), { A: part("A", "A") }],
  ["goes in a circle", part("A", "B"), { B: part("B", "C"), C: part("C", "B") }],
  ["has a part that is not Avro", part("A", "B"), { B: "unreadable" }],
  ["has a part that is no JSON", part("A", "B"), { B: { schema: "{", references: [] } }],
  [
    "has two parts of one name",
    part("A", "B", "C"),
    { B: part("B"), C: { schema: type("B", ["int"]), references: [] } },
  ],
  ["has parts beyond 512 KiB", part("A", "B"), { B: { schema: `"${"x".repeat(600_000)}"`, references: [] } }],
])("one that %s cannot be read", async (_, root, parts) => {
  expect((await follow(root, parts)).found).toEqual({ text: null });
});

test("more than 64 parts are not followed, however they hang together", async () => {
  const chain = (length: number) =>
    Object.fromEntries(
      Array.from({ length }, (_, i) => [`P${i}`, i + 1 < length ? part(`P${i}`, `P${i + 1}`) : part(`P${i}`)]),
    );
  const most = await follow(part("A", "P0"), chain(64));
  expect([most.asked.length, JSON.parse(most.found!.text!).name]).toEqual([64, "A"]);
  const over = await follow(part("A", "P0"), chain(65));
  expect([over.asked.length, over.found]).toEqual([64, { text: null }]);
});

test("a registry that does not answer for a part leaves everything open", async () => {
  const away = () => Promise.reject(new Error("away"));
  await expect(whole(part("A", "B"), away)).rejects.toThrow("away");
});
