/** Objects of bulk snapshots: golden bytes, all that goes in comes out, and each damage has its name. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type BulkHeader,
  BulkWriter,
  encodeRecord,
  readBulk,
  readBulkHeader,
} from "../../../adapters/snapshot/bulk-format.ts";
import { decodeManifest, groupOf, stateOf } from "../../../adapters/snapshot/bulk-manifest.ts";
import type { WholeHash } from "../../../adapters/valkey/bucket-walk.ts";
import { runs } from "../../support/runs.ts";

const GOLDEN = join(import.meta.dirname, "..", "..", "fixtures", "golden", "bulk-snapshot-v1.frsb");
const header: BulkHeader = {
  bucket: 17,
  epoch: 3,
  round: "20260105T221700000Z-e3-0a1b2c3d",
  layout: "0123456789abcdef",
  taken_ms: 1_767_651_420_000,
};
const hashes: WholeHash[] = [
  {
    key: "{17}7:default4:card8:payments6:card_1",
    rev: 1_767_651_420_000_123,
    expiresMs: 1_770_243_420_000,
    items: [Buffer.from("m"), Buffer.from([1, 0, 255]), Buffer.from([1, 0, 28, 17, 5]), Buffer.alloc(0)],
  },
  { key: "{17}1:ä4:card2:c2", rev: null, expiresMs: null, items: [Buffer.from("risk"), Buffer.alloc(3_000, "x")] },
];

function objectOf(records: readonly WholeHash[]): Buffer {
  const writer = new BulkWriter(header);
  for (const record of records) writer.add(encodeRecord(record));
  return writer.finish();
}
const read = (bytes: Buffer): WholeHash[] =>
  [...readBulk(bytes)].flat().map(({ key, rev, expiresMs, fields }) => {
    const items: Buffer[] = [];
    for (let at = 0; at < fields.length; ) {
      const value = at + 1 + fields[at];
      const end = value + 4 + fields.readUInt32LE(value);
      items.push(fields.subarray(at + 1, value), fields.subarray(value + 4, end));
      at = end;
    }
    return { key, rev, expiresMs, items };
  });
const failure = (bytes: Buffer): string => {
  try {
    read(bytes);
    return "none";
  } catch (error) {
    return `${(error as { code: string }).code}: ${(error as Error).message}`;
  }
};

describe("a bucket's object", () => {
  it("of version 1 reads as it did when it was written", () => {
    const bytes = readFileSync(GOLDEN);
    expect(readBulkHeader(bytes).header).toEqual(header);
    expect(read(bytes)).toEqual(hashes);
  });

  it("gives back whatever was put in, in frames of a bounded size", () => {
    const bytes = fc.uint8Array({ maxLength: 300 }).map((raw) => Buffer.from(raw));
    const hash = fc.record({
      key: fc.string({ unit: "binary", minLength: 1, maxLength: 80 }),
      rev: fc.option(fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER })),
      expiresMs: fc.option(fc.integer({ min: 0, max: 4_102_444_800_000 })),
      items: fc
        .array(
          fc.tuple(
            bytes.map((one) => one.subarray(0, 255)),
            bytes,
          ),
          { maxLength: 8 },
        )
        .map((pairs) => pairs.flat()),
    });
    fc.assert(
      fc.property(fc.array(hash, { maxLength: 20 }), (given) => {
        expect(read(objectOf(given))).toEqual(given);
      }),
      { numRuns: runs(50), seed: 7 },
    );
    const large = Array.from({ length: 5 }, (_, i) => ({
      ...hashes[1],
      key: `k${i}`,
      items: [Buffer.from("f"), Buffer.alloc(700_000, i)],
    }));
    expect([...readBulk(objectOf(large))].map((frame) => frame.length)).toEqual([1, 1, 1, 1, 1]);
    expect(read(objectOf(large))).toEqual(large);
  });

  it("that is damaged says how", () => {
    const whole = objectOf(hashes);
    const withByte = (at: number, value: number) => {
      const other = Buffer.from(whole);
      other[at] = value;
      return other;
    };
    for (let length = 0; length < whole.length; length++)
      expect(failure(whole.subarray(0, length))).toMatch(
        /^snapshot_truncated: snapshot object ends inside (its header|a frame)$/,
      );
    expect(failure(Buffer.concat([whole, Buffer.from("xy")]))).toBe(
      "snapshot_trailing: snapshot object has 2 bytes after its end",
    );
    expect(failure(withByte(4, 2))).toBe("snapshot_version: snapshot object has version 2, this release reads 1");
    expect(failure(withByte(0, 0))).toBe("snapshot_corrupt: snapshot object: it does not begin as one");
    expect(failure(withByte(12, whole[12] ^ 1))).toBe(
      "snapshot_corrupt: snapshot object: the header's checksum is another one",
    );
    expect(failure(withByte(whole.length - 1, 9))).toMatch(
      /^snapshot_corrupt: snapshot object: it has 2 records and should have \d+$/,
    );
    // Whatever byte it is, nothing wrong is read in silence.
    for (let at = 0; at < whole.length; at++) expect(failure(withByte(at, whole[at] ^ 0x55))).not.toBe("none");
  });
});

describe("a manifest", () => {
  const objects = Array.from({ length: 1024 }, (_, bucket) => ({
    bucket,
    key: bucket === 5 ? "rounds/r/5" : null,
    bytes: 1,
    records: bucket === 5 ? 1 : 0,
    state: "",
  }));
  const manifest = { version: 1, round: "r", objects };
  const decode = (value: unknown) => () => decodeManifest(Buffer.from(JSON.stringify(value)), "r");

  it("names what every bucket holds, or is none", () => {
    expect(decode(manifest)().objects).toHaveLength(1024);
    expect(decode({ ...manifest, objects: objects.slice(1) })).toThrow(
      "snapshot manifest r is damaged: it names objects for 0 of 1024 buckets",
    );
    expect(decode({ ...manifest, objects: objects.with(5, { ...objects[5], key: null }) })).toThrow(
      "it names objects for 1023 of 1024 buckets",
    );
    expect(decode({ version: 1, round: "r" })).toThrow("it names objects for 0 of 1024 buckets");
    expect(decode({ ...manifest, version: 2 })).toThrow("r has version 2, this release reads 1");
    expect(() => decodeManifest(Buffer.from('{"version":1'), "r")).toThrow(
      "snapshot manifest r is damaged: it is no JSON",
    );
  });

  it("keeps a bucket's state by its keys and revs, in any order, and none that lacks a rev", () => {
    const [a, b] = [
      { key: "a", rev: 1 },
      { key: "b", rev: 2 },
    ];
    expect(stateOf([a, b])).toBe(stateOf([b, a]));
    expect(stateOf([a, b])).not.toBe(stateOf([a, { ...b, rev: 3 }]));
    expect(stateOf([a])).not.toBe(stateOf([a, b]));
    const unknown = [a, { ...b, rev: null }];
    expect(stateOf(unknown)).not.toBe(stateOf(unknown));
  });

  it("says controls once, and which buckets differ", () => {
    const controls = Array.from({ length: 1024 }, (_, bucket) => (bucket === 9 ? "ff" : "00"));
    expect(groupOf({ entity: "card", stream: "payments", base_ms: 60_000 }, controls)).toEqual({
      ...{ entity: "card", stream: "payments", base_ms: 60_000, control: "00" },
      others: { 9: "ff" },
    });
  });
});
