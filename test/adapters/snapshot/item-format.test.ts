import { readFileSync } from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  decodeSnapshot,
  encodeSnapshot,
  layoutOf,
  type SnapshotContent,
} from "../../../adapters/snapshot/item-format.ts";
import { plan } from "../../support/fixture-plan.ts";

const bytes = (max: number) => fc.uint8Array({ maxLength: max }).map((array) => Buffer.from(array));
/** Tiles, objects and meta: nothing that is for applies alone. */
const field = fc.oneof(
  fc.constant(Buffer.from("m")),
  fc.uint8Array({ minLength: 5, maxLength: 5 }).map((array) => Buffer.from([array[0] % 16, ...array.subarray(1)])),
  fc.uint8Array({ minLength: 6, maxLength: 6 }).map((array) => Buffer.from([0x73, ...array])),
);
const content = fc.tuple(fc.boolean(), bytes(60), fc.array(fc.tuple(field, bytes(400)), { maxLength: 20 })).map(
  ([isPushed, control, fields]): SnapshotContent => ({
    layout: isPushed ? null : "00ff00ff00ff00ff",
    control: isPushed ? null : control,
    items: fields.flat(),
  }),
);

test("what is encoded is decoded, whatever it is", () => {
  fc.assert(
    fc.property(content, (given) => {
      expect(decodeSnapshot(encodeSnapshot(given))).toEqual(given);
    }),
  );
});

test("bytes that were altered or cut off anywhere are no snapshot", () => {
  fc.assert(
    fc.property(content, fc.nat(), fc.integer({ min: 1, max: 255 }), (given, at, change) => {
      const encoded = encodeSnapshot(given);
      const place = at % encoded.length;
      const altered = Buffer.from(encoded);
      altered[place] ^= change;
      const found = decodeSnapshot(altered);
      // Of the codec's byte only one bit is looked at, and deflate has bits that mean nothing.
      if (found !== null) expect(found).toEqual(given);
      expect(decodeSnapshot(encoded.subarray(0, place))).toBeNull();
    }),
  );
});

test("identities, repaired ones and the generation stay behind", () => {
  const left = [
    Buffer.from([0x69, 0, 0, 0, 1]),
    Buffer.from([0x69, 0, 0, 0, 1, 7]),
    Buffer.from("g"),
    Buffer.from("R0001"),
  ];
  const items = [...left.flatMap((name) => [name, Buffer.from("x")]), Buffer.from("m"), Buffer.from("y")];
  const found = decodeSnapshot(encodeSnapshot({ layout: "00ff00ff00ff00ff", control: Buffer.alloc(4), items }));
  expect(found?.items.map(String)).toEqual(["m", "y"]);
});

test("another retention, level or slot is another layout; another order of what feeds the slots is not", () => {
  const [group] = plan.groups;
  const [level, ...levels] = group.levels;
  const [slot, ...slots] = group.slots;
  const changed = [
    { ...group, levels: [{ ...level, retainMs: level.retainMs + 1 }, ...levels] },
    { ...group, levels: group.levels.slice(0, -1) },
    { ...group, slots: [{ ...slot, levels: [0] }, ...slots] },
    { ...group, slots },
  ].map(layoutOf);
  expect(new Set([layoutOf(group), ...changed]).size).toBe(5);
  expect(layoutOf({ ...group, slots: [{ ...slot, channel: 9 }, ...slots] })).toBe(layoutOf(group));
});

test("bytes of version 1 are read for ever", () => {
  const golden = JSON.parse(readFileSync(new URL("../../fixtures/golden/snapshot-v1.json", import.meta.url), "utf8"));
  expect(golden).toHaveLength(3);
  for (const { content: given, bytes: encoded } of golden) {
    const found = decodeSnapshot(Buffer.from(encoded, "hex"))!;
    const shown = { ...found, control: found.control?.toString("hex") ?? null };
    expect({ ...shown, items: found.items.map((item) => item.toString("hex")) }).toEqual(given);
  }
});
