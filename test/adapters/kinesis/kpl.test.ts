import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { deaggregate, KplPacker } from "../../../adapters/kinesis/kpl.ts";
import { RecordError } from "../../../core/errors.ts";
import { runs } from "../../support/runs.ts";
import { libraryAggregate, libraryDeaggregate, type UserRecord } from "./aws-kinesis-agg.ts";

const userRecord = fc.record({
  partitionKey: fc.oneof(
    fc.constantFrom("card_1", "card_2"),
    fc.string({ unit: "grapheme", minLength: 1, maxLength: 30 }),
  ),
  data: fc.uint8Array({ minLength: 1, maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
});
const records = fc.array(userRecord, { minLength: 1, maxLength: 200 });
const run = { seed: 20261121, numRuns: runs(200) };

function pack(all: readonly UserRecord[], maxBytes = 1_000_000): Buffer[] {
  const packer = new KplPacker(maxBytes);
  const packed: Buffer[] = [];
  for (const { partitionKey, data } of all) {
    if (packer.add(partitionKey, data)) continue;
    packed.push(packer.take());
    packer.add(partitionKey, data);
  }
  packed.push(packer.take());
  return packed;
}

describe("against aws-kinesis-agg", () => {
  test("what we pack, it unpacks, with keys and order", () => {
    fc.assert(
      fc.property(records, (all) => {
        expect(pack(all).flatMap(libraryDeaggregate)).toEqual(all);
      }),
      run,
    );
  });

  test("what it packs, we unpack", () => {
    // It forgets keys named as members of every object, and so do we in this test: `toString` is a valid key for us.
    const plain = records.filter((all) => all.every(({ partitionKey }) => !(partitionKey in {})));
    fc.assert(
      fc.property(plain, (all) => {
        expect(deaggregate(libraryAggregate(all))).toEqual(all.map((r) => r.data));
      }),
      run,
    );
  });
});

test("golden bytes decode", () => {
  const golden = JSON.parse(readFileSync(new URL("../../fixtures/golden/kpl.json", import.meta.url), "utf8"));
  const [...packed] = golden.records.map((r: { data: string }) => r.data);
  expect(deaggregate(Buffer.from(golden.hex, "hex"))?.map((data) => data.toString("utf8"))).toEqual(packed);
});

describe("limits", () => {
  test("no packed record is larger than asked, and all are there", () => {
    fc.assert(
      fc.property(records, fc.integer({ min: 400, max: 5_000 }), (all, maxBytes) => {
        const packed = pack(all, maxBytes);
        for (const record of packed) expect(record.length).toBeLessThanOrEqual(maxBytes);
        expect(packed.flatMap((record) => deaggregate(record) ?? [])).toEqual(all.map((r) => r.data));
      }),
      run,
    );
  });

  test("a record that would not fit an empty packer is refused", () => {
    const packer = new KplPacker(400);
    expect(() => packer.add("key", Buffer.alloc(400))).toThrow("400 bytes do not fit a record of 400");
    expect(packer.count).toBe(0);
    expect(packer.add("key", Buffer.alloc(300))).toBe(true);
  });
});

describe("deaggregate", () => {
  const packed = pack([
    { partitionKey: "a", data: Buffer.from("first") },
    { partitionKey: "b", data: Buffer.from("second") },
  ])[0];

  test("gives views of the record's own bytes", () => {
    for (const view of deaggregate(packed) ?? []) expect(view.buffer).toBe(packed.buffer);
  });

  test("leaves a record without the magic alone", () => {
    expect(deaggregate(Buffer.from("c301", "hex"))).toBeNull();
    expect(deaggregate(Buffer.alloc(0))).toBeNull();
  });

  test("every truncation is corrupt, never a shorter list", () => {
    for (let length = 4; length < packed.length; length++) {
      expect(() => deaggregate(packed.subarray(0, length)), `${length} bytes`).toThrow(/wrong checksum|ends before/);
    }
  });

  test("every flipped bit after the magic is caught by the checksum", () => {
    for (let bit = 32; bit < packed.length * 8; bit++) {
      const broken = Buffer.from(packed);
      broken[bit >> 3] ^= 1 << (bit & 7);
      expect(() => deaggregate(broken)).toThrow("a KPL-aggregated record has a wrong checksum");
    }
  });

  const sealed = (body: Buffer): Buffer =>
    Buffer.concat([Buffer.from("f3899ac2", "hex"), body, createHash("md5").update(body).digest()]);

  test("any body under a right checksum gives records or a RecordError", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (body) => {
        try {
          deaggregate(sealed(Buffer.from(body)));
        } catch (error) {
          expect(error).toBeInstanceOf(RecordError);
          expect((error as RecordError).code).toBe("kpl_corrupt");
        }
      }),
      { seed: 20261121, numRuns: runs(5_000) },
    );
  });

  test("skips fields of later versions", () => {
    // Field 9 as a varint, 10 as 64 bits, 11 as 32 bits, then one record with data "x".
    const body = Buffer.from(
      "4805" + "51" + "00".repeat(8) + "5d" + "00".repeat(4) + "1a05" + "0800" + "1a0178",
      "hex",
    );
    expect(deaggregate(sealed(body))?.map(String)).toEqual(["x"]);
  });

  test("a record without data is corrupt", () => {
    expect(() => deaggregate(sealed(Buffer.from("1a020800", "hex")))).toThrow("has a user record without data");
  });
});
